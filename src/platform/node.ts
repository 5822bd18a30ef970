/**
 * A node process: everything that one node runs, put together in the order in which it is needed. Reads top to bottom;
 * nothing starts elsewhere. It may be killed at any line: containers, rules and addresses stay in the kernel, and the
 * next process takes them up from disk.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { canMakeBaseImage, makeBaseImage } from '#build/bootstrap/bootstrap.ts';
import { issueCertificate, type KeyPair } from '#base/x509.ts';
import { SingleFlight } from '#base/single-flight.ts';
import { InformerFactory, type Informer } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import type { Client } from '#client/client.ts';
import { openContent } from '#content/content.ts';
import { createImageRecords } from '#content/image-records.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { HttpTransport } from '#content/remote.ts';
import { createSnapshots } from '#content/snapshots.ts';
import { createEngine, type DockerEngine } from '#engine/create-engine.ts';
import { createImages } from '#engine/images.ts';
import { kubeletPaths, runKubelet, type Kubelet } from '#kubelet/kubelet.ts';
import { podProcessesMaxPercent, podsPerNodeDefault } from '#kubelet/limits.ts';
import type { NodeFacts } from '#kubelet/node-status.ts';
import { startKubeletServer } from '#kubelet/server.ts';
import { runDns, upstreamsOf } from '#network/dns.ts';
import { runIngress } from '#network/ingress.ts';
import { runServiceProxy } from '#network/services.ts';
import { createLogger, type Logger } from '#observe/log.ts';
import { machineBootedAtMs, processUptimeMs, realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createAccess, hashInternalSecret, internalUser } from '#registry/access.ts';
import { createRegistry, createRegistryServer } from '#registry/registry.ts';
import { coverInput, type NodeServices } from '#net/firewall.ts';
import { cgroupRoot, tableName } from '#net/kernel-names.ts';
import { startDockerApi } from './docker-api.ts';
import { hostAddresses, hostName } from './host.ts';
import { networkGroup } from './cluster-defaults.ts';
import { clientCertificate, kubeletCertificate, loadKeyRing } from './identity.ts';
import { clusterDnsAddress, loadInstance, nodePlan, type Instance, type NodePlan } from './instance.ts';
import { pathsOfPart } from './launch.ts';
import { writeLogLine } from './process-log.ts';
import { answerShutdown, shutdownSignal } from './shutdown.ts';
import { removeUnusedVolumes } from './local-volumes.ts';
import { files, type Paths } from './paths.ts';
import { kubernetesVersion, tiphysVersion } from './version.ts';

const kubeletPort = 10_250;

export async function runNode(number: number): Promise<void> {
  const paths = pathsOfPart();
  const instance = loadInstance(paths);
  if (instance === undefined) throw new Error(`no instance in ${paths.data}`);
  const log = createLogger(
    () => realClock.now(),
    writeLogLine,
    process.env['TIPHYS_DEBUG'] === undefined ? 'info' : 'debug',
    `node-${number}`,
  );
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error: error as Error }));
  const node = nodePlan(instance, number, hostName());
  const stack = new AsyncDisposableStack();
  let ending = false;
  const end = (signal: string): void => {
    if (ending) return;
    ending = true;
    log.info('stopping', { signal });
    realClock.setTimer(5_000, () => process.exit(0), { background: true });
    void stack
      .disposeAsync()
      .catch((error: unknown) => log.error('stop', { error }))
      .finally(() => process.exit(0));
  };
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  let workloads: Parameters<typeof answerShutdown>[2];
  process.on(shutdownSignal, () => void answerShutdown(paths, `node-${number}`, workloads, log));

  const ring = loadKeyRing(paths);
  const client = connect(
    instance,
    node,
    ring.ca.certificatePem,
    kubeletCertificate(ring, node, realRandom, realClock),
    'kubelet',
    stack,
  );
  const networkClient = connect(
    instance,
    node,
    ring.ca.certificatePem,
    clientCertificate(ring, `tiphys-network-${node.name}`, [networkGroup], realRandom, realClock),
    'tiphys-network',
    stack,
  );
  const informers = stack.use(new InformerFactory({ client, clock: realClock, random: realRandom, log }));
  const networkInformers = stack.use(
    new InformerFactory({ client: networkClient, clock: realClock, random: realRandom, log }),
  );
  // Names and Services first: what Pods that still run miss most while this process was away.
  const network = await startNetwork(instance, node, paths, networkClient, networkInformers, log, stack);
  if (number === 1)
    removeUnusedVolumes(networkInformers, files.volumes(paths), log).ready.catch((error: unknown) =>
      log.error('volumes', { error }),
    );
  networkInformers.start();
  const engine = await startEngine(instance, node, paths, log, stack);
  const kubelet = await startKubelet(
    instance,
    node,
    paths,
    client,
    informers,
    networkInformers.informer(kinds.Service),
    engine,
    log,
    stack,
  );
  workloads = { engine, kubelet };
  informers.start();
  await Promise.all([network.ready, kubelet.ready]);
  writeFileAtomic(files.ready(paths, `node-${number}`), `${process.pid}\n`, { mode: 0o644 });
  log.info('ready', { node: node.name, sinceStartMs: Math.round(processUptimeMs()) });
}

function connect(
  instance: Instance,
  node: NodePlan,
  ca: string,
  identity: KeyPair,
  manager: string,
  stack: AsyncDisposableStack,
): Client {
  const address = node.number === 1 ? '127.0.0.1' : nodePlan(instance, 1, hostName()).address;
  const transport = createHttpTransport({
    server: `https://${address}:${instance.apiPort}`,
    ca,
    certificate: identity.certificatePem,
    key: identity.keyPem,
    userAgent: `tiphys-node/${tiphysVersion()}`,
    clock: realClock,
  });
  stack.use(transport);
  return createClient(transport, manager);
}

/** The host's resolver configuration; systemd-resolved's stub is of no use to others, its own upstreams are. */
function hostResolvConf(): string {
  const own = readIfExists('/etc/resolv.conf') ?? '';
  return /^\s*nameserver\s+127\./m.test(own) ? (readIfExists('/run/systemd/resolve/resolv.conf') ?? own) : own;
}

