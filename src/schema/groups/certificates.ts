/** certificates.k8s.io/v1. */
import type { CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest } from '#api/certificates.v1.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import {
  agelessColumns,
  column,
  defineKind,
  pathText,
  shortDuration,
  statusSubresource,
  metadataFields,
} from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  validatePodCertificateRequest,
  validatePodCertificateStatus,
  validateTrustBundle,
} from '../validate-certificates.ts';
import { validateCertificateRequest, validateRequestPart } from '../validate-signing-request.ts';

function requestCondition(o: CertificateSigningRequest): string {
  const conditions = o.status?.conditions ?? [];
  const out: string[] = [];
  if (conditions.some((c) => c.type === 'Denied')) out.push('Denied');
  else if (conditions.some((c) => c.type === 'Approved')) out.push('Approved');
  if (conditions.some((c) => c.type === 'Failed')) out.push('Failed');
  if (o.status?.certificate) out.push('Issued');
  return out.length === 0 ? 'Pending' : out.join(',');
}

const answers = ['Issued', 'Denied', 'Failed'];
const stateOf = ({ status }: PodCertificateRequest): string =>
  status?.conditions?.findLast(({ type }) => answers.includes(type))?.type ?? 'Pending';
const annotationsText = ({ spec }: PodCertificateRequest): string =>
  Object.entries(spec?.unverifiedUserAnnotations ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(',') || '<none>';

export const certificatesKinds: readonly KindRecord[] = [
  defineKind(kinds.CertificateSigningRequest, {
    unmanaged: ['spec'],
    nameForm: 'any',
    shortNames: ['csr'],
    validate: validateCertificateRequest,
    validateStatus: validateRequestPart('status'),
    subresources: { approval: statusSubresource, status: statusSubresource },
    selectableFields: { 'spec.signerName': pathText('spec.signerName') },
    columns: [
      { name: 'Name', type: 'string', format: 'name', value: (o) => o.metadata.name },
      {
        name: 'Age',
        type: 'string',
        value: (o, now) => shortDuration(now - Date.parse(o.metadata.creationTimestamp ?? '')),
      },
      column('SignerName', (o) => o.spec?.signerName ?? '<none>'),
      column('Requestor', (o) => o.spec?.username ?? ''),
      column('RequestedDuration', (o) =>
        o.spec?.expirationSeconds ? shortDuration(o.spec.expirationSeconds * 1000) : '<none>',
      ),
      column('Condition', requestCondition),
    ],
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate(o, old) {
      o.spec = structuredClone(old.spec);
      resetStatus(o, old);
    },
  }),
  defineKind(kinds.ClusterTrustBundle, {
    needsVersion: true,
    nameForm: 'path',
    selectableFields: { 'spec.signerName': pathText('spec.signerName') },
    columns: agelessColumns<ClusterTrustBundle>(column('SignerName', (o) => o.spec?.signerName || '<none>')),
    validate: validateTrustBundle,
  }),
  defineKind(kinds.PodCertificateRequest, {
    statusKeeps: metadataFields,
    needsVersion: true,
    subresources: { status: statusSubresource },
    selectableFields: {
      'spec.signerName': pathText('spec.signerName'),
      'spec.podName': pathText('spec.podName'),
      'spec.nodeName': pathText('spec.nodeName'),
    },
    columns: agelessColumns<PodCertificateRequest>(
      column('PodName', (o) => o.spec?.podName),
      column('ServiceAccountName', (o) => o.spec?.serviceAccountName),
      column('NodeName', (o) => o.spec?.nodeName),
      column('SignerName', (o) => o.spec?.signerName),
      column('State', stateOf),
      column('UnverifiedUserAnnotations', annotationsText, { wide: true }),
    ),
    validate: validatePodCertificateRequest,
    validateStatus: validatePodCertificateStatus,
    defaults(o) {
      if (o.spec) setDefault(o.spec, 'maxExpirationSeconds', 86_400);
    },
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate(o, old) {
      resetStatus(o, old);
    },
  }),
];
