/**
 * The member of the cluster's own etcd that runs on a server's machine: its program, certificates and configuration.
 * The program is the user's (a package of the distribution, or `--etcd-binary`); its process is a part like the others
 * (`launch.ts`). Members and servers know each other by certificates of an authority that signs nothing else and whose
 * key is in the key-ring, so that each server makes its own.
 *
 * Once its data is there, etcd goes by that and not by what the configuration says of the cluster (etcd documentation,
 * "Clustering"): the configuration is written once, before the first start.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { trustedAuthorities, type KeyRing } from '#apiserver/keys.ts';
import { ApiError } from '#base/errors.ts';
import { joinHostPort } from '#base/ip.ts';
import { createCertificateAuthority, issueCertificate, renewCertificateAuthority, type KeyPair } from '#base/x509.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { EtcdChoice } from '../cluster-store.ts';
import { writeKeyRing } from '../identity.ts';
import type { EtcdMember } from '../instance.ts';
import { etcdElectionMs, etcdHeartbeatMs, etcdQuotaBytes, renewalPartMin } from '../limits.ts';
import { timeOf } from '../managed-certificate.ts';
import { files, makeDirectory, privateMode, type Paths } from '../paths.ts';

export const etcdPorts = { client: 2379, peer: 2380 } as const;

interface Means {
  random: Random;
  clock: Clock;
}

/** Path of etcd's program. Throws with what to type where there is none. */
export function findEtcd(said: string | undefined): string {
  const found = said ?? linuxProcesses.find('etcd');
  if (found === undefined)
    throw new ApiError(
      'NotFound',
      "several servers keep the cluster's state in etcd, and this machine has no etcd: 'apt-get install etcd-server' brings it (its own service is not used: 'systemctl disable --now etcd'), or --etcd-binary FILE names the program",
    );
  try {
    accessSync(found, constants.X_OK);
  } catch (cause) {
    const error = new ApiError('BadRequest', `--etcd-binary: ${found} is no program that can be run`);
    error.cause = cause;
    throw error;
  }
  return found;
}

/** Of the member's clients, and of its fellows. */
export function clientUrl({ address, clientPort }: EtcdMember): string {
  return `https://${joinHostPort(address, String(clientPort))}`;
}

export function peerUrl({ address, peerPort }: EtcdMember): string {
  return `https://${joinHostPort(address, String(peerPort))}`;
}

const pkiOf = (paths: Paths) => ({
  ca: join(files.etcd(paths), 'pki', 'ca.crt'),
  certificate: join(files.etcd(paths), 'pki', 'member.crt'),
  key: join(files.etcd(paths), 'pki', 'member.key'),
});

/** The cluster's own etcd, as a server of this machine reaches it. */
export function ownEtcd(paths: Paths, endpoints: string[]): EtcdChoice {
  const { ca, certificate, key } = pkiOf(paths);
  return { endpoints, cafile: ca, certfile: certificate, keyfile: key };
}

/** The ring with an authority for etcd, kept before anybody uses it; renewed, with its key, while there is time. */
export function withEtcdAuthority(paths: Paths, ring: KeyRing, { random, clock }: Means): KeyRing & { etcd: KeyPair } {
  const { etcd = createCertificateAuthority('tiphys-etcd-ca', random, clock) } = ring;
  const isOld = clock.now() >= timeOf(etcd, renewalPartMin);
  const made = { ...ring, etcd: isOld ? renewCertificateAuthority(etcd, random, clock) : etcd };
  if (made.etcd !== ring.etcd) writeKeyRing(paths, made);
  return made;
}

/**
 * Makes what is missing, or old, of the member's certificate. etcd reads certificate and key at each connection, and
 * whom it believes when it begins (`knowsAuthorities`).
 */
