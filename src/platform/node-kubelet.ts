/** The kubelet of a node process, and its HTTPS server. */
import { mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Client } from '#client/client.ts';
import { kinds } from '#client/kinds.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import { kubeletPaths, runKubelet, type Kubelet } from '#kubelet/kubelet.ts';
import { podProcessesMaxPercent, podsPerNodeDefault } from '#kubelet/limits.ts';
import type { NodeFacts } from '#kubelet/node-status.ts';
import { startKubeletServer } from '#kubelet/server.ts';
import { exposeMetrics } from '#observe/exposition.ts';
import { cgroupRoot } from '#net/kernel-names.ts';
import { machineBootedAtMs, realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists } from '#os/files.ts';
import { clusterDnsAddress, type Instance, type NodePlan } from './instance.ts';
import { hostResolvConf } from './node-network.ts';
import { kubeletPort, type NodeParts } from './node-parts.ts';
import { files } from './paths.ts';
import { measurePods } from './pod-metrics.ts';
import { kubernetesVersion, tiphysVersion } from './version.ts';

function factsOf(instance: Instance, node: NodePlan, dataDir: string, appArmor: boolean): NodeFacts {
  const disk = statfsSync(dataDir);
  const text = (path: string): string => (readIfExists(path) ?? '').trim();
  const osRelease = readIfExists('/etc/os-release') ?? '';
  return {
    appArmor,
    name: node.name,
    hostname: node.name,
    hostIp: node.address,
    kubeletPort,
    cpus: cpus().length,
    memoryBytes: totalmem(),
    ephemeralBytes: disk.blocks * disk.bsize,
    architecture: process.arch,
    kernelVersion: release(),
    osImage: /^PRETTY_NAME="?([^"\n]*)"?/m.exec(osRelease)?.[1] ?? 'Linux',
    machineId: text('/etc/machine-id'),
    bootId: text('/proc/sys/kernel/random/boot_id'),
    systemUuid: text('/sys/class/dmi/id/product_uuid') || text('/etc/machine-id'),
    version: kubernetesVersion,
    runtimeVersion: `tiphys://${tiphysVersion()}`,
    podCidr: node.podRange,
    podsMax: instance.maxPods ?? podsPerNodeDefault,
    labels: {
      'node.kubernetes.io/instance-type': 'tiphys',
      ...(node.number === 1 ? { 'node-role.kubernetes.io/control-plane': '' } : {}),
    },
  };
}

export interface KubeletDoors {
  client: Client;
  informers: InformerFactory;
  services: Informer;
  engine: DockerEngine;
}

export async function startKubelet(parts: NodeParts, doors: KubeletDoors): Promise<Kubelet> {
  const { instance, node, paths, identity, log, stack } = parts;
  const { engine } = doors;
  const data = join(files.nodeData(paths, node.number), 'kubelet');
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const facts = factsOf(instance, node, data, engine.context.apparmorDefault !== undefined);
  const groups = cgroupRoot(node.instanceId, engine.context.os.cgroups.top);
  engine.context.os.cgroups.create(`${groups}/kubepods`, { pidsMax: podProcessesMax() });
  const kubelet = await runKubelet({
    ...doors,
    mounts: engine.context.os.mounts,
    clock: realClock,
    random: realRandom,
    log: log.child('kubelet'),
    facts,
    cgroupRoot: groups,
    paths: kubeletPaths(data, files.nodeRun(paths, node.number)),
    dns: { clusterDns: clusterDnsAddress(instance), clusterDomain: instance.domain, hostResolvConf: hostResolvConf() },
  });
  stack.use(kubelet);
  const pods = doors.informers.informer(kinds.Pod, { fieldSelector: `spec.nodeName=${node.name}` });
  measurePods(parts.metrics, { name: node.name, pods, engine, clock: realClock });
  const server = await startKubeletServer(
    {
      kubelet,
      engine,
      clock: realClock,
      log: log.child('kubelet'),
      nodeName: node.name,
      allowed: { commonNames: ['kube-apiserver-kubelet-client'], organizations: ['system:masters'] },
      nodeUsage,
      metrics: () => exposeMetrics(parts.metrics),
    },
    node.address,
    kubeletPort,
  );
  stack.defer(() => {
    server.close();
    server.closeAllConnections();
  });
  identity.kubeletServing.subscribe(({ certificatePem, keyPem }) =>
    server.setSecureContext({ cert: certificatePem, key: keyPem, ca: identity.ca() }),
  );
  return kubelet;
}

/**
 * Each Pod may have as many processes as a kubelet gives it unasked (no bound), all of them together leave some to the
 * node.
 */
function podProcessesMax(): number {
  const most = Math.min(
    ...['pid_max', 'threads-max'].map((name) => Number(readIfExists(`/proc/sys/kernel/${name}`) ?? 32_768)),
  );
  return Math.floor((most * podProcessesMaxPercent) / 100);
}

/** Use of processor and memory by the whole machine since boot. */
async function nodeUsage(): Promise<{
  cpuNanoseconds: number;
  memoryWorkingSetBytes: number;
  memoryAvailableBytes: number;
  readAtMs: number;
  bootedAtMs: number;
}> {
  const ticks = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/\s+/).slice(1).map(Number);
  const idle = (ticks[3] ?? 0) + (ticks[4] ?? 0);
  const total = ticks.slice(0, 8).reduce((sum, value) => sum + value, 0);
  const memory = readFileSync('/proc/meminfo', 'utf8');
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(memory)?.[1] ?? 0) * 1024;
  return {
    cpuNanoseconds: (total - idle) * 1e7,
    memoryWorkingSetBytes: kib('MemTotal') - kib('MemAvailable'),
    memoryAvailableBytes: kib('MemAvailable'),
    readAtMs: realClock.now(),
    bootedAtMs: machineBootedAtMs(),
  };
}
