/** The kubelet of a node process, and its HTTPS server. */
import type { Service } from '#api/core.v1.ts';
import { mkdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { Client } from '#client/client.ts';
import { createEventRecorder } from '#client/events.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import { readLinks } from '#engine/stats.ts';
import type { KubeletOptions } from '#kubelet/doors.ts';
import { kubeletConfiguration } from '#kubelet/configuration.ts';
import { runKubelet, type Kubelet } from '#kubelet/kubelet.ts';
import { createLinuxNode, kubeletPaths } from '#kubelet/linux-node.ts';
import { ProbeMetrics } from '#kubelet/probe-metrics.ts';
import { startKubeletServer } from '#kubelet/server.ts';
import type { NodeUsage } from '#kubelet/stats.ts';
import { exposeMetrics } from '#observe/exposition.ts';
import { cgroupRoot } from '#net/kernel-names.ts';
import { machineBootedAtMs, realClock, realRandom } from '#os/clock.real.ts';
import { clusterDnsAddress } from './instance.ts';
import { nodeGraceMs } from './limits.ts';
import { podProcessesMax, readNodeFacts } from './node-facts.ts';
import { hostResolvConf } from './node-network.ts';
import { kubeletPort, type NodeParts } from './node-parts.ts';
import { files } from './paths.ts';
import { measureCertificates, measurePods } from './pod-metrics.ts';

export interface KubeletDoors {
  client: Client;
  informers: InformerFactory;
  services: Informer<Service>;
  engine: DockerEngine;
  isolate: NonNullable<KubeletOptions['isolate']>;
}

export async function startKubelet(parts: NodeParts, doors: KubeletDoors): Promise<Kubelet> {
  const { instance, node, paths, identity, log, stack } = parts;
  const { engine } = doors;
  const data = join(files.nodeData(paths, node.number), 'kubelet');
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const facts = readNodeFacts(parts, data, engine.context.apparmorDefault !== undefined);
  const groups = cgroupRoot(node.instanceId, engine.context.os.cgroups.top);
  engine.context.os.cgroups.create(`${groups}/kubepods`, { pidsMax: podProcessesMax() });
  const common = {
    client: doors.client,
    engine,
    clock: realClock,
    random: realRandom,
    log: log.child('kubelet'),
    facts,
    dns: { clusterDns: clusterDnsAddress(instance), clusterDomain: instance.domain, hostResolvConf: hostResolvConf() },
  };
  const pods = doors.informers.informer(kinds.Pod, { fieldSelector: `spec.nodeName=${node.name}` });
  const measure = measurePods(parts.metrics, { name: node.name, pods, engine, clock: realClock });
  const { kubeletClient, kubeletServing } = identity;
  measureCertificates(parts.metrics, { client: kubeletClient, serving: kubeletServing, clock: realClock });
  const linux = createLinuxNode({
    ...common,
    mounts: engine.context.os.mounts,
    paths: kubeletPaths(data, files.nodeRun(paths, node.number)),
    imagesDir: join(files.nodeData(paths, node.number), 'content'),
  });
  const probes = new ProbeMetrics();
  const kubelet = runKubelet({
    ...common,
    ...linux,
    images: measure.measureImages(linux.images),
    prober: probes.measure(linux.prober),
    onPass: measure.onPass,
    pods,
    self: doors.informers.informer(kinds.Node, { fieldSelector: `metadata.name=${node.name}` }),
    services: doors.services,
    isolate: doors.isolate,
    recorder: createEventRecorder({ ...common, component: 'kubelet', host: node.name }),
    cgroupRoot: groups,
    leaseSeconds: nodeGraceMs / 1000,
  });
  stack.use(kubelet);
  const server = await startKubeletServer(
    {
      kubelet,
      engine,
      clock: realClock,
      log: log.child('kubelet'),
      nodeName: node.name,
      client: doors.client,
      allowed: { commonNames: ['kube-apiserver-kubelet-client'], organizations: ['system:masters'] },
      nodeUsage,
      configuration: kubeletConfiguration({ ...common, cgroupRoot: groups, leaseSeconds: nodeGraceMs / 1000 }),
      metrics: () => exposeMetrics(parts.metrics),
      probeMetrics: () => exposeMetrics(probes.metrics),
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

/** Use of processor and memory by the whole machine since boot. */
async function nodeUsage(): Promise<NodeUsage> {
  const ticks = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/\s+/).slice(1).map(Number);
  const idle = (ticks[3] ?? 0) + (ticks[4] ?? 0);
  const total = ticks.slice(0, 8).reduce((sum, value) => sum + value, 0);
  const memory = readFileSync('/proc/meminfo', 'utf8');
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(memory)?.[1] ?? 0) * 1024;
  return {
    cpuNanoseconds: (total - idle) * 1e7,
    memoryWorkingSetBytes: kib('MemTotal') - kib('MemAvailable'),
    memoryAvailableBytes: kib('MemAvailable'),
    memoryRssBytes: kib('AnonPages'),
    memoryBytes: kib('MemTotal'),
    swapUsedBytes: kib('SwapTotal') - kib('SwapFree'),
    swapFreeBytes: kib('SwapFree'),
    links: readLinks('self'),
    cores: cpus().length,
    readAtMs: realClock.now(),
    bootedAtMs: machineBootedAtMs(),
  };
}