export function keepEtcdCertificate(
  paths: Paths,
  { address, name }: EtcdMember,
  ring: KeyRing,
  { random, clock }: Means,
): void {
  const { etcd: authority } = ring;
  if (authority === undefined) throw new Error('the ring has no authority of etcd');
  const at = pkiOf(paths);
  const trusted = trustedAuthorities(ring, 'etcd');
  const kept = readIfExists(at.certificate);
  const isGood =
    kept !== undefined &&
    readIfExists(at.key) !== undefined &&
    readIfExists(at.ca) === trusted &&
    clock.now() < timeOf({ certificatePem: kept }, renewalPartMin);
  if (isGood) return;
  makeDirectory(files.etcd(paths), privateMode);
  makeDirectory(join(files.etcd(paths), 'pki'), privateMode);
  // Servers, members and etcd's own gateway show it to members: of each it is both.
  const request = {
    commonName: `tiphys-etcd:${name}`,
    dnsNames: ['localhost'],
    ipAddresses: ['127.0.0.1', address],
    server: true,
    client: true,
  };
  const { certificatePem, keyPem } = issueCertificate(request, authority, random, clock);
  const options = { mode: 0o600, sync: true };
  writeFileAtomic(at.key, keyPem, options);
  writeFileAtomic(at.certificate, certificatePem, options);
  // Last: while it is another one, the other files are made again.
  writeFileAtomic(at.ca, trusted, options);
}

/** Whether the member of this machine, if there is one that runs, has begun with the authorities that hold now. */
export function knowsAuthorities(paths: Paths): boolean {
  const [since, begun] = [pkiOf(paths).ca, join(files.processes(paths), 'etcd.pid')].map((path) =>
    existsSync(path) ? statSync(path).mtimeMs : undefined,
  );
  return since === undefined || begun === undefined || begun > since;
}

/** What the member holds at most, as its configuration has it. */
export function quotaOf(paths: Paths): number {
  const bytes = readConfig(paths)['quota-backend-bytes'];
  return typeof bytes === 'number' ? bytes : etcdQuotaBytes;
}

const forced = 'force-new-cluster';

/**
 * Whether etcd begins as the only member with the state that it has, whatever members there were. Only until it has
 * done so once: it would drop those that come later.
 */
export function setForced(paths: Paths, isForced: boolean): void {
  const { [forced]: before, ...config } = readConfig(paths);
  if ((before === true) === isForced) return;
  const text = JSON.stringify({ ...config, ...(isForced ? { [forced]: true } : {}) }, null, 2);
  writeFileAtomic(files.etcdConfig(paths), `${text}\n`, { mode: 0o600, sync: true });
}

export function isForced(paths: Paths): boolean {
  return readConfig(paths)[forced] === true;
}

function readConfig(paths: Paths): JsonObject {
  const config: unknown = JSON.parse(readIfExists(files.etcdConfig(paths)) ?? '{}');
  return isObject(config) ? config : {};
}

export interface EtcdCluster {
  /** `NAME=PEER-URL`, of all members, this one among them. */
  initial: string[];
  state: 'new' | 'existing';
  /** Of a new one: like no other's. */
  token?: string;
}

/** What etcd is started with (etcd documentation, "Configuration file"); JSON is YAML. */
export function writeEtcdConfig(paths: Paths, member: EtcdMember, { initial, state, token }: EtcdCluster): void {
  const { ca, certificate, key } = pkiOf(paths);
  const security = { 'cert-file': certificate, 'key-file': key, 'client-cert-auth': true, 'trusted-ca-file': ca };
  const config = {
    name: member.name,
    'data-dir': join(files.etcd(paths), 'data'),
    // Before 3.5 a configuration file without it turned it off.
    'enable-grpc-gateway': true,
    'listen-client-urls': clientUrl(member),
    'advertise-client-urls': clientUrl(member),
    'listen-peer-urls': peerUrl(member),
    'initial-advertise-peer-urls': peerUrl(member),
    'initial-cluster': initial.join(','),
    'initial-cluster-state': state,
    // Members of a cluster that was before on these machines must not be taken for ones of this.
    ...(token === undefined ? {} : { 'initial-cluster-token': token }),
    'heartbeat-interval': etcdHeartbeatMs,
    'election-timeout': etcdElectionMs,
    'quota-backend-bytes': etcdQuotaBytes,
    'client-transport-security': security,
    'peer-transport-security': security,
    logger: 'zap',
    'log-outputs': ['stderr'],
    'log-level': 'warn',
  };
  writeFileAtomic(files.etcdConfig(paths), `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600, sync: true });
}
