/**
 * Who a node is. The node process has no key of the cluster's: it makes its own, and is given certificates for them.
 *
 * | certificate | shown to | asked for by |
 * | --- | --- | --- |
 * | kubelet-client | the API server and the registry, as `system:node:NAME` | the bootstrap token, later itself |
 * | network-client | the API server, as `tiphys:node-network:NAME` | the same |
 * | kubelet-serving | who calls the kubelet or, not on loopback, the registry | kubelet-client |
 * | ingress-serving | clients of Ingresses whose host names no certificate | kubelet-client |
 *
 * On the first start there is nothing: the server process has left a kubeconfig with a bootstrap token, and two
 * requests are under way at once. Later starts find the certificates in `nodes/N/pki` and wait for nobody. On a machine
 * that joined, `tiphys join` has put the first certificate and the authority there (`join.ts`).
 */
import { join } from 'node:path';
import {
  ingressNamePrefix,
  networkGroup,
  networkUserPrefix,
  nodeGroup,
  nodeSigners,
  nodeUserPrefix,
} from '#base/node-identity.ts';
import type { Client } from '#client/client.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { createRestClientMetrics } from '#client/metrics.ts';
import { createClient } from '#client/rest-client.ts';
import { ServerChoice } from '#client/server-choice.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import type { Logger } from '#observe/log.ts';
import type { Metrics } from '#observe/metrics.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { authorityHashesOf } from './join-token.ts';
import type { Instance, NodePlan } from './instance.ts';
import { knownServers, serverOf } from './known-servers.ts';
import { bootstrapLookMs } from './limits.ts';
import {
  certificatesIn,
  ManagedCertificate,
  requestCertificate,
  type CertificateAsk,
  type CertificateNames,
} from './managed-certificate.ts';
import { files, makeDirectory, privateMode, type Paths } from './paths.ts';
import { tiphysVersion } from './version.ts';

export interface NodeIdentity {
  /** The cluster's authority, in PEM. Throws while this machine was not told of it: no certificate is held then. */
  ca(): string;
  kubeletClient: ManagedCertificate;
  networkClient: ManagedCertificate;
  kubeletServing: ManagedCertificate;
  ingressServing: ManagedCertificate;
  /** Which authorities hold now, in PEM, as an API server has said to this node. */
  learnAuthority(pem: string): void;
  /** Whether all certificates are of the authority that signs now. */
  isCurrent(): boolean;
  /** The API servers, of which `connect` makes clients. */
  servers: ServerChoice;
  /** A client of the API server that shows the certificate of now. */
  connect(certificate: ManagedCertificate, manager: string): Client;
}

interface Place {
  instance: Instance;
  node: NodePlan;
  paths: Paths;
  log: Logger;
  metrics: Metrics;
  stack: AsyncDisposableStack;
}

