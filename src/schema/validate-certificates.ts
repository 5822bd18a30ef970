/**
 * Validation of what certificates are about: names of signers, ClusterTrustBundles, PodCertificateRequests and their
 * answers, and the projected volumes that show them (Kubernetes documentation, "Certificates and Certificate Signing
 * Requests"; API reference, `certificates.k8s.io/v1`).
 */
import type { ClusterTrustBundle, PodCertificateRequest, PodCertificateRequestStatus } from '#api/certificates.v1.ts';
import type { ClusterTrustBundleProjection, PodCertificateProjection } from '#api/core.v1.ts';
import type { Condition } from '#api/meta.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { decodeCertificationRequest, RequestError, SignatureError } from '#base/certificate-request.ts';
import type { CertificationRequest, KeyKind } from '#base/certificate-request.ts';
import { pemBlocks, readCertificate } from '#base/certificates.ts';
import type { CertificateFacts } from '#base/certificates.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import {
  annotationsBytesMax,
  certificateChainBytesMax,
  certificateSecondsMax,
  certificateSecondsMin,
  conditionMessageBytesMax,
  conditionReasonBytesMax,
  ownCertificateSecondsMax,
  podRequestBytesMax,
  trustBundleBytesMax,
} from './limits.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { sameJson, validateLocalPath } from './validate-values.ts';

/** A signer is named `DOMAIN/PATH`: a domain of two labels or more, a path of subdomains. */
export function validateSignerName(name: string | undefined, at: string, errors: FieldErrors): void {
  if (!name) return errors.required(at);
  const [domain = '', path = '', ...rest] = name.split('/');
  if (rest.length > 0 || !name.includes('/'))
    return errors.invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
  if (domain.length > 253) errors.tooLong(at, 253);
  const labels = domain.split('.');
  for (const [part, list, problemOf] of [
    [domain, labels, labelProblem],
    [path, path.split('.'), subdomainProblem],
  ] as const) {
    const bad = list.find((label) => problemOf(label) !== '');
    if (bad !== undefined) errors.invalid(at, part, `validating label ${JSON.stringify(bad)}: ${problemOf(bad)}`);
  }
  if (labels.length < 2) errors.invalid(at, domain, 'should be a domain with at least two segments separated by dots');
  if (path.length > signerPathBytesMax) errors.tooLong(at, signerPathBytesMax);
}

/** A subdomain, a label and the dot between them. */
const signerPathBytesMax = 253 + 63 + 1;

/** Of a bundle for a signer: `DOMAIN:PATH:NAME`; of any other: a subdomain. */
function bundleNameProblem(name: string, signerName: string): string {
  if (signerName === '')
    return name.includes(':')
      ? 'ClusterTrustBundle without signer name must not have ":" in its name'
      : subdomainProblem(name);
  const prefix = `${signerName.replaceAll('/', ':')}:`;
  return name.startsWith(prefix)
    ? subdomainProblem(name.slice(prefix.length))
    : `ClusterTrustBundle for signerName ${signerName} must be named with prefix ${prefix}`;
}

export function validateTrustBundle(
  o: Draft<ClusterTrustBundle>,
  errors: FieldErrors,
  old: ClusterTrustBundle | undefined,
): void {
  const { signerName = '', trustBundle = '' } = o.spec ?? {};
  const { name = '' } = o.metadata ?? {};
  const problem = bundleNameProblem(name, signerName);
  if (name !== '' && problem !== '') errors.invalid('metadata.name', name, problem);
  if (signerName !== '') validateSignerName(signerName, 'spec.signerName', errors);
  if (old !== undefined && signerName !== (old.spec.signerName ?? ''))
    errors.invalid('spec.signerName', signerName, 'field is immutable');
  if (trustBundle !== old?.spec.trustBundle) validateAnchors(trustBundle, 'spec.trustBundle', errors);
}