async function startNetwork(
  instance: Instance,
  node: NodePlan,
  paths: Paths,
  client: Client,
  informers: InformerFactory,
  log: Logger,
  stack: AsyncDisposableStack,
): Promise<{ ready: Promise<unknown> }> {
  const ring = loadKeyRing(paths);
  const dns = await runDns({
    informers,
    clock: realClock,
    random: realRandom,
    log: log.child('dns'),
    addresses: [clusterDnsAddress(instance)],
    domain: instance.domain,
    upstreams: upstreamsOf(hostResolvConf()),
  });
  stack.use(dns);
  const { createNetworkDoor } = await import('#os/network.linux.ts');
  const door = createNetworkDoor();
  stack.defer(() => door.close());
  const services: NodeServices = {
    addresses: [node.address, clusterDnsAddress(instance)],
    tcpPorts: [53, instance.apiPort, instance.registryPort, kubeletPort],
    udpPorts: [53],
  };
  if (node.number === 1)
    await coverInput({ processes: linuxProcesses, instanceId: node.instanceId, log: log.child('firewall') }, services);
  const conntrack = linuxProcesses.find('conntrack');
  const proxy = runServiceProxy({
    informers,
    nft: door.nft,
    clock: realClock,
    log: log.child('services'),
    nodeName: node.name,
    table: `${tableName(node.instanceId)}_services`,
    podRange: instance.podRange,
    async forgetUdp(service) {
      if (conntrack !== undefined)
        await linuxProcesses.run(conntrack, [
          '-D',
          '-p',
          'udp',
          '--orig-dst',
          service.ip,
          '--orig-port-dst',
          String(service.port),
        ]);
    },
  });
  stack.use(proxy);
  const ingressDir = join(files.nodeRun(paths, node.number), 'ingress');
  mkdirSync(ingressDir, { recursive: true, mode: 0o700 });
  const certificate = issueCertificate(
    {
      commonName: 'tiphys-ingress',
      server: true,
      dnsNames: ['localhost', hostName()],
      ipAddresses: ['127.0.0.1', node.address],
    },
    ring.ca,
    realRandom,
    realClock,
  );
  const ingress = runIngress({
    client,
    informers,
    processes: linuxProcesses,
    clock: realClock,
    log: log.child('ingress'),
    runDir: ingressDir,
    nodeName: node.name,
    httpBinds: [`:${instance.httpPort}`],
    httpsBinds: [`:${instance.httpsPort}`],
    statusAddress: node.number === 1 ? (hostAddresses()[0] ?? node.address) : undefined,
    defaultCertificate: `${certificate.certificatePem.trim()}\n${ring.ca.certificatePem.trim()}\n${certificate.keyPem.trim()}\n`,
  });
  stack.use(ingress);
  return { ready: Promise.all([dns.ready, proxy.ready, ingress.ready]) };
}

/** The password by which engines of this instance sign in to its registry; made from the key-ring, kept nowhere. */
function registrySecret(paths: Paths): string {
  return createHash('sha256')
    .update(`registry ${loadKeyRing(paths).encryption[0]!.key}`)
    .digest('hex');
}

