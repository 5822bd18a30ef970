/**
 * Signs approved CertificateSigningRequests of the cluster's own signers, marks those that may not be signed as failed,
 * and takes old ones away.
 * Spec: Kubernetes documentation, "Certificates and Certificate Signing Requests", "Kubernetes signers".
 */
import type {
  CertificateSigningRequest,
  CertificateSigningRequestCondition,
  CertificateSigningRequestStatus,
} from '#api/certificates.v1.ts';
import { RequestError, parseCertificationRequest } from '#base/certificate-request.ts';
import type { CertificationRequest } from '#base/certificate-request.ts';
import {
  ingressNamePrefix,
  networkGroup,
  networkUserPrefix,
  nodeGroup,
  nodeSigners,
  nodeUserPrefix,
} from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { type KeyPair, signCertificationRequest } from '#base/x509.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { requestApprovedMsMax, requestDeniedMsMax, requestPendingMsMax } from './limits.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent } from './runtime.ts';

const year = 365 * 86_400;
const clientUsages = ['client auth', 'digital signature', 'key encipherment'];
const kubeletClientUsages = [
  ['client auth', 'digital signature'],
  ['client auth', 'digital signature', 'key encipherment'],
];
const kubeletServingUsages = [
  ['digital signature', 'server auth'],
  ['digital signature', 'key encipherment', 'server auth'],
];
const legacyUsages = [
  'client auth',
  'code signing',
  'content commitment',
  'data encipherment',
  'digital signature',
  'email protection',
  'key agreement',
  'key encipherment',
  'ocsp signing',
  'server auth',
  'signing',
  'timestamping',
];

const isSame = (usages: readonly string[], allowed: readonly string[][]): boolean =>
  allowed.some((list) => [...new Set(usages)].sort().join() === list.join());

/** Why a signer does not sign a request; '' when it does. Undefined: it is none of the cluster's signers. */
export function signerProblem(
  signer: string,
  request: CertificationRequest,
  usages: readonly string[],
): string | undefined {
  const isNode = request.organizations.join() === nodeGroup && request.commonName.startsWith(nodeUserPrefix);
  switch (signer) {
    case 'kubernetes.io/kube-apiserver-client':
      if (!usages.includes('client auth')) return 'usages must include client auth';
      return usages.every((usage) => clientUsages.includes(usage))
        ? ''
        : `usages did not match ${clientUsages.join(', ')}`;
    case nodeSigners.kubeletClient:
      if (!isNode)
        return 'subject organization is not system:nodes or subject common name does not begin with system:node:';
      if (request.altNames !== undefined) return 'alternative names are not allowed';
      return isSame(usages, kubeletClientUsages) ? '' : "usages did not match those of a kubelet's client certificate";
    case nodeSigners.kubeletServing:
      if (!isNode)
        return 'subject organization is not system:nodes or subject common name does not begin with system:node:';
      if (request.dnsNames.length + request.ipAddresses.length === 0) return 'DNS or IP subjectAltName is required';
      if (request.otherNames > 0) return 'email and URI subjectAltNames are not allowed';
      return isSame(usages, kubeletServingUsages)
        ? ''
        : "usages did not match those of a kubelet's serving certificate";
    case nodeSigners.networkClient:
      if (request.organizations.join() !== networkGroup || !request.commonName.startsWith(networkUserPrefix))
        return `subject organization is not ${networkGroup} or common name does not begin with ${networkUserPrefix}`;
      if (request.altNames !== undefined) return 'alternative names are not allowed';
      return isSame(usages, kubeletClientUsages) ? '' : "usages did not match those of a client's certificate";
    case nodeSigners.ingressServing:
      if (request.organizations.length > 0 || !request.commonName.startsWith(ingressNamePrefix))
        return 'subject is not that of an Ingress';
      if (request.otherNames > 0) return 'email and URI subjectAltNames are not allowed';
      return isSame(usages, kubeletServingUsages) ? '' : "usages did not match those of a server's certificate";
    case 'kubernetes.io/legacy-unknown':
      return usages.every((usage) => legacyUsages.includes(usage)) ? '' : 'usages of an authority are not allowed';
    default:
      return undefined;
  }
}

