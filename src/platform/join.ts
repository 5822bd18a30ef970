/**
 * Makes this machine a node of another machine's cluster. In this order, so that whatever ends it, it can be run again:
 *
 * 1. The cluster is found, and its authority checked by the token's hash (`discover.ts`).
 * 2. Clocks, versions and address ranges are compared (`join-checks.ts`).
 * 3. The token gets the node its first certificate, which is kept at once; it is not needed any more.
 * 4. The node makes its Node object, and the control plane gives it a Pod range.
 * 5. All that is written down as the instance of this machine: from here on it is a node, and `up` starts it.
 *
 * Nothing of the control plane runs here, and none of its keys are, unless it joins as a further server: then it is
 * given them after the second step, and becomes a member of etcd before the last (`etcd/join-server.ts`).
 */
import { createHash, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import type { Node } from '#api/core.v1.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { joinHostPort } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { clusterConfig, machineAnnotations, nodeGroup, nodeSigners, nodeUserPrefix } from '#base/node-identity.ts';
import type { KeyPair } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import type { Transport } from '#client/transport.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport, type HttpTransportOptions } from '#client/transport-http.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { readClusterConfig, type ClusterConfig } from './cluster-config.ts';
import { discoverCluster, type Discovery } from './discover.ts';
import { askAdmission, becomeServer, type Admitted } from './etcd/join-server.ts';
import { findEtcd } from './etcd/member.ts';
import { hostName, portIsFree, usedSubnets } from './host.ts';
import { loadInstance, saveInstance, type Instance } from './instance.ts';
import { clockProblem, formatProblem, rangeProblem, versionProblem } from './join-checks.ts';
import { authorityHashesOf, parseJoinToken } from './join-token.ts';
import { podRangeMsMax, podRangeStepMs } from './limits.ts';
import { setLocalNodes } from './local-nodes.ts';
import { ManagedCertificate, requestCertificate, type CertificateNames } from './managed-certificate.ts';
import { files, makeDirectory, privateMode, type Paths } from './paths.ts';
import { kubernetesVersion, tiphysVersion } from './version.ts';
import { withLock } from './up.ts';

export interface JoinOptions {
  /** `https://HOST:PORT`, as `tiphys token create` prints it. */
  server: string;
  /** `ID.SECRET@sha256:HASH`. */
  token: string;
  /** Of the node; the host's name when absent. */
  name?: string;
  /** Where other machines reach this one; that on the way to the server when absent. */
  address?: string;
  /** As a further control plane. */
  isServer?: boolean;
  /** etcd's program; the one that is installed when absent. */
  etcdBinary?: string;
}

export interface JoinResult {
  instance: Instance;
  /** It was a node of this cluster before; the server has another address now. */
  hasMoved: boolean;
  /** Of a further server: what the one that took it in said. */
  admitted?: Admitted;
}

/** Resolves when this machine is a node that `up` can start. Throws with the remedy in words. */
export async function joinCluster(paths: Paths, options: JoinOptions): Promise<JoinResult> {
  const server = serverUrl(options.server);
  const { token, authorityHash } = parseJoinToken(options.token);
  return withLock(paths, async () => {
    const kept = loadInstance(paths);
    if (kept !== undefined && kept.joined?.hasLeft !== true)
      return alreadyMember(paths, kept, { server, authorityHash, isServer: options.isServer === true });
    if (options.isServer === true) findEtcd(options.etcdBinary);
    const found = await discoverCluster(server, authorityHash);
    refuse(clockProblem(realClock.now(), found.serverMs));
    await using stack = new AsyncDisposableStack();
    const dial = (means: Partial<HttpTransportOptions>): Transport => {
      const userAgent = `tiphys-join/${tiphysVersion()}`;
      return stack.use(createHttpTransport({ server, ca: found.ca, userAgent, clock: realClock, ...means }));
    };
    const connect = (means: Partial<HttpTransportOptions>): Client => createClient(dial(means), 'tiphys-join');
    const name = options.name ?? hostName();
    const admitted = options.isServer === true ? await askAdmission(dial({ token }), name) : undefined;
    const pair = await firstCertificate(paths, found, name, () => connect({ token }));
    const node = connect({ certificate: pair.certificatePem, key: pair.keyPem });
    const config = readClusterConfig(await node.get(kinds.ConfigMap, clusterConfig.name, clusterConfig.namespace));
    await checkFit(config);
    const address = options.address ?? found.localAddress;
    const podRange = await establishNode(node, { name, address, identity: identityOf(pair) });
    const asNode = instanceOf({ kept, server, name, address, podRange, config });
    const instance = admitted === undefined ? asNode : await asServer(paths, { asNode, admitted, options });
    setLocalNodes(paths, 1);
    saveInstance(paths, instance);
    return { instance, hasMoved: false, ...(admitted === undefined ? {} : { admitted }) };
  });
}

/** The keys are on this machine from here on. */
async function asServer(
  paths: Paths,
  { asNode, admitted, options }: { asNode: Instance; admitted: Admitted; options: JoinOptions },
): Promise<Instance> {
  const { joined, address = '' } = asNode;
  if (joined === undefined) throw new Error('no node');
  const { etcdBinary } = options;
  return {
    ...asNode,
    ...(await becomeServer(paths, admitted, { name: joined.node, address, etcdBinary })),
    ...(admitted.network === undefined ? {} : { network: admitted.network }),
    ...(etcdBinary === undefined ? {} : { etcdBinary }),
    joined: { ...joined, isServer: true },
  };
}

function refuse(problem: string | undefined): void {
  if (problem !== undefined) throw new ApiError('BadRequest', problem);
}

/** `https://HOST:PORT`; the port of the API server when none is said. */
function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:' || url.hostname === '')
    throw new ApiError('BadRequest', `${JSON.stringify(text)} is not the https:// address of an API server`);
  // A URL leaves out the port that is the scheme's own.
  const port = url.port !== '' ? url.port : /:443(?:\/|$)/.test(text) ? '443' : '6443';
  return `https://${joinHostPort(url.hostname.replace(/^\[(.*)\]$/, '$1'), port)}`;
}

