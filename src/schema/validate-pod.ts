/**
 * Validation of Pods and Pod templates: what the API reference demands, with the messages of the reference
 * implementation.
 */
import type {
  Container,
  DownwardAPIVolumeFile,
  HostPathVolumeSource,
  KeyToPath,
  LifecycleHandler,
  ObjectFieldSelector,
  Pod,
  PodSpec,
  PodTemplateSpec,
  Probe,
  ResourceRequirements,
  SeccompProfile,
  Toleration,
  TopologySpreadConstraint,
  Volume,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity, parseQuantity } from '#base/quantity.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import { isPodSysctlName, sysctlNameForm, sysctlNameLengthMax, sysctlNamespace } from '#base/sysctls.ts';
import { isObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { ipProblem } from './ip-fields.ts';
import { configKeyProblem, labelProblem, portNameProblems, portProblem, subdomainProblem } from './name-forms.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';
import { validateAcrossFields } from './validate-pod-fields.ts';
import { validateAffinity } from './validate-selector.ts';

const environmentName = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;
const standardResources = new Set(['cpu', 'memory', 'ephemeral-storage', 'storage', 'pods']);

function oneOf(value: unknown, allowed: readonly string[], at: string, errors: FieldErrors): void {
  if (value !== undefined && value !== null && value !== '' && !allowed.includes(value as string))
    errors.unsupported(at, value, allowed);
}

export function nonNegative(value: unknown, at: string, errors: FieldErrors): void {
  if (typeof value === 'number' && value < 0) errors.invalid(at, value, 'must be greater than or equal to 0');
}

const int32Max = 2_147_483_647;

/** Ids of users and groups, and other numbers with the bounds of a 32-bit one. */
function validateInt32(value: unknown, at: string, errors: FieldErrors, least = 0): void {
  if (typeof value === 'number' && (value < least || value > int32Max))
    errors.invalid(at, value, `must be between ${least} and ${int32Max}, inclusive`);
}

const nanoPerUnit = 1_000_000_000n;

/** A resource of a device or an operator, which is given out in whole units and never overcommitted. */
const isExtended = (name: string): boolean =>
  name.includes('/') &&
  !name.startsWith('kubernetes.io/') &&
  !name.includes('.kubernetes.io/') &&
  !name.startsWith('requests.');

export function validateQuantities(list: Record<string, unknown> | undefined, at: string, errors: FieldErrors): void {
  for (const [name, value] of Object.entries(list ?? {})) {
    if (!isQuantity(value)) {
      errors.invalid(
        `${at}[${name}]`,
        value,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
      );
      continue;
    }
    if (parseQuantity(value).nano < 0n) errors.invalid(`${at}[${name}]`, value, 'must be greater than or equal to 0');
    if (isExtended(name) && parseQuantity(value).nano % nanoPerUnit !== 0n)
      errors.invalid(`${at}[${name}]`, value, 'must be an integer');
  }
}

function validateResources(resources: Draft<ResourceRequirements> | undefined, at: string, errors: FieldErrors): void {
  if (!resources) return;
  for (const kind of ['limits', 'requests'] as const) {
    validateQuantities(resources[kind], `${at}.${kind}`, errors);
    for (const name of Object.keys(resources[kind] ?? {})) {
      for (const problem of qualifiedNameProblems(name)) errors.invalid(`${at}.${kind}[${name}]`, name, problem);
      if (!name.includes('/') && !standardResources.has(name) && !name.startsWith('hugepages-'))
        errors.invalid(`${at}.${kind}[${name}]`, name, 'must be a standard resource type or fully qualified');
    }
  }
  for (const [name, value] of Object.entries(resources.requests ?? {})) {
    const limit = resources.limits?.[name];
    if (limit !== undefined && isQuantity(limit) && isQuantity(value) && compareQuantities(value, limit) > 0)
      errors.invalid(`${at}.requests`, value, `must be less than or equal to ${name} limit of ${limit}`);
    else if (isExtended(name) && isQuantity(limit) && isQuantity(value) && compareQuantities(value, limit) !== 0)
      errors.invalid(`${at}.requests`, value, `must be equal to ${name} limit of ${limit}`);
    if (name.includes('/') && limit === undefined)
      errors.required(`${at}.limits[${name}]`, 'Limit must be set for non overcommitable resources');
  }
}

function validateEnv(container: Draft<Container>, at: string, errors: FieldErrors): void {
  (container.env ?? []).forEach((env, i) => {
    const path = `${at}.env[${i}]`;
    if (!env.name) errors.required(`${path}.name`);
    else if (!environmentName.test(env.name) && /[=\x00-\x1f\x7f]/.test(env.name))
      errors.invalid(
        `${path}.name`,
        env.name,
        "a valid environment variable name must consist only of printable ASCII characters other than '='",
      );
    if (!env.valueFrom) return;
    const { valueFrom } = env;
    const sources = (['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'secretKeyRef', 'fileKeyRef'] as const).filter(
      (s) => valueFrom[s],
    );
    if (sources.length === 0)
      errors.invalid(
        `${path}.valueFrom`,
        '',
        'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
      );
    if (sources.length > 1)
      errors.invalid(`${path}.valueFrom`, '', 'may not have more than one field specified at a time');
    if (env.value) errors.invalid(`${path}.valueFrom`, '', 'may not be specified when `value` is not empty');
    if (env.valueFrom.fieldRef)
      validateFieldPath(env.valueFrom.fieldRef, `${path}.valueFrom.fieldRef`, environmentFields, errors);
    for (const ref of ['configMapKeyRef', 'secretKeyRef'] as const) {
      const selector = env.valueFrom[ref];
      if (!selector) continue;
      if (!selector.name) errors.required(`${path}.valueFrom.${ref}.name`);
      if (!selector.key) errors.required(`${path}.valueFrom.${ref}.key`);
      else {
        const problem = configKeyProblem(selector.key);
        if (problem !== '') errors.invalid(`${path}.valueFrom.${ref}.key`, selector.key, problem);
      }
    }
  });
  (container.envFrom ?? []).forEach((from, i) => {
    const path = `${at}.envFrom[${i}]`;
    if (!from.configMapRef && !from.secretRef)
      errors.invalid(path, '', 'must specify one of: `configMapRef` or `secretRef`');
    if (from.configMapRef && !from.configMapRef.name) errors.required(`${path}.configMapRef.name`);
    if (from.secretRef && !from.secretRef.name) errors.required(`${path}.secretRef.name`);
  });
}

const environmentFields = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];
const volumeFields = ['metadata.annotations', 'metadata.labels', 'metadata.name', 'metadata.namespace', 'metadata.uid'];

function validateFieldPath(
  ref: Draft<ObjectFieldSelector>,
  at: string,
  allowed: readonly string[],
  errors: FieldErrors,
): void {
  if (!ref.apiVersion) errors.required(`${at}.apiVersion`);
  if (!ref.fieldPath) {
    errors.required(`${at}.fieldPath`);
    return;
  }
  if (/^metadata\.(labels|annotations)\['.+'\]$/.test(ref.fieldPath)) return;
  if (!allowed.includes(ref.fieldPath)) errors.unsupported(`${at}.fieldPath`, ref.fieldPath, allowed);
}

/** What a hook or a probe does, as far as it is checked: which of them it may, the caller says. */
type Handler = Pick<LifecycleHandler & Probe, 'exec' | 'httpGet' | 'tcpSocket' | 'sleep' | 'grpc'>;

function validateHandler(
  handler: Draft<Handler>,
  at: string,
  errors: FieldErrors,
  names: readonly (keyof Handler)[],
): void {
  const set = names.filter((n) => handler[n] !== undefined && handler[n] !== null);
  if (set.length === 0) errors.required(at, 'must specify a handler type');
  set.slice(1).forEach((n) => errors.forbidden(`${at}.${n}`, 'may not specify more than 1 handler type'));
  if (handler.exec && (handler.exec.command ?? []).length === 0) errors.required(`${at}.exec.command`);
  for (const name of ['httpGet', 'tcpSocket'] as const)
    if (handler[name]) validateIntOrPort(handler[name].port, `${at}.${name}.port`, errors);
  if (handler.httpGet) {
    if (!handler.httpGet.path) errors.required(`${at}.httpGet.path`);
    oneOf(handler.httpGet.scheme, ['HTTP', 'HTTPS'], `${at}.httpGet.scheme`, errors);
  }
  if (handler.grpc) {
    const problem = portProblem(handler.grpc.port);
    if (problem !== '') errors.invalid(`${at}.grpc.port`, handler.grpc.port ?? 0, problem);
  }
}

export function validateIntOrPort(port: unknown, at: string, errors: FieldErrors): void {
  if (typeof port === 'string') for (const problem of portNameProblems(port)) errors.invalid(at, port, problem);
  else {
    const problem = portProblem(port);
    if (problem !== '') errors.invalid(at, port ?? 0, problem);
  }
}

function validateProbe(probe: Draft<Probe> | undefined, at: string, errors: FieldErrors, liveness: boolean): void {
  if (!probe) return;
  validateHandler(probe, at, errors, ['exec', 'httpGet', 'tcpSocket', 'grpc']);
  for (const field of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ] as const)
    nonNegative(probe[field], `${at}.${field}`, errors);
  if (liveness && probe.successThreshold !== undefined && probe.successThreshold !== 1)
    errors.invalid(`${at}.successThreshold`, probe.successThreshold, 'must be 1');
  if (typeof probe.terminationGracePeriodSeconds === 'number' && probe.terminationGracePeriodSeconds <= 0)
    errors.invalid(
      `${at}.terminationGracePeriodSeconds`,
      probe.terminationGracePeriodSeconds,
      'must be greater than 0',
    );
}

