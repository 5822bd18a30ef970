/** Validation of containers: environment, resources, probes and hooks, ports, mounts, security. */
import type {
  AppArmorProfile,
  Container,
  LifecycleHandler,
  ObjectFieldSelector,
  Probe,
  ResourceFieldSelector,
  ResourceRequirements,
  SeccompProfile,
  VolumeMount,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { configKeyProblem, labelProblem, portNameProblems, portProblem, subdomainProblem } from './name-forms.ts';
import {
  containerResourceProblems,
  hasLonelyPages,
  isOvercommitted,
  validateAmount,
  validateHugePages,
} from './resource-names.ts';
import { nonNegative, oneOf, validateInt32, validateIntOrPort, validateNoBacksteps } from './validate-values.ts';

const environmentName = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;

/** `problemsOf` a resource's name: that of a container, or of a whole Pod. */
export function validateResources(
  resources: Draft<ResourceRequirements> | undefined,
  at: string,
  errors: FieldErrors,
  problemsOf: (name: string) => string[] = containerResourceProblems,
): void {
  if (!resources) return;
  const { limits = {}, requests = {} } = resources;
  for (const [part, list] of [
    ['limits', limits],
    ['requests', requests],
  ] as const)
    for (const [name, value] of Object.entries(list)) {
      const path = `${at}.${part}[${name}]`;
      for (const problem of problemsOf(name)) errors.invalid(path, name, problem);
      validateAmount(name, value, path, errors);
      validateHugePages(name, value, path, errors);
    }
  for (const [name, value] of Object.entries(requests)) validateRequest(name, [value, limits[name]], at, errors);
  if (hasLonelyPages([...Object.keys(limits), ...Object.keys(requests)]))
    errors.forbidden(at, 'HugePages require cpu or memory');
}

function validateRequest(
  name: string,
  [request, limit]: [string | undefined, string | undefined],
  at: string,
  errors: FieldErrors,
): void {
  if (limit === undefined) {
    if (!isOvercommitted(name)) errors.required(`${at}.limits`, 'Limit must be set for non overcommitable resources');
  } else if (isQuantity(limit) && isQuantity(request)) {
    const order = compareQuantities(request, limit);
    if (order !== 0 && !isOvercommitted(name))
      errors.invalid(`${at}.requests`, request, `must be equal to ${name} limit of ${limit}`);
    else if (order > 0)
      errors.invalid(`${at}.requests`, request, `must be less than or equal to ${name} limit of ${limit}`);
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
    const resource = env.valueFrom.resourceFieldRef;
    if (resource) validateResourceField(resource, `${path}.valueFrom.resourceFieldRef`, errors);
    for (const ref of ['configMapKeyRef', 'secretKeyRef'] as const) {
      const selector = env.valueFrom[ref];
      if (!selector) continue;
      const nameProblem = subdomainProblem(selector.name ?? '');
      if (nameProblem !== '') errors.invalid(`${path}.valueFrom.${ref}.name`, selector.name ?? '', nameProblem);
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
      errors.invalid(`${at}.envFrom`, '', 'must specify one of: `configMapRef` or `secretRef`');
    if (from.configMapRef && from.secretRef)
      errors.invalid(`${at}.envFrom`, '', 'may not have more than one field specified at a time');
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

export function validateFieldPath(
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

const containerResources = ['cpu', 'ephemeral-storage', 'memory'].flatMap((name) => [
  `limits.${name}`,
  `requests.${name}`,
]);
const divisors: readonly (readonly [RegExp, readonly string[]])[] = [
  [/cpu$/, ['1m', '1']],
  [/(memory|ephemeral-storage)$/, ['1', '1k', '1M', '1G', '1T', '1P', '1E', '1Ki', '1Mi', '1Gi', '1Ti', '1Pi', '1Ei']],
];

/** An amount of a container's, in units of the divisor. */
function validateResourceField(ref: Draft<ResourceFieldSelector>, at: string, errors: FieldErrors): void {
  const { resource = '', divisor = '0' } = ref;
  if (resource === '') errors.required(`${at}.resource`);
  else if (!containerResources.includes(resource) && !/^(limits|requests)\.hugepages-/.test(resource))
    errors.unsupported(`${at}.resource`, resource, containerResources);
  const allowed = divisors.find(([form]) => form.test(resource))?.[1];
  if (allowed !== undefined && divisor !== '0' && !allowed.includes(divisor))
    errors.invalid(`${at}.divisor`, divisor, `only divisor's values ${allowed.join(', ')} are supported`);
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
    if (!volumes.has(mount.name ?? '')) errors.notFound(`${path}.name`, mount.name ?? '');
    if (!mount.mountPath) errors.required(`${path}.mountPath`);
    else {
      if (paths.has(mount.mountPath)) errors.invalid(`${path}.mountPath`, mount.mountPath, 'must be unique');
      paths.add(mount.mountPath);
    }
    if (mount.subPath) {
      if (mount.subPath.startsWith('/')) errors.invalid(`${path}.subPath`, mount.subPath, 'must be a relative path');
      validateNoBacksteps(mount.subPath, `${path}.subPath`, errors);
      if (mount.subPathExpr)
        errors.invalid(`${path}.subPathExpr`, mount.subPathExpr, 'subPathExpr and subPath are mutually exclusive');
    }
    validatePropagation(mount, container, `${at}.volumeMounts`, errors);
  });
}

/** Upstream names these fields without the mount's place in the list. */
function validatePropagation(
  mount: Draft<VolumeMount>,
  { securityContext }: Draft<Container>,
  at: string,
  errors: FieldErrors,
): void {
  const { mountPropagation: propagation, recursiveReadOnly: recursive, readOnly } = mount;
  oneOf(propagation, ['Bidirectional', 'HostToContainer', 'None'], `${at}.mountPropagation`, errors);
  if (propagation === 'Bidirectional' && securityContext?.privileged !== true)
    errors.forbidden(
      `${at}.mountPropagation`,
      'Bidirectional mount propagation is available only to privileged containers',
    );
  if (recursive === undefined || recursive === 'Disabled') return;
  if (recursive !== 'Enabled' && recursive !== 'IfPossible') {
    errors.unsupported(`${at}.recursiveReadOnly`, recursive, ['Disabled', 'Enabled', 'IfPossible']);
    return;
  }
  if (readOnly !== true) errors.forbidden(`${at}.recursiveReadOnly`, 'may only be specified when readOnly is true');
  if (propagation !== undefined && propagation !== 'None')
    errors.forbidden(`${at}.recursiveReadOnly`, 'may only be specified when mountPropagation is None or not specified');
}

const exitOperators = ['In', 'NotIn'];

/** When a container starts again, by its own policy and by how it ended. */
function validateRestart(container: Draft<Container>, at: string, errors: FieldErrors): void {
  const { restartPolicy, restartPolicyRules = [] } = container;
  const policies = ['Always', 'Never', 'OnFailure'];
  if (restartPolicy === undefined) {
    if (restartPolicyRules.length > 0)
      errors.required(`${at}.restartPolicy`, 'must specify restartPolicy when restart rules are used');
  } else if (!policies.includes(restartPolicy)) errors.unsupported(`${at}.restartPolicy`, restartPolicy, policies);
  restartPolicyRules.forEach(({ action = '', exitCodes }, i) => {
    const path = `${at}.restartPolicyRules[${i}]`;
    if (action !== 'Restart' && action !== 'RestartAllContainers')
      errors.unsupported(`${path}.action`, action, ['Restart', 'RestartAllContainers']);
    if (!exitCodes) errors.required(`${path}.exitCodes`, 'must be specified');
    else if (!exitOperators.includes(exitCodes.operator ?? ''))
      errors.unsupported(`${path}.exitCodes.operator`, exitCodes.operator ?? '', exitOperators);
  });
}

const resizable = ['cpu', 'memory'];
const resizePolicies = ['NotRequired', 'RestartContainer'];

export function validateResizePolicies(
  { resizePolicy }: Draft<Container>,
  at: string,
  podPolicy: string | undefined,
  errors: FieldErrors,
): void {
  const seen = new Set<string>();
  (resizePolicy ?? []).forEach(({ resourceName = '', restartPolicy = '' }, i) => {
    if (seen.has(resourceName)) errors.duplicate(`${at}.resizePolicy[${i}]`, resourceName);
    seen.add(resourceName);
    if (resourceName === '') errors.required(`${at}.resizePolicy`);
    else if (!resizable.includes(resourceName)) errors.unsupported(`${at}.resizePolicy`, resourceName, resizable);
    if (restartPolicy === '') errors.required(`${at}.resizePolicy`);
    else if (!resizePolicies.includes(restartPolicy))
      errors.unsupported(`${at}.resizePolicy`, restartPolicy, resizePolicies);
    if (podPolicy === 'Never' && restartPolicy !== 'NotRequired')
      errors.invalid(`${at}.resizePolicy`, restartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
  });
}

export function validateContainer(
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
  validateRestart(container, at, errors);
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
  validateAppArmor(security?.appArmorProfile, `${at}.securityContext.appArmorProfile`, errors);
  validateInt32(security?.runAsUser, `${at}.securityContext.runAsUser`, errors);
  validateInt32(security?.runAsGroup, `${at}.securityContext.runAsGroup`, errors);
}

export function validateInit(container: Draft<Container>, at: string, errors: FieldErrors): void {
  if (container.restartPolicy === 'Always') return;
  for (const field of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'] as const)
    if (container[field])
      errors.forbidden(`${at}.${field}`, `may not be set for init containers without restartPolicy=Always`);
}

/** Of AppArmor and of seccomp. */
const profileTypes = ['Localhost', 'RuntimeDefault', 'Unconfined'];
/** A path (PATH_MAX) without its end. */
const appArmorPathBytesMax = 4095;

/** Of a Pod or a container. */
export function validateAppArmor(profile: Draft<AppArmorProfile> | undefined, at: string, errors: FieldErrors): void {
  if (profile === undefined || profile === null) return;
  const { type = '', localhostProfile: path } = profile;
  if (type === '') errors.required(`${at}.type`);
  else if (!profileTypes.includes(type)) errors.unsupported(`${at}.type`, type, profileTypes);
  else if (type !== 'Localhost') {
    if (path !== undefined && path !== null)
      errors.invalid(`${at}.localhostProfile`, path, 'can only be set when AppArmor type is Localhost');
  } else if (path === undefined || path === null || path.trim() === '')
    errors.required(`${at}.localhostProfile`, 'must be set when AppArmor type is Localhost');
  else {
    if (path.trim() !== path) errors.invalid(`${at}.localhostProfile`, path, 'must not be padded with whitespace');
    if (path.length > appArmorPathBytesMax) errors.tooLong(`${at}.localhostProfile`, appArmorPathBytesMax);
  }
}

/** Of a Pod or a container (validateSeccompProfileField of the reference implementation). */
export function validateSeccomp(profile: Draft<SeccompProfile> | undefined, at: string, errors: FieldErrors): void {
  if (profile === undefined || profile === null) return;
  const path: unknown = profile.localhostProfile;
  if (!profile.type) {
    errors.required(`${at}.type`);
    return;
  }
  if (!profileTypes.includes(profile.type)) {
    errors.unsupported(`${at}.type`, profile.type, profileTypes);
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
  validateNoBacksteps(path, `${at}.localhostProfile`, errors);
}