/** A node of the same cluster stays what it is, and follows its server to another address. */
async function alreadyMember(
  paths: Paths,
  kept: Instance,
  { server, authorityHash, isServer }: { server: string; authorityHash: string; isServer: boolean },
): Promise<JoinResult> {
  const { joined } = kept;
  if (isServer && joined !== undefined && joined.isServer !== true)
    throw new ApiError(
      'Conflict',
      `this machine is node ${joined.node} of the cluster of ${joined.server} already: 'tiphys leave', then join as a server`,
    );
  if (joined?.server === server) return { instance: kept, hasMoved: false };
  const known = joined === undefined ? undefined : readIfExists(join(files.nodePki(paths, 1), 'ca.crt'));
  if (joined !== undefined && known !== undefined && authorityHashesOf(known).includes(authorityHash)) {
    await discoverCluster(server, authorityHash);
    const instance = { ...kept, joined: { ...joined, server } };
    saveInstance(paths, instance);
    return { instance, hasMoved: true };
  }
  const what =
    joined === undefined
      ? `has a cluster of its own (${paths.data})`
      : `is node ${joined.node} of the cluster of ${joined.server}`;
  const end = joined === undefined ? 'tiphys down --purge' : 'tiphys leave';
  throw new ApiError(
    'Conflict',
    `this machine ${what}: '${end}' ends that, or TIPHYS_HOME=DIR keeps a second instance beside it`,
  );
}

/** What an earlier try got, or what the token gets. Kept where the node process looks for it. */
async function firstCertificate(
  paths: Paths,
  { ca }: Discovery,
  name: string,
  stranger: () => Client,
): Promise<KeyPair> {
  makeDirectory(paths.data, privateMode);
  const directory = files.nodePki(paths, 1);
  makeDirectory(directory, privateMode);
  const file = join(directory, 'kubelet-client.pem');
  const names: CertificateNames = { commonName: `${nodeUserPrefix}${name}`, organizations: [nodeGroup] };
  const means = { clock: realClock, random: realRandom };
  const ask = { names, signer: nodeSigners.kubeletClient, use: 'client auth' as const, ...means };
  const signal = new AbortController().signal;
  const obtain = (): Promise<KeyPair> => requestCertificate({ ...ask, client: stranger }, signal);
  const held = new ManagedCertificate({ file, names, ca: () => ca, obtain, ...means, log: silentLogger });
  const pair = held.isHeld ? held.pair : await obtain().catch((error: unknown) => Promise.reject(refusalOf(error)));
  writeFileAtomic(join(directory, 'ca.crt'), ca, { mode: 0o600, sync: true });
  writeFileAtomic(file, `${pair.certificatePem}${pair.keyPem}`, { mode: 0o600, sync: true });
  return pair;
}

