/** Validation of Services, configuration, volumes, networking and the smaller kinds. */
import type { Json } from '#base/objects.ts';
import { isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { configKeyProblem, isIp, labelProblem, portProblem, subdomainProblem } from './names.ts';
import { sameJson, validateIntOrPort, validateQuantities } from './validate-pod.ts';
import { validateLabels } from './validate-meta.ts';

const dataBytesMax = 1024 * 1024;

export function validateConfigData(o: Json, errors: FieldErrors, old?: Json): void {
  let bytes = 0;
  for (const field of ['data', 'binaryData']) {
    for (const [key, value] of Object.entries(o[field] ?? {})) {
      const problem = configKeyProblem(key);
      if (problem !== '') errors.invalid(`${field}[${key}]`, key, problem);
      if (field === 'binaryData' && key in (o.data ?? {})) errors.invalid(`data[${key}]`, key, 'duplicate of key present in binaryData');
      bytes += Buffer.byteLength(String(value));
    }
  }
  if (bytes > dataBytesMax) errors.tooLong('', dataBytesMax);
  validateImmutable(o, old, errors);
}

function validateImmutable(o: Json, old: Json | undefined, errors: FieldErrors): void {
  if (old?.immutable !== true) return;
  if (o.immutable !== true) errors.forbidden('immutable', 'field is immutable when `immutable` is set');
  for (const field of ['data', 'binaryData']) if (!sameJson(o[field], old[field])) errors.forbidden(field, 'field is immutable when `immutable` is set');
}

const secretKeys: Record<string, string[]> = { 'kubernetes.io/dockercfg': ['.dockercfg'], 'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'], 'kubernetes.io/ssh-auth': ['ssh-privatekey'], 'kubernetes.io/tls': ['tls.crt', 'tls.key'] };

export function validateSecret(o: Json, errors: FieldErrors, old?: Json): void {
  let bytes = 0;
  for (const [key, value] of Object.entries(o.data ?? {})) {
    const problem = configKeyProblem(key);
    if (problem !== '') errors.invalid(`data[${key}]`, key, problem);
    bytes += String(value).length * 0.75;
  }
  if (bytes > dataBytesMax) errors.tooLong('data', dataBytesMax);
  for (const key of secretKeys[o.type] ?? []) if (o.data?.[key] === undefined) errors.required(`data[${key}]`);
  if (o.type === 'kubernetes.io/service-account-token' && !o.metadata.annotations?.['kubernetes.io/service-account.name']) errors.required('metadata.annotations[kubernetes.io/service-account.name]');
  if (o.type === 'kubernetes.io/basic-auth' && o.data?.username === undefined && o.data?.password === undefined) { errors.required('data[username]'); errors.required('data[password]'); }
  if (old !== undefined && old.type !== o.type) errors.invalid('type', o.type, 'field is immutable');
  validateImmutable(o, old, errors);
}

function validateServicePorts(spec: Json, errors: FieldErrors): void {
  const names = new Set<string>();
  const seen = new Set<string>();
  (spec.ports ?? []).forEach((port: Json, i: number) => {
    const at = `spec.ports[${i}]`;
    if (spec.ports.length > 1 && !port.name) errors.required(`${at}.name`);
    if (port.name) {
      const problem = labelProblem(port.name);
      if (problem !== '') errors.invalid(`${at}.name`, port.name, problem);
      if (names.has(port.name)) errors.duplicate(`${at}.name`, port.name);
      names.add(port.name);
    }
    const problem = portProblem(port.port);
    if (problem !== '') errors.invalid(`${at}.port`, port.port ?? 0, problem);
    if (!['SCTP', 'TCP', 'UDP'].includes(port.protocol)) errors.unsupported(`${at}.protocol`, port.protocol, ['SCTP', 'TCP', 'UDP']);
    if (port.targetPort !== undefined) validateIntOrPort(port.targetPort, `${at}.targetPort`, errors);
    const key = `${port.protocol}/${port.port}`;
    if (seen.has(key)) errors.duplicate(at, { name: port.name, protocol: port.protocol, port: port.port });
    seen.add(key);
    if (port.nodePort && spec.type === 'ClusterIP') errors.forbidden(`${at}.nodePort`, "may not be used when `type` is 'ClusterIP'");
  });
}