async function startEngine(
  instance: Instance,
  node: NodePlan,
  paths: Paths,
  log: Logger,
  stack: AsyncDisposableStack,
): Promise<DockerEngine> {
  const data = files.nodeData(paths, node.number);
  const run = files.nodeRun(paths, node.number);
  const content = await openContent({
    root: join(data, 'content'),
    clock: realClock,
    random: realRandom,
    log: log.child('content'),
    processes: linuxProcesses,
  });
  stack.defer(() => content.close());
  const records = createImageRecords(content);
  const mounts = createMounts();
  const snapshots = createSnapshots({ content, images: records, mounts });
  const secret = registrySecret(paths);
  const access = createAccess({
    content,
    clock: realClock,
    random: realRandom,
    anonymousPull: 'loopback',
    internalSecretHash: hashInternalSecret(secret),
  });
  const first = nodePlan(instance, 1, hostName());
  const port = instance.registryPort;
  const domains = [`127.0.0.1:${port}`, `localhost:${port}`, `${first.address}:${port}`];
  const registry =
    node.number === 1
      ? createRegistry({
          content,
          images: records,
          access,
          log: log.child('registry'),
          clock: realClock,
          domains,
          bring: (name) => images.pull(name, { owner: 'kubelet' }),
        })
      : undefined;
  if (registry !== undefined) {
    for (const address of ['127.0.0.1', node.address]) {
      const server = createRegistryServer(registry);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, address, () => resolve());
      });
      stack.defer(
        () =>
          new Promise<void>((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      );
    }
  }
  let engine: DockerEngine | undefined;
  const making = new SingleFlight<ImageRecord>();
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: log.child('images'),
    transport: new HttpTransport(process.env),
    mirrors: instance.registryMirrors,
    emit: (event) => engine?.events.emit(event),
    ...(registry === undefined
      ? {
          platformRegistry: {
            url: `http://${first.address}:${port}`,
            credential: { username: internalUser, password: secret },
            domains,
          },
        }
      : { localRegistry: registry.local }),
    // Pods that start together ask for the same base image together; it is made in one place on disk.
    makeBaseImage: async (name, progress) =>
      canMakeBaseImage(name)
        ? making.run(name, () =>
            makeBaseImage(
              {
                content,
                images: records,
                processes: linuxProcesses,
                clock: realClock,
                environment: process.env as Record<string, string>,
                onProgress: (line) => progress({ status: line }),
              },
              name,
            ),
          )
        : undefined,
    containersOf: (imageId) =>
      (engine?.containers.list() ?? [])
        .filter((container) => container.imageId === imageId)
        .map((container) => ({ id: container.id, isRunning: container.state === 'running', owner: container.owner })),
  });
  engine = await createEngine({
    dataDir: join(data, 'engine'),
    runDir: join(run, 'engine'),
    instanceId: node.instanceId,
    nodeName: node.name,
    clock: realClock,
    random: realRandom,
    log,
    images,
    snapshots,
    mounts,
    podCidr: node.podRange,
    clusterCidrs: [instance.podRange, instance.serviceRange],
  });
  stack.use(engine);
  const socketPath = node.number === 1 ? files.dockerSocket(paths) : join(run, 'docker.sock');
  stack.use(
    await startDockerApi({
      engine,
      images,
      content,
      records,
      snapshots,
      access,
      socketPath,
      dataDir: data,
      log: log.child('docker'),
      registryDomains: domains,
    }),
  );
  return engine;
}

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

async function startKubelet(
  instance: Instance,
  node: NodePlan,
  paths: Paths,
  client: Client,
  informers: InformerFactory,
  services: Informer,
  engine: DockerEngine,
  log: Logger,
  stack: AsyncDisposableStack,
): Promise<Kubelet> {
  const data = join(files.nodeData(paths, node.number), 'kubelet');
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const facts = factsOf(instance, node, data, engine.context.apparmorDefault !== undefined);
  const groups = cgroupRoot(node.instanceId, engine.context.os.cgroups.top);
  engine.context.os.cgroups.create(`${groups}/kubepods`, { pidsMax: podProcessesMax() });
  const kubelet = await runKubelet({
    client,
    informers,
    services,
    engine,
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
  const ring = loadKeyRing(paths);
  const identity = kubeletCertificate(ring, node, realRandom, realClock);
  const server = await startKubeletServer(
    {
      kubelet,
      engine,
      clock: realClock,
      log: log.child('kubelet'),
      nodeName: node.name,
      certificate: identity.certificatePem,
      key: identity.keyPem,
      ca: ring.ca.certificatePem,
      allowed: { commonNames: ['kube-apiserver-kubelet-client'], organizations: ['system:masters'] },
      nodeUsage,
    },
    node.address,
    kubeletPort,
  );
  stack.defer(() => {
    server.close();
    server.closeAllConnections();
  });
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