/** Certificates that are not there yet are asked for once the cluster's authority is known. */
export function startNodeIdentity(place: Place): NodeIdentity {
  const { instance, node, paths, log, metrics, stack } = place;
  const directory = files.nodePki(paths, node.number);
  makeDirectory(directory, privateMode);
  const caFile = join(directory, 'ca.crt');
  let known = readAuthority(paths, caFile);
  const ca = (): string => {
    if (known === undefined) throw new Error("the cluster's authority is not known yet");
    return known;
  };
  const server = new ServerChoice(knownServers(paths, serverOf(instance, node)));
  const common = {
    server,
    ca,
    userAgent: `tiphys-node/${tiphysVersion()}`,
    clock: realClock,
  };
  const measureClient = createRestClientMetrics(metrics, realClock);
  const { host } = new URL(server.current);
  const connectAs = (options: Partial<Parameters<typeof createHttpTransport>[0]>, manager: string) => {
    const transport = measureClient(stack.use(createHttpTransport({ ...common, ...options })), host);
    return { transport, client: createClient(transport, manager) };
  };
  const connect: NodeIdentity['connect'] = (certificate, manager) => {
    const { transport, client } = connectAs(
      { certificate: () => certificate.pair.certificatePem, key: () => certificate.pair.keyPem },
      manager,
    );
    certificate.subscribe(() => transport.renew());
    return client;
  };
  const stranger = connectAs({ token: () => bootstrapToken(paths) }, 'kubelet-bootstrap').client;
  let own: Client | undefined;
  const make = (name: string, signer: string, names: CertificateNames, client: () => Client): ManagedCertificate => {
    const use = name.endsWith('client') ? 'client auth' : 'server auth';
    const request: CertificateAsk = { names, signer, use, client, clock: realClock, random: realRandom };
    const certificate = new ManagedCertificate({
      file: join(directory, `${name}.pem`),
      names,
      ca: () => known,
      obtain: (signal) => requestCertificate(request, signal),
      clock: realClock,
      random: realRandom,
      log: log.child('certificates'),
    });
    stack.defer(() => certificate.close());
    return certificate;
  };
  const isMember = (): boolean => own !== undefined && kubeletClient.isHeld;
  const asker = (): Client => (isMember() ? own! : stranger);
  const kubeletClient = make(
    'kubelet-client',
    nodeSigners.kubeletClient,
    { commonName: `${nodeUserPrefix}${node.name}`, organizations: [nodeGroup] },
    asker,
  );
  own = connect(kubeletClient, 'kubelet');
  const networkClient = make(
    'network-client',
    nodeSigners.networkClient,
    { commonName: `${networkUserPrefix}${node.name}`, organizations: [networkGroup] },
    asker,
  );
  const member = own;
  const kubeletServing = make(
    'kubelet-serving',
    nodeSigners.kubeletServing,
    {
      commonName: `${nodeUserPrefix}${node.name}`,
      organizations: [nodeGroup],
      dnsNames: [node.name],
      ipAddresses: [node.address],
    },
    () => member,
  );
  const ingressServing = make(
    'ingress-serving',
    nodeSigners.ingressServing,
    {
      commonName: `${ingressNamePrefix}${node.name}`,
      dnsNames: ['localhost', node.name],
      ipAddresses: ['127.0.0.1', node.address],
    },
    () => member,
  );
  const ask = async (): Promise<void> => {
    for (; known === undefined; known = readAuthority(paths, caFile)) await realClock.sleep(bootstrapLookMs);
    for (const certificate of [kubeletClient, networkClient]) void certificate.run();
    await kubeletClient.ready;
    for (const certificate of [kubeletServing, ingressServing]) void certificate.run();
  };
  void ask();
  const all = [kubeletClient, networkClient, kubeletServing, ingressServing];
  const learnAuthority = (pem: string): void => {
    if (known === undefined || pem === known || !isSuccessor(pem, known)) return;
    writeFileAtomic(caFile, pem, { mode: 0o600, sync: true });
    known = pem;
    log.info('other authorities hold from now on', { authorities: certificatesIn(pem).length });
    for (const certificate of all) certificate.authorityChanged();
  };
  const isCurrent = (): boolean => all.every((certificate) => certificate.isCurrent);
  const certificates = { kubeletClient, networkClient, kubeletServing, ingressServing };
  return { ca, ...certificates, learnAuthority, isCurrent, connect, servers: server };
}

function bootstrapToken(paths: Paths): string {
  const { token } = loadKubeconfig(files.bootstrapConfig(paths));
  if (typeof token !== 'string') throw new Error(`no token in ${files.bootstrapConfig(paths)}`);
  return token;
}

/**
 * What the API server says on a connection that the known authorities vouch for is believed where one of them is still
 * among it: an authority is renewed with its key, and another one takes its place while both hold.
 */
function isSuccessor(pem: string, known: string): boolean {
  const before = authorityHashesOf(known);
  return authorityHashesOf(pem).some((hash) => before.includes(hash));
}

/** The authority that the server process has told this machine of; what was told before, while it has not yet. */
function readAuthority(paths: Paths, keptIn: string): string | undefined {
  const isTold = readIfExists(files.bootstrapConfig(paths)) !== undefined;
  const told = isTold ? loadKubeconfig(files.bootstrapConfig(paths)).ca : undefined;
  const kept = readIfExists(keptIn);
  if (told !== undefined && told !== kept) writeFileAtomic(keptIn, told, { mode: 0o600, sync: true });
  return told ?? kept;
}
