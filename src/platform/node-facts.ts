/** What a node's machine is, as its kubelet tells it. */
import { statfsSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { podProcessesMaxPercent, podsPerNodeDefault } from '#kubelet/limits.ts';
import { amountsOf, type NodeFacts } from '#kubelet/node-status.ts';
import { readIfExists } from '#os/files.ts';
import type { Instance, NodePlan } from './instance.ts';
import { kubeletPort } from './node-parts.ts';
import { kubernetesVersion, tiphysVersion } from './version.ts';

export function readNodeFacts(instance: Instance, node: NodePlan, dataDir: string, appArmor: boolean): NodeFacts {
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
    runtimeVersion: `tiphys://${tiphysVersion()}`,
    podCidr: node.podRange,
    labels: {
      'node.kubernetes.io/instance-type': 'tiphys',
      ...(node.number === 1 ? { 'node-role.kubernetes.io/control-plane': '' } : {}),
    },
  };
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