/** Why the cluster gives no certificate. */
function refusalOf(error: unknown): unknown {
  if (isReason(error, 'Unauthorized'))
    return new ApiError(
      'Unauthorized',
      "the cluster does not know this token (any more): it has expired, was deleted, or was not copied whole. 'tiphys token create' on the server makes a new one",
    );
  const denied = error instanceof Error ? /is Denied: (.*)$/s.exec(error.message)?.[1] : undefined;
  return denied === undefined ? error : new ApiError('Conflict', denied);
}

/** Checked before anything is made here but a certificate, which is of use at the next try. */
async function checkFit(config: ClusterConfig): Promise<void> {
  refuse(versionProblem(kubernetesVersion, config.kubernetesVersion));
  refuse(formatProblem(config));
  const door = createNetworkDoor();
  try {
    refuse(rangeProblem(config, await usedSubnets(door.netlink)));
  } finally {
    await door.close();
  }
}

/** By its first key: a second try on this machine has the same one, another machine has another. */
function identityOf({ certificatePem }: KeyPair): string {
  const key = new X509Certificate(certificatePem).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('hex').slice(0, 32);
}

interface OwnNode {
  name: string;
  address: string;
  identity: string;
}

/** Makes the Node object, and waits for its Pod range. */
async function establishNode(client: Client, { name, address, identity }: OwnNode): Promise<string> {
  const annotations = { [machineAnnotations.address]: address, [machineAnnotations.identity]: identity };
  let node: Node;
  try {
    node = await client.create(kinds.Node, { apiVersion: 'v1', kind: 'Node', metadata: { name, annotations } });
  } catch (error) {
    if (!isReason(error, 'AlreadyExists')) throw error;
    node = await client.get(kinds.Node, name);
    if (node.metadata.annotations?.[machineAnnotations.identity] !== identity)
      throw new ApiError(
        'Conflict',
        `the cluster has a node ${name} already; join under another name (--name), or take that one out first (tiphys remove ${name})`,
      );
  }
  const deadline = realClock.monotonic() + podRangeMsMax;
  while (!node.spec.podCIDR) {
    if (realClock.monotonic() > deadline)
      throw new ApiError(
        'Timeout',
        `the control plane gives node ${name} no Pod range: all are taken ('kubectl describe node ${name}' says so), or its controllers do not run (tiphys status on the server)`,
      );
    await realClock.sleep(podRangeStepMs);
    node = await client.get(kinds.Node, name);
  }
  return node.spec.podCIDR;
}

interface Joined {
  /** What was here before, if this machine has left a cluster. */
  kept: Instance | undefined;
  server: string;
  name: string;
  address: string;
  podRange: string;
  config: ClusterConfig;
}

function instanceOf({ kept, server, name, address, podRange, config }: Joined): Instance {
  const freePort = (first: number, ...others: number[]): number =>
    [first, ...others].find((port) => portIsFree(port)) ?? first;
  const { httpPort, httpsPort } = kept ?? {};
  return {
    format: 0,
    ...(config.level > 0 ? { level: config.level } : {}),
    id: kept?.id ?? Buffer.from(realRandom.bytes(2)).toString('hex'),
    podRange: config.podRange,
    serviceRange: config.serviceRange,
    domain: config.domain,
    apiPort: Number(new URL(server).port || 443),
    registryPort: config.registryPort,
    httpPort: httpPort ?? freePort(80, 8080, 8081, 8082, 8090),
    httpsPort: httpsPort ?? freePort(443, 8443, 8444, 8445, 9443),
    registryMirrors: kept?.registryMirrors ?? [],
    address,
    joined: {
      server,
      node: name,
      podRange,
      serverAddress: config.serverAddress,
      registryPort: config.registryPort,
      volumeDirectory: config.volumeDirectory,
      vxlanId: config.vxlanId,
    },
  };
}