/** Certificates of authorities, each once, one at least. */
function validateAnchors(text: string, at: string, errors: FieldErrors): void {
  const invalid = (detail: string): void => errors.invalid(at, '<value omitted>', detail);
  if (Buffer.byteLength(text) > trustBundleBytesMax) return errors.tooLong(at, trustBundleBytesMax);
  const places = new Map<string, number[]>();
  const before = errors.causes.length;
  let index = 0;
  for (const { type, hasHeaders, bytes } of pemBlocks(text)) {
    const i = index++;
    const certificate = type === 'CERTIFICATE' && !hasHeaders ? readCertificate(bytes) : undefined;
    if (type !== 'CERTIFICATE') invalid(`entry ${i} has bad block type: ${type}`);
    else if (hasHeaders) invalid(`entry ${i} has PEM block headers`);
    else if (certificate === undefined) invalid(`entry ${i} does not parse as X.509`);
    else if (!certificate.isAuthority) invalid(`entry ${i} does not have the CA bit set`);
    const key = bytes.toString('base64');
    places.set(key, [...(places.get(key) ?? []), i]);
  }
  if (errors.causes.length > before) return;
  if (places.size === 0) invalid('at least one trust anchor must be provided');
  for (const indices of places.values())
    if (indices.length > 1) invalid(`duplicate trust anchor (indices [${indices.join(' ')}])`);
}

const isOwnSigner = (name: string | undefined): boolean => {
  const domain = (name ?? '').split('/')[0] ?? '';
  return domain === 'kubernetes.io' || domain.endsWith('.kubernetes.io');
};
const longestSeconds = (signer: string | undefined): number =>
  isOwnSigner(signer) ? ownCertificateSecondsMax : certificateSecondsMax;

function validateUserAnnotations(
  annotations: Readonly<Record<string, string>> | undefined,
  at: string,
  errors: FieldErrors,
): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(annotations ?? {})) {
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
    const lower = key.toLowerCase();
    const problems = qualifiedNameProblems(lower);
    if (key === '') errors.required(at);
    else if (problems.length > 0) for (const problem of problems) errors.invalid(at, lower, problem);
    else if (!lower.includes('/')) errors.invalid(at, lower, 'must be a domain-prefixed key (such as "acme.io/foo")');
  }
  if (bytes > annotationsBytesMax) errors.tooLong(at, annotationsBytesMax);
}

const uidBytesMax = 128;

export function validatePodCertificateRequest(
  o: Draft<PodCertificateRequest>,
  errors: FieldErrors,
  old: PodCertificateRequest | undefined,
): void {
  const spec = o.spec ?? {};
  if (old !== undefined) {
    if (!sameJson(spec, old.spec)) errors.invalid('spec', spec, 'field is immutable');
    return;
  }
  validateSignerName(spec.signerName, 'spec.signerName', errors);
  validateUserAnnotations(spec.unverifiedUserAnnotations, 'spec.unverifiedUserAnnotations', errors);
  for (const field of ['podName', 'serviceAccountName', 'nodeName'] as const) {
    const problem = subdomainProblem(spec[field] ?? '');
    if (problem !== '') errors.invalid(`spec.${field}`, spec[field] ?? '', problem);
  }
  for (const field of ['podUID', 'serviceAccountUID', 'nodeUID'] as const) {
    if (!spec[field]) errors.invalid(`spec.${field}`, '', 'must not be empty');
    else if (Buffer.byteLength(spec[field]) > uidBytesMax) errors.tooLong(`spec.${field}`, uidBytesMax);
  }
  const seconds = spec.maxExpirationSeconds;
  const most = longestSeconds(spec.signerName);
  if (seconds === undefined) return errors.required('spec.maxExpirationSeconds', 'must be set');
  if (seconds < certificateSecondsMin || seconds > most)
    errors.invalid('spec.maxExpirationSeconds', seconds, `must be in the range [${certificateSecondsMin}, ${most}]`);
  validateStubRequest(spec.stubPKCS10Request, errors);
}

