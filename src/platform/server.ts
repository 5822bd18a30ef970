/**
 * The control-plane process: store, API server, controllers and scheduler, put together. Controllers and scheduler
 * reach the API server through the same chain as everybody, without a socket between, and run where this process leads
 * (`control-plane.ts`).
 */
import { isReason } from '#base/errors.ts';
import type { ConfigMap, Node } from '#api/core.v1.ts';
import type { Logger } from '#observe/log.ts';
import type { UserInfo } from '#base/api-request.ts';
import type { CertificateRequest } from '#base/x509.ts';
import { openAudit } from '#apiserver/audit/open-audit.ts';
import { trustedAuthorities, type KeyRing } from '#apiserver/keys.ts';
import { ServerFlags } from '#apiserver/server-flags.ts';
import { createApiServer, type ApiServer } from '#apiserver/server.ts';
import { HeldPort } from '#apiserver/held-port.ts';
import { serveHttp, type HttpServer } from '#apiserver/http.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder } from '#client/events.ts';
import { InformerFactory } from '#client/informer.ts';
import { controlPlaneRole, frontProxyClient, isRevoked, removedNodes } from '#base/node-identity.ts';
import { kinds } from '#base/kinds.ts';
import { createRestClientMetrics } from '#client/metrics.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import { processUptimeMs, realClock, realRandom } from '#os/clock.real.ts';
import { writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { ownThread } from '#os/thread.linux.ts';
import { releaseMemory } from '#os/memory.linux.ts';
import { measureStore } from '#store/measured-store.ts';
import type { Store } from '#store/store.ts';
import { BootstrapToken } from './bootstrap-token.ts';
import { publishCluster } from './cluster-config.ts';
import { openClusterStore } from './cluster-store.ts';
import { applyClusterDefaults } from './cluster-defaults.ts';
import { leaderIdentity, runControlPlane } from './control-plane.ts';
import { KeyFollower } from './keys/follow-keys.ts';
import { inherit, isHeir } from './heir.ts';
import { keysEndpoint, keysPath } from './keys/serve-keys.ts';
import { hostAddresses, hostName } from './host.ts';
import { followInAdminConfig, loadKeyRing, ownCertificate, serverNames } from './identity.ts';
import { nodePlan, nodesPerMachineMax } from './instance.ts';
import { createKubeletMetrics } from './kubelet-metrics.ts';
import type { ManagedCertificate } from './managed-certificate.ts';
import { awaitMove } from './etcd/own-etcd.ts';
import { finishRecovery } from './etcd/recover.ts';
import { serversEndpoint, serversPath } from './etcd/serve-join.ts';
import { keepMember } from './etcd/upkeep.ts';
import { runBackupSchedule } from './backup/run-schedule.ts';
import { serveState } from './backup/state-source.ts';
import { beginPart, type Part } from './part.ts';
import { pathsOfPart } from './launch.ts';
import { heirStepMs, nodeGraceMs } from './limits.ts';
import { files } from './paths.ts';
import { writeLogLine } from './process-log.ts';
import { programsEndpoint, programsPath } from './upgrade/serve-programs.ts';
import { kubernetesVersion } from './version.ts';

export async function runServer(): Promise<void> {
  const part = await beginAfterMove();
  const { paths, instance, log, metrics, stack } = part;
  const ring = loadKeyRing(paths, { random: realRandom, clock: realClock });
  const ca = trustedAuthorities(ring, 'ca');
  followInAdminConfig(paths, instance, ring, { random: realRandom, clock: realClock });
  const { api, http, store } = await startApi(part, ring);
  const measureClient = createRestClientMetrics(metrics, realClock);
  const clientFor = (name: string): Client => {
    const user: UserInfo = { name, groups: ['system:masters', 'system:authenticated'] };
    // As programs call themselves: tools leave fields alone that `kube-controller-manager` owns.
    const program = name.replace(/^system:/, '');
    return createClient(measureClient(createDirectTransport(api.handle, user, program), 'localhost'), program);
  };
  const platform = clientFor('tiphys-platform');
  const token = new BootstrapToken({
    client: platform,
    file: files.bootstrapConfig(paths),
    server: `https://127.0.0.1:${instance.apiPort}`,
    ca,
    clock: realClock,
    random: realRandom,
    log,
  });
  stack.use(token);
  await Promise.all([
    applyClusterDefaults(platform, log),
    token.run(),
    publishCluster(platform, instance, {
      ca,
      volumeDirectory: instance.joined?.volumeDirectory ?? files.volumes(paths),
    }),
  ]);
  stack.use(keepMember({ paths, instance, store, clock: realClock, random: realRandom, log: log.child('etcd') }));
  stack.use(endRemoved(platform, http, log));
  stack.use(markControlPlane(platform, nodePlan(instance, 1, hostName()).name, log));
  const control = runControlPlane({
    clientFor,
    clock: realClock,
    random: realRandom,
    log,
    metrics,
    identity: leaderIdentity(nodePlan(instance, 1, hostName()).name, instance.id),
    isShared: instance.etcd !== undefined,
    options: {
      rootCa: ca,
      signer: ring.ca,
      nodeGraceMs: instance.nodeGraceMs ?? nodeGraceMs,
      volumeDirectory: instance.joined?.volumeDirectory ?? files.volumes(paths),
      podRange: { range: instance.podRange, reserved: nodesPerMachineMax },
      loadBalancerAddresses: () => hostAddresses().slice(0, 1),
    },
  });
  stack.use(control);
  await control.ready;
  await defaultServiceAccount(platform);
  const recorder = createEventRecorder({ client: platform, clock: realClock, log, component: 'tiphys-backup' });
  const node = nodePlan(instance, 1, hostName()).name;
  stack.use(runBackupSchedule({ paths, clock: realClock, log, processes: linuxProcesses, recorder, node }));
  writeFileAtomic(files.ready(paths, 'server'), `${process.pid}\n`, { mode: 0o644 });
  log.info('ready', { sinceStartMs: Math.round(processUptimeMs()) });
}

/** What the instance is, is read once nobody changes where its state lies. */
async function beginAfterMove(): Promise<Part> {
  await awaitMove(pathsOfPart());
  return beginPart('server');
}

/**
 * Ends the connections of nodes that are taken out of the cluster: requests are refused one by one, but a watch is one
 * request for as long as it goes on.
 */
function endRemoved(client: Client, http: HttpServer, log: Logger): AsyncDisposable {
  const informers = new InformerFactory({ client, clock: realClock, random: realRandom, log });
  const removed = informers.informer(kinds.ConfigMap, {
    namespace: removedNodes.namespace,
    fieldSelector: `metadata.name=${removedNodes.name}`,
  });
  const end = ({ data }: ConfigMap): void =>
    http.endClients(({ user, certifiedAtMs }) => isRevoked({ name: user.name, issuedAtMs: certifiedAtMs }, data));
  removed.addHandler({ added: end, updated: end });
  informers.start();
  return informers;
}

/** The node of the control plane's machine carries its role, which no node may give itself. */
function markControlPlane(client: Client, node: string, log: Logger): AsyncDisposable {
  const informers = new InformerFactory({ client, clock: realClock, random: realRandom, log });
  const mark = ({ metadata }: Node): void => {
    if (metadata.labels?.[controlPlaneRole] !== undefined) return;
    client
      .patch(kinds.Node, { name: node }, { merge: { metadata: { labels: { [controlPlaneRole]: '' } } } })
      .catch((error: unknown) => log.warn('the node has no role', { node, error }));
  };
  informers.informer(kinds.Node, { fieldSelector: `metadata.name=${node}` }).addHandler({ added: mark, updated: mark });
  informers.start();
  return informers;
}

/** What the server shows: to its clients, to kubelets, and to those that it aggregates. */
async function ownCertificates(
  { instance, log, stack }: Part,
  ring: KeyRing,
): Promise<Record<OwnName, ManagedCertificate>> {
  const first = nodePlan(instance, 1, hostName());
  const own = (request: CertificateRequest, authority = ring.ca): ManagedCertificate => {
    const certificate = ownCertificate(authority, request, { random: realRandom, clock: realClock, log });
    stack.defer(() => certificate.close());
    void certificate.run();
    return certificate;
  };
  const serving = own({ ...serverNames(instance, first, hostName(), hostAddresses()), server: true });
  const kubeletClient = own({
    commonName: 'kube-apiserver-kubelet-client',
    organizations: ['system:masters'],
    client: true,
  });
  const frontProxy = own({ commonName: frontProxyClient, client: true }, ring.frontProxy);
  await Promise.all([serving.ready, kubeletClient.ready, frontProxy.ready]);
  return { serving, kubeletClient, frontProxy };
}

type OwnName = 'serving' | 'kubeletClient' | 'frontProxy';

/** The store and the API server on it, listening. */
async function startApi(part: Part, ring: KeyRing): Promise<{ api: ApiServer; http: HttpServer; store: Store }> {
  const { paths, instance, log, metrics, stack } = part;
  const first = nodePlan(instance, 1, hostName());
  const certificates = await ownCertificates(part, ring);
  await finishRecovery(paths, instance, log);
  const open = (): Promise<Store> =>
    openClusterStore({ paths, etcd: instance.etcd, ring, ranges: instance, log: log.child('store') });
  // Where a process runs whose place this one takes, an etcd may be read beside it, and SQLite after its end.
  const mirror = isHeir() && instance.etcd !== undefined ? stack.use(await open()) : undefined;
  // Nobody is refused meanwhile. Who begins without one before it listens when it can answer: others may.
  const taken = isHeir() ? (await Promise.all([openPorts(part), inherit(paths, 'server')]))[0] : undefined;
  const store = mirror ?? stack.use(await open());
  measureStore(store, metrics, realClock);
  stack.use(await serveState(paths, store, log));
  const flags = new ServerFlags(instance.kubeApiserverArgs ?? []);
  const usage = createKubeletMetrics({
    nodes: async () => (await api.server.live.nodes.current()).in(),
    ca: trustedAuthorities(ring, 'ca'),
    client: () => certificates.kubeletClient.pair,
    clock: realClock,
  });
  const means = { paths, random: realRandom, clock: realClock };
  const keys = keysEndpoint({ ...means, log, state: () => follower?.state ?? { taken: 0, sealedWith: '' } });
  const api: ApiServer = stack.use(
    await createApiServer({
      store,
      clock: realClock,
      random: realRandom,
      log: log.child('apiserver'),
      keys: ring,
      domain: instance.domain,
      serviceCidr: instance.serviceRange,
      advertise: { address: first.address, port: instance.apiPort },
      gitVersion: kubernetesVersion,
      usage,
      metrics,
      releaseMemory,
      thread: ownThread,
      flags,
      platformPaths: new Map([
        [serversPath, serversEndpoint(paths, log)],
        [keysPath, keys],
        [programsPath, programsEndpoint(paths)],
      ]),
      audit: openAudit({ flags, clock: realClock, log: log.child('audit'), metrics, standardOutput: writeLogLine }),
    }),
  );
  const follower: KeyFollower | undefined = stack.use(
    new KeyFollower({
      ...means,
      ring,
      log,
      sealWith: (encryption) => api.sealWith(encryption),
      restart: () => linuxProcesses.kill(process.pid, 'SIGTERM'),
    }),
  );
  const http = await listen(part, ring, { api, ports: taken ?? (await openPorts(part)), ...certificates });
  return { api, http, store };
}

/** Other machines come by any address once they may join. */
async function openPorts({ instance, stack }: Part): Promise<HeldPort[]> {
  const hosts = instance.address === undefined ? ['127.0.0.1', nodePlan(instance, 1, hostName()).address] : ['0.0.0.0'];
  const retry = isHeir() ? { retry: { clock: realClock, stepMs: heirStepMs } } : {};
  const ports = await Promise.all(hosts.map((host) => HeldPort.open({ host, port: instance.apiPort, ...retry })));
  for (const port of ports) stack.use(port);
  return ports;
}

async function listen(
  { stack }: Part,
  ring: KeyRing,
  {
    api,
    ports,
    serving,
    kubeletClient,
    frontProxy,
  }: Record<OwnName, ManagedCertificate> & { api: ApiServer; ports: HeldPort[] },
): Promise<HttpServer> {
  const { proxy } = api.server.authenticators ?? {};
  const http = stack.use(
    await serveHttp({
      api,
      serving: serving.pair,
      clientCa: trustedAuthorities(ring, 'ca'),
      ...(proxy === undefined ? {} : { proxy }),
      kubeletClient: kubeletClient.pair,
      frontProxy: () => frontProxy.pair,
      ports,
    }),
  );
  serving.subscribe((pair) => http.setServing(pair));
  kubeletClient.subscribe((pair) => http.setKubeletClient(pair));
  return http;
}

/** Pods of the default namespace can be made once its ServiceAccount is there. */
async function defaultServiceAccount(client: Client): Promise<void> {
  for (;;) {
    try {
      await client.get(kinds.ServiceAccount, 'default', 'default');
      return;
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
      await realClock.sleep(5);
    }
  }
}
