/**
 * A server process of tests: an API server on an etcd, with controllers and scheduler, as `platform/server.ts` puts
 * them together. Argument: a JSON object {endpoints, prefix, port, ring (file), identity}. It prints `ready`, and ends
 * in order on SIGTERM.
 */
import { readFileSync } from 'node:fs';
import type { KeyRing } from '#apiserver/keys.ts';
import { HeldPort } from '#apiserver/held-port.ts';
import { serveHttp } from '#apiserver/http.ts';
import { createApiServer } from '#apiserver/server.ts';
import { issueCertificate } from '#base/x509.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import { createLogger } from '#observe/log.ts';
import { Metrics } from '#observe/metrics.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { runControlPlane } from '#platform/control-plane.ts';
import { openEtcdStore } from '#store/etcd/etcd-store.ts';

export interface ServerArguments {
  endpoints: string[];
  prefix: string;
  port: number;
  ring: string;
  identity: string;
}

const { endpoints, prefix, port, ring, identity } = JSON.parse(process.argv[2] ?? '{}') as ServerArguments;
const keys = JSON.parse(readFileSync(ring, 'utf8')) as KeyRing;
const means = { clock: realClock, random: realRandom };
const log = createLogger(
  () => realClock.now(),
  (line) => process.stderr.write(`${line}\n`),
  'error',
  identity,
);
const stack = new AsyncDisposableStack();
const store = stack.use(await openEtcdStore({ address: { endpoints }, prefix, ...means, log }));
const api = stack.use(await createApiServer({ store, ...means, log, keys, advertise: { address: '10.0.0.1', port } }));
const serving = issueCertificate(
  { commonName: 'api', ipAddresses: ['127.0.0.1'], server: true, client: true },
  keys.ca,
  realRandom,
  realClock,
);
stack.use(
  await serveHttp({
    api,
    serving,
    clientCa: keys.ca.certificatePem,
    kubeletClient: serving,
    ports: [await HeldPort.open({ host: '127.0.0.1', port })],
  }),
);
const control = stack.use(
  runControlPlane({
    clientFor: (name) =>
      createClient(
        createDirectTransport(api.handle, { name, groups: ['system:masters', 'system:authenticated'] }),
        name,
      ),
    ...means,
    log,
    identity,
    options: { rootCa: keys.ca.certificatePem, signer: keys.ca },
    metrics: new Metrics(),
    isShared: true,
  }),
);
process.on('SIGTERM', () => void stack.disposeAsync().finally(() => process.exit(0)));
await control.ready;
process.stdout.write('ready\n');