function validatePorts(container: Draft<Container>, at: string, errors: FieldErrors): void {
  const names = new Set<string>();
  (container.ports ?? []).forEach((port, i) => {
    const path = `${at}.ports[${i}]`;
    if (port.name) {
      for (const problem of portNameProblems(port.name)) errors.invalid(`${path}.name`, port.name, problem);
      if (names.has(port.name)) errors.duplicate(`${path}.name`, port.name);
      names.add(port.name);
    }
    if (!port.containerPort) errors.required(`${path}.containerPort`);
    else {
      const problem = portProblem(port.containerPort);
      if (problem !== '') errors.invalid(`${path}.containerPort`, port.containerPort, problem);
    }
    if (port.hostPort) {
      const problem = portProblem(port.hostPort);
      if (problem !== '') errors.invalid(`${path}.hostPort`, port.hostPort, problem);
    }
    oneOf(port.protocol, ['SCTP', 'TCP', 'UDP'], `${path}.protocol`, errors);
  });
}

function validateMounts(
  container: Draft<Container>,
  at: string,
  volumes: ReadonlySet<string>,
  errors: FieldErrors,
): void {
  const paths = new Set<string>();
  (container.volumeMounts ?? []).forEach((mount, i) => {
    const path = `${at}.volumeMounts[${i}]`;
    if (!mount.name) errors.required(`${path}.name`);
    else if (!volumes.has(mount.name)) errors.notFound(`${path}.name`, mount.name);
    if (!mount.mountPath) errors.required(`${path}.mountPath`);
    else {
      if (paths.has(mount.mountPath)) errors.invalid(`${path}.mountPath`, mount.mountPath, 'must be unique');
      paths.add(mount.mountPath);
    }
    if (mount.subPath) {
      if (mount.subPath.startsWith('/')) errors.invalid(`${path}.subPath`, mount.subPath, 'must be a relative path');
      if (mount.subPath.split('/').includes('..'))
        errors.invalid(`${path}.subPath`, mount.subPath, "must not contain '..'");
      if (mount.subPathExpr)
        errors.invalid(`${path}.subPathExpr`, mount.subPathExpr, 'subPathExpr and subPath are mutually exclusive');
    }
    oneOf(mount.mountPropagation, ['Bidirectional', 'HostToContainer', 'None'], `${path}.mountPropagation`, errors);
  });
}

