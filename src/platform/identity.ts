/**
 * Keys and certificates of an instance: the key-ring on disk (mode 0600), and what each process and the user's
 * kubeconfig are given from it.
 */
import { createKeyRing, type KeyRing } from '#apiserver/keys.ts';
import { addressAt, subnetOf } from '#base/ip.ts';
import { issueCertificate, type KeyPair } from '#base/x509.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Instance, NodePlan } from './instance.ts';
import { files, type Paths } from './paths.ts';

export function loadKeyRing(paths: Paths): KeyRing {
  const text = readIfExists(files.keys(paths));
  if (text === undefined) throw new Error(`${files.keys(paths)} is missing`);
  return JSON.parse(text) as KeyRing;
}

export function establishKeyRing(paths: Paths, random: Random, clock: Clock): KeyRing {
  const text = readIfExists(files.keys(paths));
  if (text !== undefined) return JSON.parse(text) as KeyRing;
  const made = createKeyRing(random, clock);
  writeFileAtomic(files.keys(paths), JSON.stringify(made), { sync: true, mode: 0o600 });
  return made;
}

/** First address of the Service range: the API server's own Service. */
function apiServiceAddress(instance: Instance): string {
  return addressAt(subnetOf(instance.serviceRange), 1);
}

/** Where the API server is reached: the names and addresses that its certificate has. */
export interface ServedPlace {
  instance: Instance;
  node: NodePlan;
  hostname: string;
  hostAddresses: string[];
}

export function serverCertificate(
  ring: KeyRing,
  { instance, node, hostname, hostAddresses }: ServedPlace,
  random: Random,
  clock: Clock,
): KeyPair {
  return issueCertificate(
    {
      commonName: 'kube-apiserver',
      server: true,
      dnsNames: [
        'localhost',
        hostname,
        'kubernetes',
        'kubernetes.default',
        'kubernetes.default.svc',
        `kubernetes.default.svc.${instance.domain}`,
      ],
      ipAddresses: [...new Set(['127.0.0.1', node.address, apiServiceAddress(instance), ...hostAddresses])],
    },
    ring.ca,
    random,
    clock,
  );
}

export function clientCertificate(
  ring: KeyRing,
  subject: { commonName: string; organizations: string[] },
  random: Random,
  clock: Clock,
): KeyPair {
  return issueCertificate({ ...subject, client: true }, ring.ca, random, clock);
}

export interface KubeconfigContent {
  server: string;
  /** PEM. */
  ca: string;
  user: KeyPair | { token: string };
}

export function kubeconfigText({ server, ca, user }: KubeconfigContent): string {
  const data = (text: string): string => Buffer.from(text).toString('base64');
  const credential =
    'token' in user
      ? `token: ${user.token}`
      : `client-certificate-data: ${data(user.certificatePem)}\n    client-key-data: ${data(user.keyPem)}`;
  return `apiVersion: v1
kind: Config
clusters:
- name: tiphys
  cluster:
    server: ${server}
    certificate-authority-data: ${data(ca)}
users:
- name: tiphys
  user:
    ${credential}
contexts:
- name: tiphys
  context:
    cluster: tiphys
    user: tiphys
current-context: tiphys
`;
}
