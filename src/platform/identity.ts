/**
 * Keys and certificates of an instance: the key-ring on disk (mode 0600), and what each process and the user's
 * kubeconfig are given from it.
 */
import { createKeyRing, frontProxyAuthority, trustedAuthorities, type KeyRing } from '#apiserver/keys.ts';
import { addressAt, isIp, subnetOf } from '#base/ip.ts';
import {
  createCertificateAuthority,
  issueCertificate,
  renewCertificateAuthority,
  type CertificateRequest,
  type KeyPair,
} from '#base/x509.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Instance, NodePlan } from './instance.ts';
import { renewalPartMin } from './limits.ts';
import { ManagedCertificate, timeOf, type CertificateNames } from './managed-certificate.ts';
import { files, type Paths } from './paths.ts';

interface Means {
  random: Random;
  clock: Clock;
}

/** The key-ring; its authority is renewed, with its key, while there is time for everybody to learn of it. */
export function loadKeyRing(paths: Paths, { random, clock }: Means): KeyRing {
  const text = readIfExists(files.keys(paths));
  if (text === undefined) throw new Error(`${files.keys(paths)} is missing`);
  const kept = JSON.parse(text) as Omit<KeyRing, 'frontProxy'> & { frontProxy?: KeyPair };
  // Rings of before aggregation have no authority for it.
  const { frontProxy = createCertificateAuthority(frontProxyAuthority, random, clock) } = kept;
  const ring: KeyRing = { ...kept, frontProxy };
  const old = (['ca', 'frontProxy'] as const).filter((name) => clock.now() >= timeOf(ring[name], renewalPartMin));
  if (old.length === 0 && kept.frontProxy !== undefined) return ring;
  for (const name of old) ring[name] = renewCertificateAuthority(ring[name], random, clock);
  return writeKeyRing(paths, ring);
}

export function establishKeyRing(paths: Paths, means: Means): KeyRing {
  return readIfExists(files.keys(paths)) === undefined
    ? writeKeyRing(paths, createKeyRing(means.random, means.clock))
    : loadKeyRing(paths, means);
}

export function writeKeyRing(paths: Paths, ring: KeyRing): KeyRing {
  writeFileAtomic(files.keys(paths), JSON.stringify(ring), { sync: true, mode: 0o600 });
  return ring;
}

/** First address of the Service range: the API server's own Service. */
function apiServiceAddress(instance: Instance): string {
  return addressAt(subnetOf(instance.serviceRange), 1);
}

/** What the API server is called by its clients. */
export function serverNames(
  instance: Instance,
  node: NodePlan,
  hostname: string,
  hostAddresses: string[],
): CertificateNames {
  // Where other machines reach this one may be a name, or an address that is translated on the way.
  const said = instance.address === undefined ? [] : [instance.address];
  const isName = said.some((each) => !isIp(each));
  return {
    commonName: 'kube-apiserver',
    dnsNames: [
      'localhost',
      hostname,
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      `kubernetes.default.svc.${instance.domain}`,
      ...(isName ? said : []),
    ],
    ipAddresses: [
      ...new Set(['127.0.0.1', node.address, apiServiceAddress(instance), ...hostAddresses, ...(isName ? [] : said)]),
    ],
  };
}

/** A certificate of who has the authority's key: signed here, at once, and again before it ends. */
export function ownCertificate(
  authority: KeyPair,
  request: CertificateRequest,
  { random, clock, log }: Means & { log: Logger },
): ManagedCertificate {
  return new ManagedCertificate({
    names: request,
    ca: () => authority.certificatePem,
    obtain: async () => issueCertificate(request, authority, random, clock),
    clock,
    random,
    log,
  });
}

/** Whether the user's kubeconfig is there, and its certificate and the authority's have enough of their time left. */
export function holdsAdminConfig(paths: Paths, clock: Clock): boolean {
  const path = files.adminConfig(paths);
  if (readIfExists(path) === undefined) return false;
  const { ca, certificate } = loadKubeconfig(path);
  return [ca, certificate].every(
    (certificatePem) => certificatePem !== undefined && clock.now() < timeOf({ certificatePem }, renewalPartMin),
  );
}

/** The user's kubeconfig knows the authorities of now, and is known by them. */
export function followInAdminConfig(paths: Paths, instance: Instance, ring: KeyRing, means: Means): void {
  const path = files.adminConfig(paths);
  const isCurrent = readIfExists(path) !== undefined && loadKubeconfig(path).ca === trustedAuthorities(ring, 'ca');
  if (!isCurrent) writeAdminConfig(paths, instance, ring, means);
}

export function writeAdminConfig(
  paths: Paths,
  { apiPort }: Pick<Instance, 'apiPort'>,
  ring: KeyRing,
  { random, clock }: Means,
): void {
  const request = { commonName: 'tiphys-admin', organizations: ['system:masters'], client: true };
  const text = kubeconfigText({
    server: `https://127.0.0.1:${apiPort}`,
    ca: trustedAuthorities(ring, 'ca'),
    user: issueCertificate(request, ring.ca, random, clock),
  });
  writeFileAtomic(files.adminConfig(paths), text, { mode: 0o600 });
}

export interface KubeconfigContent {
  server: string;
  /** PEM. */
  ca: string;
  /** Absent: a cluster and nobody, as in `cluster-info`. */
  user?: KeyPair | { token: string };
}

export function kubeconfigText({ server, ca, user }: KubeconfigContent): string {
  const data = (text: string): string => Buffer.from(text).toString('base64');
  const credential =
    user === undefined
      ? '{}'
      : 'token' in user
        ? `\n    token: ${user.token}`
        : `\n    client-certificate-data: ${data(user.certificatePem)}\n    client-key-data: ${data(user.keyPem)}`;
  return `apiVersion: v1
kind: Config
clusters:
- name: tiphys
  cluster:
    server: ${server}
    certificate-authority-data: ${data(ca)}
users:
- name: tiphys
  user: ${credential}
contexts:
- name: tiphys
  context:
    cluster: tiphys
    user: tiphys
current-context: tiphys
`;
}
