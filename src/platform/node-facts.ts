/** What a node's machine is, as its kubelet tells it. */
import { statfsSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { podProcessesMaxPercent, podsPerNodeDefault } from '#kubelet/limits.ts';
import { amountsOf, type NodeFacts } from '#kubelet/node-status.ts';
import { isIpv4 } from '#base/ip.ts';
import { machineAnnotations } from '#base/node-identity.ts';
import type { Underlay } from '#net/underlay.ts';
import { readIfExists } from '#os/files.ts';
import type { Instance } from './instance.ts';
import { kubeletPort, type NodeParts } from './node-parts.ts';
import { kubernetesVersion, programVersion } from './version.ts';

export function readNodeFacts(parts: NodeParts, dataDir: string, appArmor: boolean): NodeFacts {
  const { instance, node, underlay } = parts;
  const disk = statfsSync(dataDir);
  const text = (path: string): string => (readIfExists(path) ?? '').trim();
  const osRelease = readIfExists('/etc/os-release') ?? '';
  return {
    appArmor,
    name: node.name,
    hostname: node.name,
    hostIp: node.address,
    kubeletPort,
    ...amountsOf({
      cpus: cpus().length,
      memoryBytes: totalmem(),
      ephemeralBytes: disk.blocks * disk.bsize,
      podsMax: instance.maxPods ?? podsPerNodeDefault,
    }),
    architecture: process.arch,
    kernelVersion: release(),
    osImage: /^PRETTY_NAME="?([^"\n]*)"?/m.exec(osRelease)?.[1] ?? 'Linux',
    machineId: text('/etc/machine-id'),
    bootId: text('/proc/sys/kernel/random/boot_id'),
    systemUuid: text('/sys/class/dmi/id/product_uuid') || text('/etc/machine-id'),
    version: kubernetesVersion,
    runtimeVersion: `tiphys://${programVersion()}`,
    podCidr: node.podRange,
    labels: { 'node.kubernetes.io/instance-type': 'tiphys' },
    annotations: underlay === undefined ? {} : { [machineAnnotations.address]: machineAddress(instance, underlay) },
  };
}

/** Where other machines reach this one: what was said, unless it is a name, which stands for the server alone. */
function machineAddress({ address }: Pick<Instance, 'address'>, underlay: Underlay): string {
  return address !== undefined && isIpv4(address) ? address : underlay.address;
}

/**
 * Each Pod may have as many processes as a kubelet gives it unasked (no bound), all of them together leave some to the
 * node.
 */
export function podProcessesMax(): number {
  const most = Math.min(
    ...['pid_max', 'threads-max'].map((name) => Number(readIfExists(`/proc/sys/kernel/${name}`) ?? 32_768)),
  );
  return Math.floor((most * podProcessesMaxPercent) / 100);
}
