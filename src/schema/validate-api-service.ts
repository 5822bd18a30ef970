/** Validation of APIServices (Kubernetes API reference, "APIService"; kube-aggregator 1.37). */
import type { APIService, APIServiceSpec } from '#api/apiregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { label1035Problem, nameProblem, portProblem, subdomainProblem } from './name-forms.ts';

const groupPriorityMax = 20_000;
const versionPriorityMax = 1000;

export function validateApiService({ metadata, spec = {} }: Draft<APIService>, errors: FieldErrors): void {
  const { group = '', version = '' } = spec;
  const { name = '', generateName = '' } = metadata ?? {};
  const wanted = `${version}.${group}`;
  // No prefix is the one name that is right.
  if (generateName !== '')
    errors.invalid(
      'metadata.generateName',
      generateName,
      `must be \`spec.version+"."+spec.group\`: ${JSON.stringify(wanted)}`,
    );
  if (name !== '' && name !== wanted && nameProblem.path(name) === '')
    errors.invalid('metadata.name', name, `must be \`spec.version+"."+spec.group\`: ${JSON.stringify(wanted)}`);
  if (group === '' && version !== 'v1')
    errors.required('spec.group', 'only v1 may have an empty group and it better be legacy kube');
  if (group !== '' && subdomainProblem(group) !== '') errors.invalid('spec.group', group, subdomainProblem(group));
  if (label1035Problem(version) !== '') errors.invalid('spec.version', version, label1035Problem(version));
  validatePriorities(spec, errors);
  validateTarget(spec, errors);
}

function validatePriorities(
  { groupPriorityMinimum = 0, versionPriority = 0 }: Draft<APIServiceSpec>,
  errors: FieldErrors,
): void {
  if (groupPriorityMinimum <= 0 || groupPriorityMinimum > groupPriorityMax)
    errors.invalid('spec.groupPriorityMinimum', groupPriorityMinimum, 'must be positive and less than 20000');
  if (versionPriority <= 0 || versionPriority > versionPriorityMax)
    errors.invalid('spec.versionPriority', versionPriority, 'must be positive and less than 1000');
}

/** An API of another server; without a Service it is one of this server's own. */
function validateTarget(
  { service, caBundle, insecureSkipTLSVerify }: Draft<APIServiceSpec>,
  errors: FieldErrors,
): void {
  const hasBundle = caBundle !== undefined && caBundle !== null && caBundle !== '';
  const skips = insecureSkipTLSVerify === true;
  const skipPath = 'spec.insecureSkipTLSVerify';
  if (!service) {
    if (hasBundle) {
      const bytes = Buffer.from(caBundle, 'base64').length;
      errors.invalid('spec.caBundle', `${bytes} bytes`, 'local APIServices may not have a caBundle');
    }
    if (skips) errors.invalid(skipPath, true, 'local APIServices may not have insecureSkipTLSVerify');
    return;
  }
  for (const field of ['namespace', 'name'] as const) if (!service[field]) errors.required(`spec.service.${field}`);
  const { port = 0 } = service;
  if (portProblem(port) !== '') errors.invalid('spec.service.port', port, `port is not valid: ${portProblem(port)}`);
  if (skips && hasBundle) errors.invalid(skipPath, true, 'may not be true if caBundle is present');
}

const conditionStates = ['True', 'False', 'Unknown'];

export function validateApiServiceStatus({ status }: Draft<APIService>, _old: APIService, errors: FieldErrors): void {
  (status?.conditions ?? []).forEach(({ status: state = '' }, i) => {
    if (!conditionStates.includes(state)) errors.unsupported(`status.conditions[${i}].status`, state, conditionStates);
  });
}