const conditionOf = (csr: CertificateSigningRequest, type: string): CertificateSigningRequestCondition | undefined =>
  csr.status?.conditions?.find((condition) => condition.type === type && condition.status !== 'False');

/** When a request is taken away: an hour after it was decided, a day after it was made. */
export function removalMs(csr: CertificateSigningRequest): number {
  const made = Date.parse(csr.metadata.creationTimestamp ?? '');
  const decided = (type: string): number =>
    Date.parse(
      conditionOf(csr, type)?.lastUpdateTime ??
        conditionOf(csr, type)?.lastTransitionTime ??
        csr.metadata.creationTimestamp,
    );
  if (conditionOf(csr, 'Denied') !== undefined) return decided('Denied') + requestDeniedMsMax;
  if (conditionOf(csr, 'Approved') !== undefined) return decided('Approved') + requestApprovedMsMax;
  return made + requestPendingMsMax;
}

/** The status that a request shall have; undefined where there is nothing to do. */
export function planSigning(
  csr: CertificateSigningRequest,
  ca: KeyPair,
  context: Pick<ControllerContext, 'random' | 'clock'>,
): CertificateSigningRequestStatus | undefined {
  const { spec, status } = csr;
  if (
    conditionOf(csr, 'Approved') === undefined ||
    conditionOf(csr, 'Denied') !== undefined ||
    conditionOf(csr, 'Failed') !== undefined ||
    status?.certificate
  )
    return undefined;
  const failed = (reason: string, message: string): CertificateSigningRequestStatus => {
    const now = timestamp(context.clock.now());
    return {
      ...status,
      conditions: [
        ...(status?.conditions ?? []),
        { type: 'Failed', status: 'True', reason, message, lastUpdateTime: now, lastTransitionTime: now },
      ],
    };
  };
  const isOurs =
    signerProblem(
      spec.signerName,
      {
        subject: new Uint8Array(),
        commonName: '',
        organizations: [],
        publicKeyInfo: new Uint8Array(),
        keyKind: { type: '' },
        altNames: undefined,
        dnsNames: [],
        ipAddresses: [],
        otherNames: 0,
      },
      [],
    ) !== undefined;
  if (!isOurs) return undefined;
  try {
    const request = parseCertificationRequest(Buffer.from(spec.request ?? '', 'base64').toString());
    const problem = signerProblem(spec.signerName, request, spec.usages ?? [])!;
    if (problem !== '') return failed('SignerValidationFailed', problem);
    const seconds = Math.min(year, Math.max(600, spec.expirationSeconds ?? year));
    const certificate = signCertificationRequest(
      request,
      { usages: spec.usages ?? [], seconds, ca },
      context.random,
      context.clock,
    );
    return { ...status, certificate: Buffer.from(certificate).toString('base64') };
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    return failed(
      'SignerValidationFailed',
      `unable to parse csr ${JSON.stringify(csr.metadata.name)}: ${error.message}`,
    );
  }
}

export function startCertificateSigner(context: ControllerContext, ca: KeyPair): Controller {
  const requests = context.informers.informer(kinds.CertificateSigningRequest);
  const queue = createQueue(context, 'certificate-signer', async (key) => {
    const csr = requests.get(key);
    if (csr === undefined || csr.metadata.deletionTimestamp !== undefined) return undefined;
    const leftMs = removalMs(csr) - context.clock.now();
    if (leftMs <= 0) {
      await deleteIfPresent(context, kinds.CertificateSigningRequest, csr);
      return undefined;
    }
    const status = planSigning(csr, ca, context);
    if (status !== undefined)
      await context.client.update(kinds.CertificateSigningRequest, { ...csr, status }, { subresource: 'status' });
    return { requeueAfterMs: leftMs };
  });
  const enqueue = (csr: CertificateSigningRequest): void => queue.add(keyOf(csr));
  requests.addHandler({ added: enqueue, updated: enqueue });
  return { name: 'certificate-signer', queues: [queue] };
}