const stubAt = 'spec.stubPKCS10Request';
const curves = ['prime256v1', 'secp384r1', 'secp521r1'];

function validateStubRequest(text: string | undefined, errors: FieldErrors): void {
  const bytes = Buffer.from(text ?? '', 'base64');
  if (bytes.length === 0) return errors.required(stubAt);
  if (bytes.length > podRequestBytesMax) return errors.tooLong(stubAt, podRequestBytesMax);
  try {
    const problem = keyProblem(decodeCertificationRequest(bytes).keyKind);
    if (problem !== undefined) errors.invalid(stubAt, ...problem);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    const isUnsigned = error instanceof SignatureError;
    errors.invalid(stubAt, '<value omitted>', isUnsigned ? 'invalid signature' : 'must be a valid PKCS#10 CSR');
  }
}

/** The value and the words of what is wrong with a key. */
function keyProblem({ type, curve, bits }: KeyKind): [string, string] | undefined {
  switch (type) {
    case 'ed25519':
      return undefined;
    case 'ec':
      return curves.includes(curve ?? '')
        ? undefined
        : [`curve ${curve}`, 'elliptic public keys must use curve P256, P384, or P521'];
    case 'rsa':
      return bits === 3072 || bits === 4096
        ? undefined
        : [`${bits}-bit modulus`, 'RSA keys must have modulus size 3072 or 4096'];
    default:
      return ['<value omitted>', 'unknown public key type; supported types are Ed25519, ECDSA, and RSA'];
  }
}

const answers = ['Issued', 'Denied', 'Failed'];
const answerOf = (status: Draft<PodCertificateRequestStatus> | undefined): string | undefined =>
  status?.conditions?.find((condition) => answers.includes(condition.type ?? '') && condition.status === 'True')?.type;

/** A request is answered once: issued with a certificate, denied, or failed. */
export function validatePodCertificateStatus(
  o: Draft<PodCertificateRequest>,
  old: PodCertificateRequest,
  errors: FieldErrors,
): void {
  const status = o.status ?? {};
  const before = errors.causes.length;
  validateAnswers(status.conditions ?? [], errors);
  if (errors.causes.length > before) return;
  const changed = !sameJson(status, old.status ?? {});
  if (answerOf(old.status) !== undefined) {
    if (changed)
      errors.invalid('status', '<value omitted>', 'immutable after PodCertificateRequest is issued, denied, or failed');
    return;
  }
  const answer = answerOf(status);
  if (answer === 'Issued') return validateIssued(old, status, errors);
  if (answer !== undefined) {
    const { conditions: _, ...others } = status;
    if (Object.values(others).some((value) => value !== undefined && value !== null && value !== ''))
      errors.invalid(
        'status',
        '<value omitted>',
        'non-condition status fields must be empty when denying or failing the PodCertificateRequest',
      );
    return;
  }
  if (changed)
    errors.invalid(
      'status',
      '<value omitted>',
      'status is immutable unless transitioning to "Issued", "Denied", or "Failed"',
    );
}

function validateAnswers(conditions: readonly Draft<Condition>[], errors: FieldErrors): void {
  let known = 0;
  for (const [i, condition] of conditions.entries()) {
    const at = `status.conditions[${i}]`;
    const type = condition.type ?? '';
    if (!answers.includes(type)) {
      errors.unsupported(`${at}.type`, type, answers);
      continue;
    }
    if (++known > 1)
      errors.invalid(
        `${at}.type`,
        type,
        'There may be at most one condition with type "Issued", "Denied", or "Failed"',
      );
    if (condition.status !== 'True') errors.unsupported(`${at}.status`, condition.status, ['True']);
    if (!condition.lastTransitionTime) errors.required(`${at}.lastTransitionTime`);
    const { reason = '', message = '' } = condition;
    if (reason === '') errors.required(`${at}.reason`);
    else if (Buffer.byteLength(reason) > conditionReasonBytesMax)
      errors.tooLong(`${at}.reason`, conditionReasonBytesMax);
    else if (!/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/.test(reason))
      errors.invalid(
        `${at}.reason`,
        reason,
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
      );
    if (Buffer.byteLength(message) > conditionMessageBytesMax)
      errors.tooLong(`${at}.message`, conditionMessageBytesMax);
  }
}

