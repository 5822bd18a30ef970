/** Validation of configuration, nodes, volumes and Ingresses. */
import type { ConfigMap, Secret, TypedLocalObjectReference } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { Ingress, IngressTLS, IngressBackend } from '#api/networking.v1.ts';
import { messageOf } from '#base/thrown.ts';
import { isIp } from '#base/ip.ts';
import type { FieldErrors } from './field-errors.ts';
import { ipProblem } from './ip-fields.ts';
import { configKeyProblem, label1035Problem, portNameProblems, portProblem, subdomainProblem } from './name-forms.ts';
import { validatePathPart } from './validate-classes.ts';
import { validateBalancerName } from './validate-service.ts';
import { sameJson } from './validate-values.ts';

const dataBytesMax = 1024 * 1024;

export function validateConfigData(o: Draft<ConfigMap>, errors: FieldErrors, old?: ConfigMap): void {
  let bytes = 0;
  for (const field of ['data', 'binaryData'] as const) {
    for (const [key, value] of Object.entries(o[field] ?? {})) {
      const problem = configKeyProblem(key);
      if (problem !== '') errors.invalid(`${field}[${key}]`, key, problem);
      if (field === 'binaryData' && key in (o.data ?? {}))
        errors.invalid(`data[${key}]`, key, 'duplicate of key present in binaryData');
      bytes += Buffer.byteLength(String(value));
    }
  }
  if (bytes > dataBytesMax) errors.tooLong('', dataBytesMax);
  validateImmutable(o, old, errors);
}

/** A ConfigMap, or a Secret. */
type Held = Pick<ConfigMap, 'data' | 'binaryData' | 'immutable'>;

function validateImmutable(o: Held, old: Held | undefined, errors: FieldErrors): void {
  if (old?.immutable !== true) return;
  if (o.immutable !== true) errors.forbidden('immutable', 'field is immutable when `immutable` is set');
  for (const field of ['data', 'binaryData'] as const)
    if (!sameJson(o[field], old[field])) errors.forbidden(field, 'field is immutable when `immutable` is set');
}

const secretKeys: Record<string, string[]> = {
  'kubernetes.io/dockercfg': ['.dockercfg'],
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/ssh-auth': ['ssh-privatekey'],
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
};

export function validateSecret(o: Draft<Secret>, errors: FieldErrors, old?: Secret): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(o.data ?? {})) {
    const problem = configKeyProblem(key);
    if (problem !== '') errors.invalid(`data[${key}]`, key, problem);
    bytes += String(value).length * 0.75;
  }
  if (bytes > dataBytesMax) errors.tooLong('data', dataBytesMax);
  for (const key of secretKeys[o.type ?? ''] ?? []) if (o.data?.[key] === undefined) errors.required(`data[${key}]`);
  for (const key of ['.dockercfg', '.dockerconfigjson'] as const) {
    if (secretKeys[o.type ?? '']?.[0] !== key || o.data?.[key] === undefined) continue;
    try {
      JSON.parse(Buffer.from(o.data[key], 'base64').toString());
    } catch (error) {
      errors.invalid(`data[${key}]`, '<secret contents redacted>', messageOf(error));
    }
  }
  if (
    o.type === 'kubernetes.io/service-account-token' &&
    !o.metadata?.annotations?.['kubernetes.io/service-account.name']
  )
    errors.required('metadata.annotations[kubernetes.io/service-account.name]');
  if (o.type === 'kubernetes.io/basic-auth' && o.data?.username === undefined && o.data?.password === undefined) {
    errors.required('data[username]');
    errors.required('data[password]');
  }
  if (old !== undefined && old.type !== o.type) errors.invalid('type', o.type, 'field is immutable');
  validateImmutable(o, old, errors);
}

