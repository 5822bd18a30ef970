/** Validation of certificate requests, of what is said of them, and of the certificates that they are given. */
import { X509Certificate } from 'node:crypto';
import type { CertificateSigningRequest, CertificateSigningRequestCondition } from '#api/certificates.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { RequestError, parseCertificationRequest } from '#base/certificate-request.ts';
import type { FieldErrors } from './field-errors.ts';
import { validateSignerName } from './validate-certificates.ts';
import { sameJson } from './validate-values.ts';

const requestBytesMax = 65_536;
const keyUsages = [
  'any',
  'cert sign',
  'client auth',
  'code signing',
  'content commitment',
  'crl sign',
  'data encipherment',
  'decipher only',
  'digital signature',
  'email protection',
  'encipher only',
  'ipsec end system',
  'ipsec tunnel',
  'ipsec user',
  'key agreement',
  'key encipherment',
  'microsoft sgc',
  'netscape sgc',
  'ocsp signing',
  's/mime',
  'server auth',
  'signing',
  'timestamping',
];

/** A certificate request must be one, by whoever holds its key, for a named signer. */
export function validateCertificateRequest(
  o: Draft<CertificateSigningRequest>,
  errors: FieldErrors,
  old?: CertificateSigningRequest,
): void {
  const spec = o.spec ?? {};
  validateConditions(o, old, errors);
  if (old !== undefined) {
    if (!sameJson(spec, old.spec)) errors.invalid('spec', spec, 'field is immutable');
    return;
  }
  if ((spec.request ?? '').length > requestBytesMax) errors.tooLong('spec.request', requestBytesMax);
  else {
    try {
      parseCertificationRequest(Buffer.from(spec.request ?? '', 'base64').toString());
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      errors.invalid('spec.request', spec.request ?? '', error.message);
    }
  }
  const usages = spec.usages ?? [];
  if (usages.length === 0) errors.required('spec.usages');
  usages.forEach((usage, i) => {
    if (!keyUsages.includes(usage)) errors.unsupported(`spec.usages[${i}]`, usage, keyUsages);
  });
  usages.forEach((usage, i) => {
    if (usages.indexOf(usage) < i) errors.duplicate(`spec.usages[${i}]`, usage);
  });
  validateSignerName(spec.signerName, 'spec.signerName', errors);
  if (spec.expirationSeconds !== undefined && spec.expirationSeconds < 600)
    errors.invalid(
      'spec.expirationSeconds',
      spec.expirationSeconds,
      'may not specify a duration less than 600 seconds (10 minutes)',
    );
}

const statuses = ['False', 'True', 'Unknown'];
/** Conditions that stay once they are there, and say nothing but yes. */
const verdicts = ['Approved', 'Denied', 'Failed'];

type Conditions = Draft<CertificateSigningRequestCondition>[];

/** What was wrong before may stay. */
function validateConditions(
  { status }: Draft<CertificateSigningRequest>,
  old: CertificateSigningRequest | undefined,
  errors: FieldErrors,
): void {
  const at = 'status.conditions';
  const [now, before]: [Conditions, Conditions] = [status?.conditions ?? [], old?.status?.conditions ?? []];
  const had = new Set(before.map(({ type = '' }) => type));
  const hadBoth = had.has('Approved') && had.has('Denied');
  const hadDoubles = had.size < before.length;
  const seen = new Set<string>();
  now.forEach(({ type = '', status: value = '' }, i) => {
    if (type === '' && !had.has('')) errors.required(`${at}[${i}].type`);
    const allowed = verdicts.includes(type) ? ['True'] : statuses;
    if (value === '') errors.required(`${at}[${i}].status`);
    else if (!allowed.includes(value)) errors.unsupported(`${at}[${i}].status`, value, allowed);
    const other = type === 'Approved' ? 'Denied' : type === 'Denied' ? 'Approved' : '';
    if (!hadBoth && other !== '' && seen.has(other))
      errors.invalid(at, type, 'Approved and Denied conditions are mutually exclusive');
    if (!hadDoubles && seen.has(type)) errors.duplicate(`${at}[${i}].type`, type);
    seen.add(type);
  });
}

/** What a subresource may do: say whether the request is granted, or give the certificate. */
type Part = 'approval' | 'status';

/** Of the subresources. */
export function validateRequestPart(part: Part) {
  return (o: Draft<CertificateSigningRequest>, old: CertificateSigningRequest, errors: FieldErrors): void => {
    const at = 'status.conditions';
    validateConditions(o, old, errors);
    validateCertificate(o, old, part, errors);
    for (const type of verdicts) {
      const of = (list: Conditions | undefined): Conditions => (list ?? []).filter((one) => one.type === type);
      const [now, before] = [of(o.status?.conditions), of(old.status?.conditions)];
      if (now.length < before.length)
        errors.forbidden(at, `updates may not remove a condition of type ${JSON.stringify(type)}`);
      else if (part === 'approval' || type === 'Failed') continue;
      else if (now.length > before.length)
        errors.forbidden(at, `updates may not add a condition of type ${JSON.stringify(type)}`);
      else if (!sameJson(now, before))
        errors.forbidden(at, `updates may not modify a condition of type ${JSON.stringify(type)}`);
    }
  };
}

function validateCertificate(
  o: Draft<CertificateSigningRequest>,
  old: CertificateSigningRequest,
  part: Part,
  errors: FieldErrors,
): void {
  const at = 'status.certificate';
  const [now, before] = [o.status?.certificate ?? '', old.status?.certificate ?? ''];
  if (now === before) return;
  const problem = certificateProblem(now);
  if (problem !== '' && certificateProblem(before) === '') errors.invalid(at, '<certificate data>', problem);
  if (part === 'approval') errors.forbidden(at, 'updates may not set certificate content');
  else if (before !== '') errors.forbidden(at, 'updates may not modify existing certificate content');
}

const block = /-----BEGIN ([^-\n]*)-----\r?\n([\s\S]*?)-----END \1-----/g;

/** What is wrong with certificates in PEM, as they are kept (base64 of the text), or ''. */
function certificateProblem(data: string): string {
  if (data === '') return '';
  let count = 0;
  for (const [text, type, body = ''] of Buffer.from(data, 'base64').toString('latin1').matchAll(block)) {
    if (type !== 'CERTIFICATE') return `only CERTIFICATE PEM blocks are allowed, found ${JSON.stringify(type)}`;
    if (/^[\w-]+:/m.test(body)) return 'no PEM block headers are permitted';
    try {
      new X509Certificate(text);
    } catch {
      return 'x509: malformed certificate';
    }
    count++;
  }
  return count === 0 ? 'must contain at least one CERTIFICATE PEM block' : '';
}