const chainAt = 'status.certificateChain';
const timeOf = (value: string | null | undefined): number => Date.parse(value ?? '');

function validateIssued(
  { spec }: PodCertificateRequest,
  status: Draft<PodCertificateRequestStatus>,
  errors: FieldErrors,
): void {
  const chain = status.certificateChain ?? '';
  const wrong = (detail: string): void => errors.invalid(chainAt, chain, detail);
  if (Buffer.byteLength(chain) > certificateChainBytesMax) return errors.tooLong(chainAt, certificateChainBytesMax);
  const [first, ...others] = pemBlocks(chain);
  if (first === undefined) return wrong('issued certificate chain must contain at least one certificate');
  if ([first, ...others].some(({ type }) => type !== 'CERTIFICATE'))
    return wrong('issued certificate chain must consist entirely of CERTIFICATE PEM blocks');
  const leaf = readCertificate(first.bytes);
  if (leaf === undefined) return wrong('leaf certificate does not parse as valid X.509');
  if (others.some(({ bytes }) => readCertificate(bytes) === undefined))
    return wrong('intermediate certificate does not parse as valid X.509');
  const before = errors.causes.length;
  validateLeafNames(leaf, errors);
  if (!requestOf(spec.stubPKCS10Request).publicKeyInfo.every((byte, i) => leaf.publicKeyInfo[i] === byte))
    return wrong('leaf certificate was not issued to the requested public key');
  const consistent = 'must be present and consistent with the issued certificate';
  if (!status.notBefore) errors.required('status.notBefore', consistent);
  if (!status.notAfter) errors.required('status.notAfter', consistent);
  if (!status.beginRefreshAt)
    errors.required('status.beginRefreshAt', 'must be present and in the range [notbefore+10min, notafter-10min]');
  if (errors.causes.length === before) validateIssuedTimes(spec.maxExpirationSeconds ?? 0, leaf, status, errors);
}

const requestOf = (text: string): CertificationRequest => decodeCertificationRequest(Buffer.from(text, 'base64'));

function validateLeafNames({ dnsNames, emails }: CertificateFacts, errors: FieldErrors): void {
  for (const name of dnsNames) {
    if (name === '') errors.invalid(chainAt, name, 'leaf certificate should not contain empty DNSName');
    else if (name.includes('..')) errors.invalid(chainAt, name, "leaf certificate's DNSName should not contain '..'");
    else if (name.startsWith('.') || name.endsWith('.'))
      errors.invalid(chainAt, name, "leaf certificate's DNSName should not start or end with '.'");
  }
  for (const email of emails)
    if (!/^[^\s@]+@[^\s@]+$/.test(email))
      errors.invalid(chainAt, email, 'leaf certificate should not contain invalid EmailAddress');
}

const refreshMarginMs = 600_000;

