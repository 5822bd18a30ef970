/** Validation of configuration, nodes, volumes and Ingresses. */
import type {
  ConfigMap,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  PersistentVolumeClaimSpec,
  Secret,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { Ingress, IngressBackend } from '#api/networking.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { posix } from 'node:path';
import { compareQuantities, isQuantity } from '#base/quantity.ts';
import { messageOf } from '#base/thrown.ts';
import type { FieldErrors } from './field-errors.ts';
import { isIp } from '#base/ip.ts';
import { configKeyProblem, portProblem, subdomainProblem } from './name-forms.ts';
import { sameJson, validateQuantities } from './validate-values.ts';
import { validateHostPath } from './validate-volume-source.ts';
import { validateNodeSelector } from './validate-selector.ts';

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

export function validateNode(o: Draft<Node>, errors: FieldErrors): void {
  const seen = new Set<string>();
  (o.spec?.taints ?? []).forEach((taint, i) => {
    if (!taint.key) errors.required(`spec.taints[${i}].key`);
    if (!['NoExecute', 'NoSchedule', 'PreferNoSchedule'].includes(taint.effect ?? ''))
      errors.unsupported(`spec.taints[${i}].effect`, taint.effect ?? '', [
        'NoExecute',
        'NoSchedule',
        'PreferNoSchedule',
      ]);
    const id = JSON.stringify([taint.key, taint.effect]);
    if (seen.has(id)) errors.duplicate(`spec.taints[${i}]`, taint);
    seen.add(id);
  });
}

const volumeModes = ['Block', 'Filesystem'];
const modes = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];

export function validateClaim(o: Draft<PersistentVolumeClaim>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  if ((spec.accessModes ?? []).length === 0) errors.required('spec.accessModes', 'at least 1 access mode is required');
  for (const mode of spec.accessModes ?? [])
    if (!modes.includes(mode)) errors.unsupported('spec.accessModes', mode, modes);
  if ((spec.accessModes ?? []).length > 1 && spec.accessModes?.includes('ReadWriteOncePod'))
    errors.forbidden('spec.accessModes', 'may not use ReadWriteOncePod with other access modes');
  if (spec.volumeMode && !volumeModes.includes(spec.volumeMode ?? ''))
    errors.unsupported('spec.volumeMode', spec.volumeMode, volumeModes);
  const storage = spec.resources?.requests?.storage;
  if (storage === undefined) errors.required('spec.resources[storage]');
  else if (!isQuantity(storage)) errors.invalid('spec.resources[storage]', storage, 'must be a quantity');
  else if (compareQuantities(storage, '0') <= 0)
    errors.invalid('spec.resources[storage]', storage, 'must be greater than zero');
  if (spec.storageClassName) {
    const problem = subdomainProblem(spec.storageClassName);
    if (problem !== '') errors.invalid('spec.storageClassName', spec.storageClassName, problem);
  }
}

export function validateClaimUpdate(
  o: Draft<PersistentVolumeClaim>,
  old: PersistentVolumeClaim,
  errors: FieldErrors,
): void {
  const part = (
    { resources: _r, volumeName, volumeAttributesClassName: _v, ...rest }: Draft<PersistentVolumeClaimSpec>,
    other: PersistentVolumeClaimSpec,
  ): unknown => ({
    ...rest,
    ...(other.volumeName ? { volumeName } : {}),
    storageClassName: rest.storageClassName ?? other.storageClassName,
  });
  if (!sameJson(part(o.spec ?? {}, old.spec), part(old.spec, old.spec)))
    errors.forbidden(
      'spec',
      'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
    );
}

const reclaimPolicies = ['Delete', 'Recycle', 'Retain'];

