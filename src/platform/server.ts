/**
 * The control-plane process: store, API server, controllers and scheduler, put together. Controllers and scheduler
 * reach the API server through the same chain as everybody, without a socket between.
 */
import { isReason } from '#base/errors.ts';
import { createApiServer } from '#apiserver/server.ts';
import { serveHttp } from '#apiserver/http.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#client/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import { InformerFactory } from '#client/informer.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import { runControllers } from '#controllers/run.ts';
import { createLogger } from '#observe/log.ts';
import { processUptimeMs, realClock, realRandom } from '#os/clock.real.ts';
import { writeFileAtomic } from '#os/files.ts';
import { releaseMemory } from '#os/memory.linux.ts';
import { runScheduler } from '#scheduler/scheduler.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import { applyClusterDefaults } from './cluster-defaults.ts';
import { hostAddresses, hostName } from './host.ts';
import { clientCertificate, loadKeyRing, serverCertificate } from './identity.ts';
import { loadInstance, nodePlan } from './instance.ts';
import { createKubeletMetrics } from './kubelet-metrics.ts';
import { pathsOfPart } from './launch.ts';
import { writeLogLine } from './process-log.ts';
import { files } from './paths.ts';
import { kubernetesVersion } from './version.ts';

/** On one machine usage is at hand, so that autoscalers need not wait as long as in a large cluster. */
const autoscalerPeriodMs = 3_000;

export async function runServer(): Promise<void> {
  const paths = pathsOfPart();
  const instance = loadInstance(paths);
  if (instance === undefined) throw new Error(`no instance in ${paths.data}`);
  const log = createLogger(
    () => realClock.now(),
    writeLogLine,
    process.env['TIPHYS_DEBUG'] === undefined ? 'info' : 'debug',
    'server',
  );
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error: error as Error }));
  const stack = new AsyncDisposableStack();
  const end = (signal: string): void => {
    log.info('stopping', { signal });
    realClock.setTimer(5_000, () => process.exit(0), { background: true });
    void stack
      .disposeAsync()
      .catch((error: unknown) => log.error('stop', { error }))
      .finally(() => process.exit(0));
  };
  process.once('SIGTERM', () => end('SIGTERM'));
  process.once('SIGINT', () => end('SIGINT'));

  const ring = loadKeyRing(paths);
  const first = nodePlan(instance, 1, hostName());
  const store = stack.use(
    await openSqliteStore({ path: files.database(paths), clock: realClock, log: log.child('store') }),
  );
  const kubeletClient = clientCertificate(
    ring,
    'kube-apiserver-kubelet-client',
    ['system:masters'],
    realRandom,
    realClock,
  );
  const metrics = createKubeletMetrics({
    instance,
    hostname: hostName(),
    ca: ring.ca.certificatePem,
    client: kubeletClient,
    clock: realClock,
  });
  const api = stack.use(
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
      metrics,
      releaseMemory,
    }),
  );
  stack.use(
    await serveHttp({
      api,
      serving: serverCertificate(ring, instance, first, hostName(), hostAddresses(), realRandom, realClock),
      clientCa: ring.ca.certificatePem,
      kubeletClient,
      host: '127.0.0.1',
      port: instance.apiPort,
      alsoListen: [first.address],
    }),
  );

  const clientFor = (name: string) =>
    createClient(createDirectTransport(api.handle, { name, groups: ['system:masters', 'system:authenticated'] }), name);
  const informers = new InformerFactory({
    client: clientFor('system:kube-controller-manager'),
    clock: realClock,
    random: realRandom,
    log,
  });
  stack.use(informers);
  await applyClusterDefaults(clientFor('tiphys-platform'), log);
  stack.use(
    await runControllers({
      client: clientFor('system:kube-controller-manager'),
      clock: realClock,
      random: realRandom,
      log,
      informers,
      options: {
        rootCa: ring.ca.certificatePem,
        signer: ring.ca,
        volumeDirectory: files.volumes(paths),
        autoscalerPeriodMs,
        loadBalancerAddresses: () => hostAddresses().slice(0, 1),
      },
    }),
  );
  stack.use(
    await runScheduler({
      client: clientFor('system:kube-scheduler'),
      clock: realClock,
      random: realRandom,
      log,
      informers,
    }),
  );
  await defaultServiceAccount(clientFor('tiphys-platform'));
  writeFileAtomic(files.ready(paths, 'server'), `${process.pid}\n`, { mode: 0o644 });
  log.info('ready', { sinceStartMs: Math.round(processUptimeMs()) });
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
