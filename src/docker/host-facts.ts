/**
 * What a request may count on here. What it may not is discarded with a warning, which is part of the answer to
 * `create` and `update`, or refused where docker refuses.
 */
import { ownRuntimeNames } from '#engine/runtime/runtimes.ts';
import type { CgroupFeature } from '#os/cgroups.ts';
import { readIfExists } from '#os/files.ts';
import type { DockerParts } from './context.ts';

export interface HostFacts {
  hasController(name: string): boolean;
  offers(feature: CgroupFeature): boolean;
  hasSwapLimit: boolean;
  hasAppArmor: boolean;
  hasSeLinux: boolean;
  hasRuntime(name: string): boolean;
  /** Containers get a user namespace of the engine's. */
  hasUserMapping: boolean;
  processors: number;
  /** What may be asked for in a cpuset, as lists of the kernel's (`0-3,8`); undefined: anything. */
  online: { cpus: string | undefined; mems: string | undefined };
  warn(text: string): void;
}

/** A host that has everything, for those who only want to know what a request means. */
export const anyHost: HostFacts = {
  hasController: () => true,
  offers: () => true,
  hasSwapLimit: true,
  hasAppArmor: true,
  hasSeLinux: true,
  hasRuntime: (name) => ownRuntimeNames.includes(name),
  hasUserMapping: false,
  processors: Infinity,
  online: { cpus: undefined, mems: undefined },
  warn: () => undefined,
};

export function hostFacts(parts: DockerParts, processors: number, warnings: string[]): HostFacts {
  const { cgroups } = parts.engine.context.os;
  return {
    hasController: (name) => cgroups.controllers.includes(name),
    offers: (feature) => cgroups.offers(feature),
    hasSwapLimit:
      cgroups.controllers.includes('memory') &&
      (cgroups.mode === 'v2' || readIfExists('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes') !== undefined),
    hasAppArmor: parts.engine.context.apparmorDefault !== undefined,
    hasSeLinux: readIfExists('/sys/fs/selinux/enforce') !== undefined,
    hasRuntime: (name) => parts.engine.context.runtimes.has(name),
    hasUserMapping: parts.engine.context.userMapping !== undefined,
    processors,
    online: {
      cpus: readIfExists('/sys/devices/system/cpu/online')?.trim(),
      mems: readIfExists('/sys/devices/system/node/online')?.trim(),
    },
    warn: (text) => {
      if (!warnings.includes(text)) warnings.push(text);
    },
  };
}