function validateIssuedTimes(
  secondsMax: number,
  leaf: CertificateFacts,
  status: Draft<PodCertificateRequestStatus>,
  errors: FieldErrors,
): void {
  const [notBefore, notAfter] = [timeOf(status.notBefore), timeOf(status.notAfter)];
  const refresh = timeOf(status.beginRefreshAt);
  const seconds = (leaf.notAfterMs - leaf.notBeforeMs) / 1000;
  if (notBefore !== leaf.notBeforeMs)
    errors.invalid(
      'status.notBefore',
      status.notBefore,
      'must be set to the NotBefore time encoded in the leaf certificate',
    );
  else if (notAfter !== leaf.notAfterMs)
    errors.invalid(
      'status.notAfter',
      status.notAfter,
      'must be set to the NotAfter time encoded in the leaf certificate',
    );
  else if (seconds < certificateSecondsMin)
    errors.invalid(chainAt, `${seconds}s`, 'leaf certificate lifetime must be >= 1 hour');
  else if (seconds > secondsMax)
    errors.invalid(
      chainAt,
      `${seconds}s`,
      `leaf certificate lifetime must be <= spec.maxExpirationSeconds (${secondsMax})`,
    );
  else if (refresh < notBefore + refreshMarginMs)
    errors.invalid(
      'status.beginRefreshAt',
      status.beginRefreshAt,
      'must be at least 10 minutes after status.notBefore',
    );
  else if (refresh > notAfter - refreshMarginMs)
    errors.invalid(
      'status.beginRefreshAt',
      status.beginRefreshAt,
      'must be at least 10 minutes before status.notAfter',
    );
}

/** The signer that the name of a bundle speaks of; '' where it speaks of none. */
const signerOfBundle = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf(':'))).replaceAll(':', '/');

export function validateBundleProjection(
  source: Draft<ClusterTrustBundleProjection>,
  at: string,
  errors: FieldErrors,
): void {
  const { name, signerName, labelSelector, path } = source;
  if (name !== undefined && signerName !== undefined)
    errors.invalid(at, source, 'only one of name and signerName may be used');
  else if (name !== undefined) {
    if (name === '') errors.required(`${at}.name`, 'must be a valid object name');
    const problem = bundleNameProblem(name, signerOfBundle(name));
    if (problem !== '') errors.invalid(`${at}.name`, name, `not a valid clustertrustbundlename: ${problem}`);
    if (labelSelector)
      errors.invalid(`${at}.labelSelector`, labelSelector, 'labelSelector must be unset if name is specified');
  } else if (signerName !== undefined) {
    if (signerName === '') errors.required(`${at}.signerName`, 'must be a valid signer name');
    validateSignerName(signerName, `${at}.signerName`, errors);
    if (labelSelector) validateLabelSelector(labelSelector, `${at}.labelSelector`, errors);
  } else errors.required(at, 'either name or signerName must be specified');
  if (!path) errors.required(`${at}.path`);
  else validateLocalPath(path, `${at}.path`, errors);
}

const keyTypes = ['RSA3072', 'RSA4096', 'ECDSAP256', 'ECDSAP384', 'ECDSAP521', 'ED25519'];

export function validateCertificateProjection(
  source: Draft<PodCertificateProjection>,
  at: string,
  errors: FieldErrors,
): void {
  validateSignerName(source.signerName, `${at}.signerName`, errors);
  validateUserAnnotations(source.userAnnotations, `${at}.userAnnotations`, errors);
  if (!keyTypes.includes(source.keyType ?? '')) errors.unsupported(`${at}.keyType`, source.keyType ?? '', keyTypes);
  const seconds = source.maxExpirationSeconds;
  const most = longestSeconds(source.signerName);
  if (seconds !== undefined && seconds < certificateSecondsMin)
    errors.invalid(
      `${at}.maxExpirationSeconds`,
      seconds,
      `if provided, maxExpirationSeconds must be >= ${certificateSecondsMin}`,
    );
  if (seconds !== undefined && seconds > most)
    errors.invalid(`${at}.maxExpirationSeconds`, seconds, `if provided, maxExpirationSeconds must be <= ${most}`);
  const paths = certificatePaths.filter((field) => source[field]);
  for (const field of paths) validateLocalPath(source[field] ?? '', `${at}.${field}`, errors);
  if (paths.length === 0)
    errors.required(at, 'specify at least one of credentialBundlePath, keyPath, and certificateChainPath');
}

export const certificatePaths = ['credentialBundlePath', 'keyPath', 'certificateChainPath'] as const;
