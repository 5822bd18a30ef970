/** Validation of the three lists of a Pod's containers: those that prepare, those that run, those that are added. */
import type { Container, ContainerRestartRule, EphemeralContainer, PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { isObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { restartCodesMax, restartRulesMax } from './limits.ts';
import { validateContainer } from './validate-container.ts';
import type { PodScope } from './validate-mounts.ts';
import { validateHooksAndProbes } from './validate-probes.ts';

const graceOf = ({ terminationGracePeriodSeconds: seconds }: Draft<PodSpec>): number | undefined =>
  typeof seconds === 'number' ? seconds : undefined;

/** Containers that run at once share the node's ports. */
function validateHostPorts(containers: readonly Draft<Container>[], at: string, errors: FieldErrors): void {
  const taken = new Set<string>();
  containers.forEach(({ ports }, i) =>
    (ports ?? []).forEach(({ hostPort, protocol = '', hostIP = '' }, j) => {
      if (!hostPort) return;
      const id = `${protocol}/${hostIP}/${hostPort}`;
      if (taken.has(id)) errors.duplicate(`${at}[${i}].ports[${j}].hostPort`, id);
      taken.add(id);
    }),
  );
}

export function validateContainers(pod: PodScope, at: string, errors: FieldErrors): void {
  const list = pod.spec.containers ?? [];
  if (list.length === 0) {
    errors.required(at);
    return;
  }
  const names = new Set<string>();
  list.forEach((container, i) => {
    const path = `${at}[${i}]`;
    const { name = '' } = container;
    validateContainer(container, path, pod, errors);
    if (names.has(name)) errors.duplicate(`${path}.name`, name);
    names.add(name);
    validateHooksAndProbes(container, { at: path, graceSeconds: graceOf(pod.spec), errors });
    validateRestart(container, path, errors);
  });
  validateHostPorts(list, at, errors);
}

const sideCarOnly = ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'] as const;

export function validateInitContainers(pod: PodScope, at: string, errors: FieldErrors): void {
  const names = new Set((pod.spec.containers ?? []).map(({ name = '' }) => name));
  (pod.spec.initContainers ?? []).forEach((container, i) => {
    const path = `${at}[${i}]`;
    const { name = '' } = container;
    validateContainer(container, path, pod, errors);
    validateRestart(container, path, errors);
    if (names.has(name)) errors.duplicate(`${path}.name`, name);
    else if (name !== '') names.add(name);
    // They run one by one.
    validateHostPorts([container], at, errors);
    const isSideCar = container.restartPolicy === 'Always';
    if (isSideCar) validateHooksAndProbes(container, { at: path, graceSeconds: graceOf(pod.spec), errors });
    else
      for (const field of sideCarOnly)
        if (container[field])
          errors.forbidden(`${path}.${field}`, 'may not be set for init containers without restartPolicy=Always');
    (container.resizePolicy ?? []).forEach(({ restartPolicy }, j) => {
      if (!isSideCar && restartPolicy === 'RestartContainer')
        errors.invalid(
          `${path}.resizePolicy[${j}].restartPolicy`,
          restartPolicy,
          "must not be set to 'RestartContainer' for non-sidecar initContainers",
        );
    });
  });
}

/** What is for containers that the Pod's work rests on. */
const notEphemeral = [
  ...['ports', 'resources', 'resizePolicy', 'restartPolicy', 'restartPolicyRules'],
  ...['livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle'],
] as const;

const isSet = (value: unknown): boolean =>
  value !== undefined &&
  value !== null &&
  !(Array.isArray(value) && value.length === 0) &&
  !(isObject(value) && Object.keys(value).length === 0);

/** `from`: of the list, the first that is new. */
export function validateEphemeralContainers(pod: PodScope, at: string, errors: FieldErrors): void {
  const { containers = [], initContainers = [], ephemeralContainers = [] } = pod.spec;
  const others = new Set([...containers, ...initContainers].map(({ name = '' }) => name));
  const names = new Set(others);
  ephemeralContainers.forEach((container, i) => {
    const path = `${at}[${i}]`;
    const { name = '', image, targetContainerName: target } = container;
    validateContainer(container, path, pod, errors);
    validateImageText(image, path, errors);
    if (names.has(name)) errors.duplicate(`${path}.name`, name);
    names.add(name);
    if (target && !others.has(target)) errors.notFound(`${path}.targetContainerName`, target);
    refuseWork(container, path, errors);
  });
}

function refuseWork(container: Draft<EphemeralContainer>, at: string, errors: FieldErrors): void {
  const text = 'cannot be set for an Ephemeral Container';
  for (const field of notEphemeral) {
    const value: unknown = container[field];
    // An action that says nothing is still one.
    const isThere = ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'].includes(field)
      ? value
      : isSet(value);
    if (isThere) errors.forbidden(`${at}.${field}`, text);
  }
  (container.volumeMounts ?? []).forEach(({ subPath, subPathExpr }, i) => {
    if (subPath) errors.forbidden(`${at}.volumeMounts[${i}].subPath`, text);
    if (subPathExpr) errors.forbidden(`${at}.volumeMounts[${i}].subPathExpr`, text);
  });
}

/** Of Pods themselves: templates were never looked at for it. */
export function validateImageText(image: string | undefined, at: string, errors: FieldErrors): void {
  if (image !== undefined && image !== image.trim())
    errors.invalid(`${at}.image`, image, 'must not have leading or trailing whitespace');
}

const restartPolicies = ['Always', 'Never', 'OnFailure'];
const restartActions = ['Restart', 'RestartAllContainers'];
const exitOperators = ['In', 'NotIn'];

/** When a container starts again, by its own policy and by how it ended. */
function validateRestart(container: Draft<Container>, at: string, errors: FieldErrors): void {
  const { restartPolicy: policy, restartPolicyRules: rules = [] } = container;
  if (typeof policy !== 'string') {
    if (rules.length > 0)
      errors.required(`${at}.restartPolicy`, 'must specify restartPolicy when restart rules are used');
  } else if (!restartPolicies.includes(policy)) errors.unsupported(`${at}.restartPolicy`, policy, restartPolicies);
  if (rules.length > restartRulesMax) errors.tooMany(`${at}.restartPolicyRules`, rules.length, restartRulesMax);
  rules.forEach((rule, i) => {
    validateRestartRule(rule, `${at}.restartPolicyRules[${i}]`, errors);
  });
}

function validateRestartRule(
  { action = '', exitCodes }: Draft<ContainerRestartRule>,
  at: string,
  errors: FieldErrors,
): void {
  if (!restartActions.includes(action)) errors.unsupported(`${at}.action`, action, restartActions);
  if (!exitCodes) {
    errors.required(`${at}.exitCodes`, 'must be specified');
    return;
  }
  const { operator = '', values = [] } = exitCodes;
  if (!exitOperators.includes(operator)) errors.unsupported(`${at}.exitCodes.operator`, operator, exitOperators);
  if (values.length > restartCodesMax) errors.tooMany(`${at}.exitCodes.values`, values.length, restartCodesMax);
}
