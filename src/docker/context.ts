/** What the resources of the Engine API stand on. */
import type { Owner } from '#engine/engine.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { Container } from '#engine/container.ts';
import { ApiError } from '#base/errors.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { DaemonSettings } from './settings.ts';

export interface DockerParts {
  engine: DockerEngine;
  clock: Clock;
  random: Random;
  /** Shown by `version` and `info`. */
  platform: { version: string; dataDir: string };
  /** As they are now: a reload changes them. */
  settings(): DaemonSettings;
}

/** Containers of Pods are guests here: shown, never changed. */
export function ownContainer(parts: DockerParts, reference: string, verb: string): Container {
  const container = parts.engine.table.get(reference);
  if (container.record.spec.owner !== 'docker')
    throw new ApiError(
      'Conflict',
      `cannot ${verb} container ${container.name}: it belongs to the ${container.record.spec.owner === 'kubelet' ? 'cluster' : container.record.spec.owner} and is managed there`,
    );
  return container;
}

/** What plugins and steps of builds run in is the engine's own: neither listed nor told of in events. */
export function isListed(owner: Owner): boolean {
  return owner !== 'plugin' && owner !== 'build';
}

export function listedContainers(parts: DockerParts): Container[] {
  return parts.engine.table.list().filter(({ record }) => isListed(record.spec.owner));
}

export function isoTime(ms: number): string {
  return ms === 0 ? '0001-01-01T00:00:00Z' : new Date(ms).toISOString().replace(/\.(\d{3})Z$/, '.$1000000Z');
}