function validateContainer(
  container: Draft<Container>,
  at: string,
  volumes: ReadonlySet<string>,
  errors: FieldErrors,
): void {
  if (!container.name) errors.required(`${at}.name`);
  else {
    const problem = labelProblem(container.name);
    if (problem !== '') errors.invalid(`${at}.name`, container.name, problem);
  }
  if (!container.image) errors.required(`${at}.image`);
  else if (container.image !== container.image.trim())
    errors.invalid(`${at}.image`, container.image, 'must not have leading or trailing whitespace');
  oneOf(container.imagePullPolicy, ['Always', 'IfNotPresent', 'Never'], `${at}.imagePullPolicy`, errors);
  oneOf(
    container.terminationMessagePolicy,
    ['FallbackToLogsOnError', 'File'],
    `${at}.terminationMessagePolicy`,
    errors,
  );
  validatePorts(container, at, errors);
  validateEnv(container, at, errors);
  validateMounts(container, at, volumes, errors);
  validateProbe(container.livenessProbe, `${at}.livenessProbe`, errors, true);
  validateProbe(container.readinessProbe, `${at}.readinessProbe`, errors, false);
  validateProbe(container.startupProbe, `${at}.startupProbe`, errors, true);
  for (const hook of ['postStart', 'preStop'] as const)
    if (container.lifecycle?.[hook])
      validateHandler(container.lifecycle[hook], `${at}.lifecycle.${hook}`, errors, [
        'exec',
        'httpGet',
        'tcpSocket',
        'sleep',
      ]);
  validateResources(container.resources, `${at}.resources`, errors);
  const security = container.securityContext;
  if (security?.allowPrivilegeEscalation === false && security.privileged === true)
    errors.invalid(
      `${at}.securityContext`,
      security,
      'cannot set `allowPrivilegeEscalation` to false and `privileged` to true',
    );
  validateSeccomp(security?.seccompProfile, `${at}.securityContext.seccompProfile`, errors);
  validateInt32(security?.runAsUser, `${at}.securityContext.runAsUser`, errors);
  validateInt32(security?.runAsGroup, `${at}.securityContext.runAsGroup`, errors);
}

