/** Validation of what all containers of a Pod have in common, whenever they run. */
import type { Container } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, portNameProblems, portProblem } from './name-forms.ts';
import { validateEnv, validateEnvFrom } from './validate-env.ts';
import { validateDevices, validateMounts } from './validate-mounts.ts';
import type { PodScope } from './validate-mounts.ts';
import { validateClaimUse } from './validate-pod-claims.ts';
import { validateResources } from './validate-resources.ts';
import { validateSecurityContext } from './validate-security.ts';

const protocols = ['SCTP', 'TCP', 'UDP'];

function validatePorts({ ports }: Draft<Container>, at: string, errors: FieldErrors): void {
  const names = new Set<string>();
  (ports ?? []).forEach(({ name = '', containerPort, hostPort, protocol = '' }, i) => {
    const path = `${at}[${i}]`;
    if (name !== '') {
      const problems = portNameProblems(name);
      for (const problem of problems) errors.invalid(`${path}.name`, name, problem);
      if (problems.length === 0 && names.has(name)) errors.duplicate(`${path}.name`, name);
      if (problems.length === 0) names.add(name);
    }
    if (!containerPort) errors.required(`${path}.containerPort`);
    else if (portProblem(containerPort) !== '')
      errors.invalid(`${path}.containerPort`, containerPort, portProblem(containerPort));
    if (hostPort && portProblem(hostPort) !== '') errors.invalid(`${path}.hostPort`, hostPort, portProblem(hostPort));
    if (!protocols.includes(protocol)) errors.unsupported(`${path}.protocol`, protocol, protocols);
  });
}

const resizable = ['cpu', 'memory'];
const resizePolicies = ['NotRequired', 'RestartContainer'];

/** Upstream names the list for what is wrong with one of its items. */
function validateResizePolicies(
  { resizePolicy }: Draft<Container>,
  at: string,
  podPolicy: string | undefined,
  errors: FieldErrors,
): void {
  const seen = new Set<string>();
  (resizePolicy ?? []).forEach(({ resourceName = '', restartPolicy = '' }, i) => {
    if (seen.has(resourceName)) errors.duplicate(`${at}[${i}]`, resourceName);
    seen.add(resourceName);
    if (resourceName === '') errors.required(at);
    else if (!resizable.includes(resourceName)) errors.unsupported(at, resourceName, resizable);
    if (restartPolicy === '') errors.required(at);
    else if (!resizePolicies.includes(restartPolicy)) errors.unsupported(at, restartPolicy, resizePolicies);
    if (podPolicy === 'Never' && restartPolicy !== 'NotRequired')
      errors.invalid(at, restartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
  });
}

const messagePolicies = ['File', 'FallbackToLogsOnError'];
const pullPolicies = ['Always', 'IfNotPresent', 'Never'];

/** Of a container that is run first, beside others, or added later. */
export function validateContainer(container: Draft<Container>, at: string, pod: PodScope, errors: FieldErrors): void {
  const { name = '', terminationMessagePolicy: message, imagePullPolicy: pull } = container;
  if (name === '') errors.required(`${at}.name`);
  else if (labelProblem(name) !== '') errors.invalid(`${at}.name`, name, labelProblem(name));
  if (!container.image) errors.required(`${at}.image`);
  if (!message) errors.required(`${at}.terminationMessagePolicy`);
  else if (!messagePolicies.includes(message))
    errors.unsupported(`${at}.terminationMessagePolicy`, message, messagePolicies);
  validatePorts(container, `${at}.ports`, errors);
  validateEnv(container.env, `${at}.env`, errors);
  validateEnvFrom(container.envFrom, `${at}.envFrom`, errors);
  validateMounts(container, `${at}.volumeMounts`, pod.volumes, errors);
  validateDevices(container, `${at}.volumeDevices`, pod.volumes, errors);
  if (!pull) errors.required(`${at}.imagePullPolicy`);
  else if (!pullPolicies.includes(pull)) errors.unsupported(`${at}.imagePullPolicy`, pull, pullPolicies);
  validateResources(container.resources, `${at}.resources`, errors);
  validateClaimUse(container.resources?.claims, pod.claims, `${at}.resources.claims`, errors);
  validateResizePolicies(container, `${at}.resizePolicy`, pod.spec.restartPolicy, errors);
  validateSecurityContext(container.securityContext, `${at}.securityContext`, pod.spec.hostUsers !== false, errors);
}