export function validateService(o: Json, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
  if (!types.includes(spec.type)) errors.unsupported('spec.type', spec.type, types);
  const headless = spec.clusterIP === 'None';
  if ((spec.ports ?? []).length === 0 && !headless && spec.type !== 'ExternalName') errors.required('spec.ports');
  if (spec.type === 'ExternalName') {
    if (!spec.externalName) errors.required('spec.externalName');
    else { const problem = subdomainProblem(String(spec.externalName).replace(/\.$/, '')); if (problem !== '') errors.invalid('spec.externalName', spec.externalName, problem); }
  }
  if (headless && (spec.type === 'NodePort' || spec.type === 'LoadBalancer')) errors.invalid('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${spec.type} services`);
  if (spec.clusterIP && !headless && !isIp(spec.clusterIP)) errors.invalid('spec.clusterIPs', [spec.clusterIP], 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)');
  if (!['ClientIP', 'None'].includes(spec.sessionAffinity)) errors.unsupported('spec.sessionAffinity', spec.sessionAffinity, ['ClientIP', 'None']);
  validateLabels(spec.selector, 'spec.selector', errors);
  validateServicePorts(spec, errors);
  (spec.externalIPs ?? []).forEach((ip: string, i: number) => { if (!isIp(ip)) errors.invalid(`spec.externalIPs[${i}]`, ip, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'); });
  for (const [field, allowed] of [['externalTrafficPolicy', ['Cluster', 'Local']], ['internalTrafficPolicy', ['Cluster', 'Local']]] as const) if (spec[field] && !allowed.includes(spec[field])) errors.unsupported(`spec.${field}`, spec[field], allowed);
}

export function validateServiceUpdate(o: Json, old: Json, errors: FieldErrors): void {
  const was = old.spec?.clusterIP;
  if (was && was !== 'None' && old.spec.type !== 'ExternalName' && o.spec.type !== 'ExternalName' && o.spec.clusterIP !== was) errors.invalid('spec.clusterIPs[0]', o.spec.clusterIPs?.[0] ?? o.spec.clusterIP, 'may not change once set');
}

export function validateNode(o: Json, errors: FieldErrors): void {
  (o.spec?.taints ?? []).forEach((taint: Json, i: number) => {
    if (!taint.key) errors.required(`spec.taints[${i}].key`);
    if (!['NoExecute', 'NoSchedule', 'PreferNoSchedule'].includes(taint.effect)) errors.unsupported(`spec.taints[${i}].effect`, taint.effect ?? '', ['NoExecute', 'NoSchedule', 'PreferNoSchedule']);
    if (o.spec.taints.findIndex((t: Json) => t.key === taint.key && t.effect === taint.effect) < i) errors.duplicate(`spec.taints[${i}]`, taint);
  });
}

const modes = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];

export function validateClaim(o: Json, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  if ((spec.accessModes ?? []).length === 0) errors.required('spec.accessModes', 'at least 1 access mode is required');
  for (const mode of spec.accessModes ?? []) if (!modes.includes(mode)) errors.unsupported('spec.accessModes', mode, modes);
  const storage = spec.resources?.requests?.storage;
  if (storage === undefined) errors.required('spec.resources[storage]');
  else if (!isQuantity(storage)) errors.invalid('spec.resources[storage]', storage, 'must be a quantity');
  if (spec.storageClassName) { const problem = subdomainProblem(spec.storageClassName); if (problem !== '') errors.invalid('spec.storageClassName', spec.storageClassName, problem); }
}

export function validateClaimUpdate(o: Json, old: Json, errors: FieldErrors): void {
  const part = ({ resources: _r, volumeName, volumeAttributesClassName: _v, ...rest }: Json, other: Json): Json => ({ ...rest, ...(other.volumeName ? { volumeName } : {}), storageClassName: rest.storageClassName ?? other.storageClassName });
  if (!sameJson(part(o.spec, old.spec), part(old.spec, old.spec))) errors.forbidden('spec', 'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims');
}

export function validateVolume(o: Json, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  if ((spec.accessModes ?? []).length === 0) errors.required('spec.accessModes');
  for (const mode of spec.accessModes ?? []) if (!modes.includes(mode)) errors.unsupported('spec.accessModes', mode, modes);
  if (spec.capacity?.storage === undefined) errors.required('spec.capacity');
  validateQuantities(spec.capacity, 'spec.capacity', errors);
  const sources = ['hostPath', 'local', 'nfs', 'csi', 'iscsi', 'fc', 'rbd', 'cephfs', 'gcePersistentDisk', 'awsElasticBlockStore', 'azureDisk', 'azureFile', 'cinder', 'flexVolume', 'flocker', 'glusterfs', 'photonPersistentDisk', 'portworxVolume', 'quobyte', 'scaleIO', 'storageos', 'vsphereVolume'].filter((s) => spec[s]);
  if (sources.length === 0) errors.required('spec', 'must specify a volume type');
  sources.slice(1).forEach((s) => errors.forbidden(`spec.${s}`, 'may not specify more than 1 volume type'));
  if (spec.local && !spec.nodeAffinity) errors.required('spec.nodeAffinity', 'Local volume requires node affinity');
}

export function validateEndpoints(o: Json, errors: FieldErrors): void {
  (o.subsets ?? []).forEach((subset: Json, i: number) => {
    if ((subset.addresses ?? []).length + (subset.notReadyAddresses ?? []).length === 0) errors.required(`subsets[${i}]`, 'must specify `addresses` or `notReadyAddresses`');
    (subset.addresses ?? []).forEach((a: Json, j: number) => { if (!isIp(a.ip)) errors.invalid(`subsets[${i}].addresses[${j}].ip`, a.ip ?? '', 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'); });
  });
}

export function validateEndpointSlice(o: Json, errors: FieldErrors, old?: Json): void {
  if (!o.addressType) errors.required('addressType');
  else if (!['FQDN', 'IPv4', 'IPv6'].includes(o.addressType)) errors.unsupported('addressType', o.addressType, ['FQDN', 'IPv4', 'IPv6']);
  if (old !== undefined && old.addressType !== o.addressType) errors.invalid('addressType', o.addressType, 'field is immutable');
  if ((o.endpoints ?? []).length > 1000) errors.tooMany('endpoints', o.endpoints.length, 1000);
  (o.endpoints ?? []).forEach((e: Json, i: number) => { if ((e.addresses ?? []).length === 0) errors.required(`endpoints[${i}].addresses`, 'must contain at least 1 address'); });
}

export function validateQuota(o: Json, errors: FieldErrors): void { validateQuantities(o.spec?.hard, 'spec.hard', errors); }

export function validateLimitRange(o: Json, errors: FieldErrors): void {
  (o.spec?.limits ?? []).forEach((item: Json, i: number) => { for (const field of ['max', 'min', 'default', 'defaultRequest']) validateQuantities(item[field], `spec.limits[${i}].${field}`, errors); });
}

export function validateStorageClass(o: Json, errors: FieldErrors, old?: Json): void {
  if (!o.provisioner) errors.required('provisioner');
  if (!['Delete', 'Retain'].includes(o.reclaimPolicy)) errors.unsupported('reclaimPolicy', o.reclaimPolicy, ['Delete', 'Retain']);
  if (!['Immediate', 'WaitForFirstConsumer'].includes(o.volumeBindingMode)) errors.unsupported('volumeBindingMode', o.volumeBindingMode, ['Immediate', 'WaitForFirstConsumer']);
  if (old === undefined) return;
  if (!sameJson(o.parameters, old.parameters)) errors.forbidden('parameters', 'updates to parameters are forbidden.');
  if (o.provisioner !== old.provisioner) errors.forbidden('provisioner', 'updates to provisioner are forbidden.');
  if (o.reclaimPolicy !== old.reclaimPolicy) errors.forbidden('reclaimPolicy', 'updates to reclaimPolicy are forbidden.');
}

const userPriorityMax = 1_000_000_000;
export function validatePriorityClass(o: Json, errors: FieldErrors): void {
  const system = ({ 'system-node-critical': 2_000_001_000, 'system-cluster-critical': 2_000_000_000 } as Record<string, number>)[o.metadata.name];
  if (String(o.metadata.name).startsWith('system-')) { if (system !== o.value) errors.forbidden('metadata.name', 'priority class names with \'system-\' prefix are reserved for system use only. error: no such system priority class'); }
  else if (o.value > userPriorityMax) errors.forbidden('value', `maximum allowed value of a user defined priority is ${userPriorityMax}`);
}

const pathTypes = ['Exact', 'ImplementationSpecific', 'Prefix'];
export function validateIngress(o: Json, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  if ((spec.rules ?? []).length === 0 && !spec.defaultBackend) errors.invalid('spec', spec, 'either `defaultBackend` or `rules` must be specified');
  if (spec.defaultBackend) validateBackend(spec.defaultBackend, 'spec.defaultBackend', errors);
  (spec.rules ?? []).forEach((rule: Json, i: number) => {
    if (rule.host && isIp(rule.host)) errors.invalid(`spec.rules[${i}].host`, rule.host, 'must be a DNS name, not an IP address');
    else if (rule.host) { const problem = subdomainProblem(String(rule.host).replace(/^\*\./, '')); if (problem !== '') errors.invalid(`spec.rules[${i}].host`, rule.host, problem); }
    if (rule.http && (rule.http.paths ?? []).length === 0) errors.required(`spec.rules[${i}].http.paths`);
    (rule.http?.paths ?? []).forEach((path: Json, j: number) => {
      const at = `spec.rules[${i}].http.paths[${j}]`;
      if (!path.pathType) errors.required(`${at}.pathType`, 'pathType must be specified');
      else if (!pathTypes.includes(path.pathType)) errors.unsupported(`${at}.pathType`, path.pathType, pathTypes);
      else if (path.pathType !== 'ImplementationSpecific' && !String(path.path ?? '').startsWith('/')) errors.invalid(`${at}.path`, path.path ?? '', 'must be an absolute path');
      validateBackend(path.backend ?? {}, `${at}.backend`, errors);
    });
  });
}

function validateBackend(backend: Json, at: string, errors: FieldErrors): void {
  if (backend.resource) { if (backend.service) errors.invalid(at, '', 'cannot set both resource and service backends'); return; }
  if (!backend.service) { errors.required(at, 'resource or service backend is required'); return; }
  if (!backend.service.name) errors.required(`${at}.service.name`);
  const port = backend.service.port ?? {};
  if (!port.name && !port.number) errors.required(`${at}.service.port`, 'port name or number is required');
  if (port.name && port.number) errors.invalid(`${at}.service.port`, port, 'cannot set both port name & port number');
  if (port.number) { const problem = portProblem(port.number); if (problem !== '') errors.invalid(`${at}.service.port.number`, port.number, problem); }
}

export function validateNetworkPolicy(o: Json, errors: FieldErrors): void {
  for (const type of o.spec?.policyTypes ?? []) if (!['Egress', 'Ingress'].includes(type)) errors.unsupported('spec.policyTypes', type, ['Egress', 'Ingress']);
}