export function validateVolume(o: Draft<PersistentVolume>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  if ((spec.accessModes ?? []).length === 0) errors.required('spec.accessModes');
  for (const mode of spec.accessModes ?? [])
    if (!modes.includes(mode)) errors.unsupported('spec.accessModes', mode, modes);
  if ((spec.accessModes ?? []).length > 1 && spec.accessModes?.includes('ReadWriteOncePod'))
    errors.forbidden('spec.accessModes', 'may not use ReadWriteOncePod with other access modes');
  if (spec.capacity?.storage === undefined) errors.required('spec.capacity');
  else if (Object.keys(spec.capacity).length > 1) errors.unsupported('spec.capacity', spec.capacity, ['storage']);
  if (spec.hostPath) validateHostPath(spec.hostPath, 'spec.hostPath', errors);
  validateQuantities(spec.capacity, 'spec.capacity', errors);
  const sources = (
    [
      'hostPath',
      'local',
      'nfs',
      'csi',
      'iscsi',
      'fc',
      'rbd',
      'cephfs',
      'gcePersistentDisk',
      'awsElasticBlockStore',
      'azureDisk',
      'azureFile',
      'cinder',
      'flexVolume',
      'flocker',
      'glusterfs',
      'photonPersistentDisk',
      'portworxVolume',
      'quobyte',
      'scaleIO',
      'storageos',
      'vsphereVolume',
    ] as const
  ).filter((s) => spec[s]);
  if (sources.length === 0) errors.required('spec', 'must specify a volume type');
  sources.slice(1).forEach((s) => errors.forbidden(`spec.${s}`, 'may not specify more than 1 volume type'));
  const policy = spec.persistentVolumeReclaimPolicy;
  if (policy && !reclaimPolicies.includes(policy))
    errors.unsupported('spec.persistentVolumeReclaimPolicy', policy, reclaimPolicies);
  // It would empty the machine.
  if (policy === 'Recycle' && spec.hostPath?.path && posix.resolve(spec.hostPath.path) === '/')
    errors.forbidden('spec.persistentVolumeReclaimPolicy', "may not be 'recycle' for a hostPath mount of '/'");
  if (spec.volumeMode && !volumeModes.includes(spec.volumeMode ?? ''))
    errors.unsupported('spec.volumeMode', spec.volumeMode, volumeModes);
  if (spec.nodeAffinity?.required)
    validateNodeSelector(spec.nodeAffinity.required, 'spec.nodeAffinity.required', errors);
  if (spec.local && !spec.nodeAffinity) errors.required('spec.nodeAffinity', 'Local volume requires node affinity');
}

export function validateStorageClass(o: Draft<StorageClass>, errors: FieldErrors, old?: StorageClass): void {
  if (!o.provisioner) errors.required('provisioner');
  if (!['Delete', 'Retain'].includes(o.reclaimPolicy ?? ''))
    errors.unsupported('reclaimPolicy', o.reclaimPolicy, ['Delete', 'Retain']);
  if (!['Immediate', 'WaitForFirstConsumer'].includes(o.volumeBindingMode ?? ''))
    errors.unsupported('volumeBindingMode', o.volumeBindingMode, ['Immediate', 'WaitForFirstConsumer']);
  if (old === undefined) return;
  if (!sameJson(o.parameters, old.parameters)) errors.forbidden('parameters', 'updates to parameters are forbidden.');
  if (o.provisioner !== old.provisioner) errors.forbidden('provisioner', 'updates to provisioner are forbidden.');
  if (o.reclaimPolicy !== old.reclaimPolicy)
    errors.forbidden('reclaimPolicy', 'updates to reclaimPolicy are forbidden.');
}

const pathTypes = ['Exact', 'ImplementationSpecific', 'Prefix'];
export function validateIngress(o: Draft<Ingress>, errors: FieldErrors): void {
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
      if (!path.pathType) errors.required(`${at}.pathType`, 'pathType must be specified');
      else if (!pathTypes.includes(path.pathType ?? '')) errors.unsupported(`${at}.pathType`, path.pathType, pathTypes);
      else if (path.pathType !== 'ImplementationSpecific' && !(path.path ?? '').startsWith('/'))
        errors.invalid(`${at}.path`, path.path ?? '', 'must be an absolute path');
      else if (path.path && !path.path.startsWith('/'))
        errors.invalid(`${at}.path`, path.path, 'must be an absolute path');
      if (path.pathType === 'Exact' || path.pathType === 'Prefix')
        validatePathParts(path.path ?? '', `${at}.path`, errors);
      validateBackend(path.backend ?? {}, `${at}.backend`, errors);
    });
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
  if (backend.resource) {
    if (backend.service) errors.invalid(at, '', 'cannot set both resource and service backends');
    return;
  }
  if (!backend.service) {
    errors.required(at, 'resource or service backend is required');
    return;
  }
  if (!backend.service.name) errors.required(`${at}.service.name`);
  const port = backend.service.port ?? {};
  if (!port.name && !port.number) errors.required(`${at}.service.port`, 'port name or number is required');
  if (port.name && port.number) errors.invalid(`${at}.service.port`, port, 'cannot set both port name & port number');
  if (port.number) {
    const problem = portProblem(port.number);
    if (problem !== '') errors.invalid(`${at}.service.port.number`, port.number, problem);
  }
}