const pathTypes = ['Exact', 'ImplementationSpecific', 'Prefix'];
export function validateIngress(o: Draft<Ingress>, errors: FieldErrors, old?: Ingress): void {
  const spec = o.spec ?? {};
  if ((spec.rules ?? []).length === 0 && !spec.defaultBackend)
    errors.invalid('spec', spec, 'either `defaultBackend` or `rules` must be specified');
  if (spec.defaultBackend) validateBackend(spec.defaultBackend, 'spec.defaultBackend', errors);
  (spec.rules ?? []).forEach((rule, i) => {
    if (rule.host && isIp(rule.host))
      errors.invalid(`spec.rules[${i}].host`, rule.host, 'must be a DNS name, not an IP address');
    else if (rule.host) {
      const problem = subdomainProblem(rule.host.replace(/^\*\./, ''));
      if (problem !== '') errors.invalid(`spec.rules[${i}].host`, rule.host, problem);
    }
    if (rule.http && (rule.http.paths ?? []).length === 0) errors.required(`spec.rules[${i}].http.paths`);
    (rule.http?.paths ?? []).forEach((path, j) => {
      const at = `spec.rules[${i}].http.paths[${j}]`;
      if (!path.pathType) {
        errors.required(`${at}.pathType`, 'pathType must be specified');
        return;
      }
      if (!pathTypes.includes(path.pathType ?? '')) errors.unsupported(`${at}.pathType`, path.pathType, pathTypes);
      else if (path.pathType !== 'ImplementationSpecific' && !(path.path ?? '').startsWith('/'))
        errors.invalid(`${at}.path`, path.path ?? '', 'must be an absolute path');
      else if (path.path && !path.path.startsWith('/'))
        errors.invalid(`${at}.path`, path.path, 'must be an absolute path');
      if (path.pathType === 'Exact' || path.pathType === 'Prefix')
        validatePathParts(path.path ?? '', `${at}.path`, errors);
      validateBackend(path.backend ?? {}, `${at}.backend`, errors);
    });
  });
  validateIngressTls(spec.tls, errors, old);
  const { ingressClassName: name } = spec;
  if (name !== undefined && subdomainProblem(name) !== '')
    errors.invalid('spec.ingressClassName', name, subdomainProblem(name));
}

/** A Secret's name that was wrong before may stay wrong. */
function validateIngressTls(tls: Draft<IngressTLS>[] | undefined, errors: FieldErrors, old: Ingress | undefined): void {
  const wasWrong = (old?.spec.tls ?? []).some(({ secretName }) => secretName && subdomainProblem(secretName) !== '');
  (tls ?? []).forEach(({ hosts, secretName = '' }, i) => {
    (hosts ?? []).forEach((host, j) => {
      const problem = subdomainProblem(host.replace(/^\*\./, ''));
      if (problem !== '') errors.invalid(`spec.tls[${i}].hosts[${j}]`, host, problem);
    });
    if (secretName !== '' && !wasWrong && subdomainProblem(secretName) !== '')
      errors.invalid(`spec.tls[${i}].secretName`, secretName, subdomainProblem(secretName));
  });
}

/** Where an Ingress is reached; what it says already stays. */
export function validateIngressStatus(o: Draft<Ingress>, old: Ingress, errors: FieldErrors): void {
  const known = new Set((old.status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip));
  (o.status?.loadBalancer?.ingress ?? []).forEach(({ ip = '', hostname = '' }, i) => {
    const at = `status.loadBalancer.ingress[${i}]`;
    if (ip !== '' && !known.has(ip) && ipProblem(ip) !== '') errors.invalid(`${at}.ip`, ip, ipProblem(ip));
    validateBalancerName(hostname, `${at}.hostname`, errors);
  });
}

/** What a proxy and the server behind it may read differently. */
function validatePathParts(path: string, at: string, errors: FieldErrors): void {
  for (const part of ['//', '/./', '/../', '%2f', '%2F'] as const)
    if (path.includes(part)) errors.invalid(at, path, `must not contain '${part}'`);
  for (const end of ['/..', '/.'] as const)
    if (path.endsWith(end)) errors.invalid(at, path, `cannot end with '${end}'`);
}

function validateBackend(backend: Draft<IngressBackend>, at: string, errors: FieldErrors): void {
  const { resource, service } = backend;
  if (resource && service) errors.invalid(at, '', 'cannot set both resource and service backends');
  else if (resource) validateReference(resource, `${at}.resource`, errors);
  else if (!service) errors.invalid(at, '', 'resource or service backend is required');
  else {
    const problem = label1035Problem(service.name ?? '');
    if (!service.name) errors.required(`${at}.service.name`);
    else if (problem !== '') errors.invalid(`${at}.service.name`, service.name, problem);
    const { name, number } = service.port ?? {};
    if (name && number) errors.invalid(at, '', 'cannot set both port name & port number');
    else if (name) for (const wrong of portNameProblems(name)) errors.invalid(`${at}.service.port.name`, name, wrong);
    else if (!number) errors.required(at, 'port name or number is required');
    else if (portProblem(number) !== '') errors.invalid(`${at}.service.port.number`, number, portProblem(number));
  }
}

function validateReference(reference: Draft<TypedLocalObjectReference>, at: string, errors: FieldErrors): void {
  const { apiGroup, kind, name } = reference;
  if (apiGroup !== undefined && subdomainProblem(apiGroup) !== '')
    errors.invalid(`${at}.apiGroup`, apiGroup, subdomainProblem(apiGroup));
  validatePathPart(kind, `${at}.kind`, errors);
  validatePathPart(name, `${at}.name`, errors);
}