function validateInit(container: Draft<Container>, at: string, errors: FieldErrors): void {
  oneOf(container.restartPolicy, ['Always', 'Never', 'OnFailure'], `${at}.restartPolicy`, errors);
  if (container.restartPolicy === 'Always') return;
  for (const field of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'] as const)
    if (container[field])
      errors.forbidden(`${at}.${field}`, `may not be set for init containers without restartPolicy=Always`);
}

const volumeSources = [
  'hostPath',
  'emptyDir',
  'gcePersistentDisk',
  'awsElasticBlockStore',
  'gitRepo',
  'secret',
  'nfs',
  'iscsi',
  'glusterfs',
  'persistentVolumeClaim',
  'rbd',
  'flexVolume',
  'cinder',
  'cephfs',
  'flocker',
  'downwardAPI',
  'fc',
  'azureFile',
  'configMap',
  'vsphereVolume',
  'quobyte',
  'azureDisk',
  'photonPersistentDisk',
  'projected',
  'portworxVolume',
  'scaleIO',
  'storageos',
  'csi',
  'ephemeral',
  'image',
] as const;

function validateItems(items: Draft<KeyToPath>[] | undefined, at: string, errors: FieldErrors): void {
  (items ?? []).forEach((item, i) => {
    if (!item.key) errors.required(`${at}.items[${i}].key`);
    if (!item.path) errors.required(`${at}.items[${i}].path`);
    else if (item.path.startsWith('/')) errors.invalid(`${at}.items[${i}].path`, item.path, 'must be a relative path');
    else if (item.path.split('/').includes('..'))
      errors.invalid(`${at}.items[${i}].path`, item.path, "must not contain '..'");
  });
}

function validateMode(mode: unknown, at: string, errors: FieldErrors): void {
  if (typeof mode === 'number' && (mode < 0 || mode > 0o777))
    errors.invalid(at, mode, 'must be a number between 0 and 0777 (octal), both inclusive');
}

function validateVolumeSource(volume: Draft<Volume>, at: string, errors: FieldErrors): void {
  const set = volumeSources.filter((s) => volume[s] !== undefined && volume[s] !== null);
  if (set.length === 0) errors.required(at, 'must specify a volume type');
  set.slice(1).forEach((s) => errors.forbidden(`${at}.${s}`, 'may not specify more than 1 volume type'));
  if (volume.configMap) {
    if (!volume.configMap.name) errors.required(`${at}.configMap.name`);
    validateMode(volume.configMap.defaultMode, `${at}.configMap.defaultMode`, errors);
    validateItems(volume.configMap.items, `${at}.configMap`, errors);
  }
  if (volume.secret) {
    if (!volume.secret.secretName) errors.required(`${at}.secret.secretName`);
    validateMode(volume.secret.defaultMode, `${at}.secret.defaultMode`, errors);
    validateItems(volume.secret.items, `${at}.secret`, errors);
  }
  if (volume.hostPath) validateHostPath(volume.hostPath, `${at}.hostPath`, errors);
  if (volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName)
    errors.required(`${at}.persistentVolumeClaim.claimName`);
  if (volume.emptyDir?.sizeLimit !== undefined && !isQuantity(volume.emptyDir.sizeLimit))
    errors.invalid(`${at}.emptyDir.sizeLimit`, volume.emptyDir.sizeLimit, 'must be a quantity');
  for (const [i, item] of (volume.downwardAPI?.items ?? []).entries())
    validateDownward(item, `${at}.downwardAPI.items[${i}]`, errors);
  (volume.projected?.sources ?? []).forEach((source, i) => {
    const path = `${at}.projected.sources[${i}]`;
    if (source.configMap && !source.configMap.name) errors.required(`${path}.configMap.name`);
    if (source.secret && !source.secret.name) errors.required(`${path}.secret.name`);
    if (source.serviceAccountToken) {
      if (!source.serviceAccountToken.path) errors.required(`${path}.serviceAccountToken.path`);
      const { expirationSeconds: seconds } = source.serviceAccountToken;
      if (seconds !== undefined && seconds < 600)
        errors.invalid(
          `${path}.serviceAccountToken.expirationSeconds`,
          seconds,
          'may not specify a duration less than 10 minutes',
        );
      else if (seconds !== undefined && seconds > 2 ** 32)
        errors.invalid(
          `${path}.serviceAccountToken.expirationSeconds`,
          seconds,
          'may not specify a duration larger than 2^32 seconds',
        );
    }
    for (const [j, item] of (source.downwardAPI?.items ?? []).entries())
      validateDownward(item, `${path}.downwardAPI.items[${j}]`, errors);
  });
}

function validateDownward(item: Draft<DownwardAPIVolumeFile>, at: string, errors: FieldErrors): void {
  if (!item.path) errors.required(`${at}.path`);
  if (item.fieldRef) validateFieldPath(item.fieldRef, `${at}.fieldRef`, volumeFields, errors);
  else if (!item.resourceFieldRef) errors.required(at, 'one of fieldRef and resourceFieldRef is required');
}

function validateTolerations(list: Draft<Toleration>[] | undefined, at: string, errors: FieldErrors): void {
  (list ?? []).forEach((t, i) => {
    const path = `${at}[${i}]`;
    if (t.key) for (const problem of qualifiedNameProblems(t.key)) errors.invalid(`${path}.key`, t.key, problem);
    if (!t.key && t.operator !== 'Exists')
      errors.invalid(
        `${path}.operator`,
        t.operator ?? '',
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      );
    if (t.tolerationSeconds !== undefined && t.effect !== 'NoExecute')
      errors.invalid(`${path}.effect`, t.effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set");
    if (t.operator === 'Exists' && t.value)
      errors.invalid(`${path}.operator`, t, "value must be empty when `operator` is 'Exists'");
    oneOf(t.operator, ['Equal', 'Exists', 'Gt', 'Lt'], `${path}.operator`, errors);
    oneOf(t.effect, ['NoExecute', 'NoSchedule', 'PreferNoSchedule'], `${path}.effect`, errors);
  });
}

/** Of a Pod or a container (validateSeccompProfileField of the reference implementation). */
function validateSeccomp(profile: Draft<SeccompProfile> | undefined, at: string, errors: FieldErrors): void {
  if (profile === undefined || profile === null) return;
  const path: unknown = profile.localhostProfile;
  if (!profile.type) {
    errors.required(`${at}.type`);
    return;
  }
  if (!['Localhost', 'RuntimeDefault', 'Unconfined'].includes(profile.type)) {
    errors.unsupported(`${at}.type`, profile.type, ['Localhost', 'RuntimeDefault', 'Unconfined']);
    return;
  }
  if (profile.type !== 'Localhost') {
    if (path !== undefined && path !== null)
      errors.invalid(`${at}.localhostProfile`, path, 'can only be set when seccomp type is Localhost');
    return;
  }
  if (typeof path !== 'string' || path === '') {
    errors.required(`${at}.localhostProfile`, 'must be set when seccomp type is Localhost');
    return;
  }
  if (path.startsWith('/')) errors.invalid(`${at}.localhostProfile`, path, 'must be a relative path');
  if (path.split('/').includes('..')) errors.invalid(`${at}.localhostProfile`, path, "must not contain '..'");
}

/** Form and namespace of each name; which of them a node allows, the kubelet says. */
function validateSysctls(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const seen = new Set<string>();
  (spec.securityContext?.sysctls ?? []).forEach(({ name }, i) => {
    const path = `${at}.securityContext.sysctls[${i}].name`;
    if (!name) {
      errors.required(path);
      return;
    }
    if (!isPodSysctlName(name))
      errors.invalid(
        path,
        name,
        `must have at most ${sysctlNameLengthMax} characters and match regex ${sysctlNameForm}`,
      );
    else if (seen.has(name)) errors.duplicate(path, name);
    seen.add(name);
    const namespace = sysctlNamespace(name);
    if (namespace === 'network' && spec.hostNetwork === true)
      errors.invalid(path, name, "may not be specified when 'hostNetwork' is true");
    if (namespace === 'ipc' && spec.hostIPC === true)
      errors.invalid(path, name, "may not be specified when 'hostIPC' is true");
  });
}

function uniqueNames(list: readonly { name?: string }[], at: string, seen: Set<string>, errors: FieldErrors): void {
  list.forEach((c, i) => {
    if (c.name) {
      if (seen.has(c.name)) errors.duplicate(`${at}[${i}].name`, c.name);
      seen.add(c.name);
    }
  });
}

function validateSpread(list: Draft<TopologySpreadConstraint>[] | undefined, at: string, errors: FieldErrors): void {
  (list ?? []).forEach((c, i) => {
    if (!((c.maxSkew ?? 0) > 0)) errors.invalid(`${at}[${i}].maxSkew`, c.maxSkew ?? 0, 'must be greater than zero');
    if (!c.topologyKey) errors.required(`${at}[${i}].topologyKey`, 'can not be empty');
    if (!['DoNotSchedule', 'ScheduleAnyway'].includes(c.whenUnsatisfiable ?? ''))
      errors.unsupported(`${at}[${i}].whenUnsatisfiable`, c.whenUnsatisfiable ?? '', [
        'DoNotSchedule',
        'ScheduleAnyway',
      ]);
  });
}

export function validatePodSpec(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const volumes = new Set<string>();
  (spec.volumes ?? []).forEach((volume, i) => {
    const path = `${at}.volumes[${i}]`;
    if (!volume.name) errors.required(`${path}.name`);
    else {
      const problem = labelProblem(volume.name);
      if (problem !== '') errors.invalid(`${path}.name`, volume.name, problem);
      if (volumes.has(volume.name)) errors.duplicate(`${path}.name`, volume.name);
      volumes.add(volume.name);
    }
    validateVolumeSource(volume, path, errors);
  });
  if ((spec.containers ?? []).length === 0) errors.required(`${at}.containers`);
  (spec.containers ?? []).forEach((c, i) => {
    validateContainer(c, `${at}.containers[${i}]`, volumes, errors);
  });
  (spec.initContainers ?? []).forEach((c, i) => {
    validateContainer(c, `${at}.initContainers[${i}]`, volumes, errors);
    validateInit(c, `${at}.initContainers[${i}]`, errors);
  });
  const names = new Set<string>();
  uniqueNames(spec.containers ?? [], `${at}.containers`, names, errors);
  uniqueNames(spec.initContainers ?? [], `${at}.initContainers`, names, errors);
  oneOf(spec.restartPolicy, ['Always', 'Never', 'OnFailure'], `${at}.restartPolicy`, errors);
  oneOf(spec.dnsPolicy, ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'], `${at}.dnsPolicy`, errors);
  if (spec.dnsPolicy === 'None' && (spec.dnsConfig?.nameservers ?? []).length === 0)
    errors.required(`${at}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None');
  (spec.dnsConfig?.nameservers ?? []).forEach((ns, i) => {
    if (ipProblem(ns) !== '') errors.invalid(`${at}.dnsConfig.nameservers[${i}]`, ns, ipProblem(ns));
  });
  nonNegative(spec.terminationGracePeriodSeconds, `${at}.terminationGracePeriodSeconds`, errors);
  validateInt32(spec.activeDeadlineSeconds, `${at}.activeDeadlineSeconds`, errors, 1);
  for (const field of ['serviceAccountName', 'nodeName', 'priorityClassName'] as const)
    if (spec[field]) {
      const problem = subdomainProblem(spec[field]);
      if (problem !== '') errors.invalid(`${at}.${field}`, spec[field], problem);
    }
  for (const field of ['hostname', 'subdomain'] as const)
    if (spec[field]) {
      const problem = labelProblem(spec[field]);
      if (problem !== '') errors.invalid(`${at}.${field}`, spec[field], problem);
    }
  validateLabels(spec.nodeSelector, `${at}.nodeSelector`, errors);
  validateTolerations(spec.tolerations, `${at}.tolerations`, errors);
  validateSpread(spec.topologySpreadConstraints, `${at}.topologySpreadConstraints`, errors);
  (spec.hostAliases ?? []).forEach((alias, i) => {
    if (ipProblem(alias.ip) !== '') errors.invalid(`${at}.hostAliases[${i}].ip`, alias.ip ?? '', ipProblem(alias.ip));
  });
  for (const field of ['runAsUser', 'runAsGroup', 'fsGroup'] as const)
    validateInt32(spec.securityContext?.[field], `${at}.securityContext.${field}`, errors);
  (spec.securityContext?.supplementalGroups ?? []).forEach((group, i) =>
    validateInt32(group, `${at}.securityContext.supplementalGroups[${i}]`, errors),
  );
  validateResources(spec.resources, `${at}.resources`, errors);
  validateAffinity(spec.affinity, `${at}.affinity`, errors);
  validateAcrossFields(spec, at, errors);
  validateSysctls(spec, at, errors);
  validateSeccomp(spec.securityContext?.seccompProfile, `${at}.securityContext.seccompProfile`, errors);
}

export function validateTemplate(template: Draft<PodTemplateSpec> | undefined, at: string, errors: FieldErrors): void {
  if (!template) {
    errors.required(at);
    return;
  }
  validateLabels(template.metadata?.labels, `${at}.metadata.labels`, errors);
  validateAnnotations(template.metadata?.annotations, `${at}.metadata.annotations`, errors);
  validatePodSpec(template.spec ?? {}, `${at}.spec`, errors);
}

export function validatePod(pod: Draft<Pod>, errors: FieldErrors, old: Pod | undefined): void {
  validatePodSpec(pod.spec ?? {}, 'spec', errors);
  if (old === undefined && (pod.spec?.ephemeralContainers ?? []).length > 0)
    errors.forbidden('spec.ephemeralContainers', 'cannot be set on create');
  if ((pod.spec?.schedulingGates ?? []).length > 0 && pod.spec?.nodeName && old === undefined)
    errors.forbidden('spec.nodeName', 'cannot be set until all schedulingGates have been cleared');
}

const mutable =
  'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)';

/** A spec with what an update may change taken out. */
function frozenPart(spec: Draft<PodSpec>, resources: boolean): Draft<PodSpec> {
  const containers = (list: Draft<Container>[] = []): Draft<Container>[] =>
    list.map(({ image: _image, ...rest }) => {
      if (resources) {
        const { resources: _r, ...left } = rest;
        return left;
      }
      return rest;
    });
  const {
    activeDeadlineSeconds: _a,
    tolerations: _t,
    schedulingGates: _g,
    containers: c,
    initContainers: i,
    ephemeralContainers: _e,
    ...rest
  } = spec;
  return { ...rest, containers: containers(c), initContainers: containers(i) };
}

export function validatePodUpdate(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const spec = pod.spec ?? {};
  if ((spec.containers ?? []).length !== (old.spec.containers ?? []).length) {
    errors.forbidden('spec.containers', 'pod updates may not add or remove containers');
    return;
  }
  const gated = (old.spec.schedulingGates ?? []).length > 0;
  const a = frozenPart(spec, false);
  const b = frozenPart(old.spec, false);
  if (gated) {
    delete a.nodeSelector;
    delete b.nodeSelector;
    delete a.affinity;
    delete b.affinity;
  }
  if (!sameJson(a, b)) errors.forbidden('spec', mutable);
  const kept = spec.tolerations ?? [];
  for (const t of old.spec.tolerations ?? [])
    if (!kept.some((k) => sameJson(k, t))) {
      errors.forbidden('spec.tolerations', 'existing toleration can not be modified except its tolerationSeconds');
      break;
    }
  const gates = new Set((old.spec.schedulingGates ?? []).map((g) => g.name));
  (spec.schedulingGates ?? []).forEach((g, i) => {
    if (!gates.has(g.name ?? ''))
      errors.forbidden(
        `spec.schedulingGates[${i}].name`,
        `only deletion is allowed, but found new scheduling gate '${g.name}'`,
      );
  });
  if (
    old.spec.activeDeadlineSeconds !== undefined &&
    (spec.activeDeadlineSeconds === undefined || spec.activeDeadlineSeconds > old.spec.activeDeadlineSeconds)
  )
    errors.invalid(
      'spec.activeDeadlineSeconds',
      spec.activeDeadlineSeconds ?? null,
      'must be less than or equal to previous value',
    );
}

export function validateEphemeralContainers(pod: Draft<Pod>, old: Pod, errors: FieldErrors): void {
  const spec = pod.spec ?? {};
  const before = new Map((old.spec.ephemeralContainers ?? []).map((c) => [c.name, c]));
  const names = new Set([...(spec.containers ?? []), ...(spec.initContainers ?? [])].flatMap(({ name }) => name ?? []));
  const volumes = new Set((spec.volumes ?? []).flatMap(({ name }) => name ?? []));
  (spec.ephemeralContainers ?? []).forEach((c, i) => {
    const at = `spec.ephemeralContainers[${i}]`;
    const name = c.name ?? '';
    const known = before.get(name);
    before.delete(name);
    if (known !== undefined && !sameJson(known, c))
      errors.forbidden(at, `existing ephemeral container ${JSON.stringify(name)} may not be changed`);
    if (known !== undefined) return;
    validateContainer(c, at, volumes, errors);
    if (names.has(name)) errors.duplicate(`${at}.name`, name);
    names.add(name);
    for (const field of ['ports', 'livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle'] as const)
      if (c[field] && (!Array.isArray(c[field]) || c[field].length > 0))
        errors.forbidden(`${at}.${field}`, 'cannot be set for an Ephemeral Container');
    if (c.targetContainerName && !(spec.containers ?? []).some((x) => x.name === c.targetContainerName))
      errors.notFound(`${at}.targetContainerName`, c.targetContainerName);
  });
  for (const name of before.keys())
    errors.forbidden(
      'spec.ephemeralContainers',
      `existing ephemeral container ${JSON.stringify(name)} may not be removed`,
    );
}

/** Deep equality of JSON values where an absent field, null and an empty list or map are the same. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isEmpty(a) && isEmpty(b)) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((x, i) => sameJson(x, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  for (const key of Object.keys(a)) if (!sameJson(a[key], b[key])) return false;
  for (const key of Object.keys(b)) if (!(key in a) && !isEmpty(b[key])) return false;
  return true;
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

export function validateHostPath(source: Draft<HostPathVolumeSource>, at: string, errors: FieldErrors): void {
  if (!source.path) errors.required(`${at}.path`);
  else if (source.path.split('/').includes('..')) errors.invalid(`${at}.path`, source.path, "must not contain '..'");
  oneOf(
    source.type,
    ['BlockDevice', 'CharDevice', 'Directory', 'DirectoryOrCreate', 'File', 'FileOrCreate', 'Socket'],
    `${at}.type`,
    errors,
  );
}
