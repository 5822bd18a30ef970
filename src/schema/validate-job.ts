/**
 * Validation of a Job's policies: what counts as failure, what as success, which index may fail (validation of batch/v1
 * in the reference implementation).
 */
import type {
  JobSpec,
  PodFailurePolicyOnExitCodesRequirement,
  PodFailurePolicyOnPodConditionsPattern,
} from '#api/batch.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { jobConditionsMax, jobExitCodesMax, jobRulesMax } from './limits.ts';
import { subdomainProblem } from './name-forms.ts';

const actions = ['Count', 'FailIndex', 'FailJob', 'Ignore'];

function validateExitCodes(
  codes: Draft<PodFailurePolicyOnExitCodesRequirement>,
  at: string,
  names: ReadonlySet<string>,
  errors: FieldErrors,
): void {
  if (!['In', 'NotIn'].includes(codes.operator ?? ''))
    errors.unsupported(`${at}.operator`, codes.operator ?? '', ['In', 'NotIn']);
  if (codes.containerName && !names.has(codes.containerName))
    errors.invalid(
      `${at}.containerName`,
      codes.containerName,
      'must be one of the container or initContainer names in the pod template',
    );
  const values: number[] = codes.values ?? [];
  if (values.length === 0) errors.invalid(`${at}.values`, values, 'at least one value is required');
  if (values.length > jobExitCodesMax) {
    errors.tooMany(`${at}.values`, values.length, jobExitCodesMax);
    return;
  }
  values.forEach((value, i) => {
    if (codes.operator === 'In' && value === 0)
      errors.invalid(`${at}.values[${i}]`, value, 'must not be 0 for the In operator');
    if (i > 0 && values[i - 1] === value) errors.duplicate(`${at}.values[${i}]`, value);
  });
  if (values.some((value, i) => value < (values[i - 1] ?? value)))
    errors.invalid(`${at}.values`, values, 'must be ordered');
}

function validateConditions(
  patterns: Draft<PodFailurePolicyOnPodConditionsPattern>[],
  at: string,
  errors: FieldErrors,
): void {
  if (patterns.length > jobConditionsMax) {
    errors.tooMany(at, patterns.length, jobConditionsMax);
    return;
  }
  patterns.forEach((pattern, i) => {
    for (const problem of qualifiedNameProblems(pattern.type ?? ''))
      errors.invalid(`${at}[${i}].type`, pattern.type ?? '', problem);
    const statuses = ['False', 'True', 'Unknown'];
    if (!statuses.includes(pattern.status ?? ''))
      errors.unsupported(`${at}[${i}].status`, pattern.status ?? '', statuses);
  });
}

function validateFailurePolicy(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  const rules = spec.podFailurePolicy?.rules ?? [];
  if (rules.length > jobRulesMax) {
    errors.tooMany(`${at}.rules`, rules.length, jobRulesMax);
    return;
  }
  const pod = spec.template?.spec ?? {};
  const names = new Set([...(pod.containers ?? []), ...(pod.initContainers ?? [])].flatMap(({ name }) => name ?? []));
  rules.forEach((rule, i) => {
    const path = `${at}.rules[${i}]`;
    const conditions = rule.onPodConditions ?? [];
    if (!rule.action)
      errors.required(`${path}.action`, `valid values: ${actions.map((action) => JSON.stringify(action)).join(', ')}`);
    else if (!actions.includes(rule.action ?? '')) errors.unsupported(`${path}.action`, rule.action, actions);
    else if (rule.action === 'FailIndex' && typeof spec.backoffLimitPerIndex !== 'number')
      errors.invalid(`${path}.action`, rule.action, 'requires the backoffLimitPerIndex to be set');
    if (rule.onExitCodes && conditions.length > 0)
      errors.invalid(path, rule, 'specifying both OnExitCodes and OnPodConditions is not supported');
    else if (!rule.onExitCodes && conditions.length === 0)
      errors.invalid(path, rule, 'specifying one of OnExitCodes and OnPodConditions is required');
    if (rule.onExitCodes) validateExitCodes(rule.onExitCodes, `${path}.onExitCodes`, names, errors);
    validateConditions(conditions, `${path}.onPodConditions`, errors);
  });
}

/** What is wrong with indexes like `1,3-5,7`: in order, none twice, below the number of completions. */
function indexesProblem(text: string, completions: number): string {
  let last = -1;
  for (const part of text.split(',')) {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part);
    if (match === null) return `cannot convert string to integer for index: ${JSON.stringify(part)}`;
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (from <= last || to < from)
      return `non-increasing order, previous: ${last < from ? from : last}, current: ${last < from ? to : from}`;
    if (to >= completions) return `too large index: ${JSON.stringify(String(to))}`;
    last = to;
  }
  return '';
}

function validateSuccessPolicy(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  if (spec.completionMode !== 'Indexed') errors.invalid(at, spec.successPolicy, 'requires indexed completion mode');
  const rules = spec.successPolicy?.rules ?? [];
  if (rules.length === 0)
    errors.required(`${at}.rules`, 'at least one rules must be specified when the successPolicy is specified');
  if (rules.length > jobRulesMax) {
    errors.tooMany(`${at}.rules`, rules.length, jobRulesMax);
    return;
  }
  const completions = Number(spec.completions ?? 0);
  rules.forEach((rule, i) => {
    const path = `${at}.rules[${i}]`;
    const { succeededCount: count, succeededIndexes: indexes } = rule;
    if (typeof count !== 'number' && typeof indexes !== 'string')
      errors.required(path, 'at least one of succeededCount or succeededIndexes must be specified');
    const problem = typeof indexes === 'string' ? indexesProblem(indexes, completions) : '';
    if (problem !== '')
      errors.invalid(`${path}.succeededIndexes`, indexes, `error parsing succeededIndexes: ${problem}`);
    if (typeof count !== 'number') return;
    if (count < 0) errors.invalid(`${path}.succeededCount`, count, 'must be greater than or equal to 0');
    else if (count > completions)
      errors.invalid(
        `${path}.succeededCount`,
        count,
        `must be less than or equal to ${completions} (the number of specified completions)`,
      );
  });
}

export function validateJobPolicies(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  const isIndexed = spec.completionMode === 'Indexed';
  const perIndex = typeof spec.backoffLimitPerIndex === 'number';
  if (perIndex && !isIndexed)
    errors.invalid(`${at}.backoffLimitPerIndex`, spec.backoffLimitPerIndex, 'requires indexed completion mode');
  if (typeof spec.maxFailedIndexes === 'number') {
    if (!perIndex) errors.required(`${at}.backoffLimitPerIndex`, 'when maxFailedIndexes is specified');
    if (spec.maxFailedIndexes > (spec.completions ?? 0))
      errors.invalid(`${at}.maxFailedIndexes`, spec.maxFailedIndexes, 'must be less than or equal to completions');
  }
  if (spec.podFailurePolicy) validateFailurePolicy(spec, `${at}.podFailurePolicy`, errors);
  if (spec.successPolicy) validateSuccessPolicy(spec, `${at}.successPolicy`, errors);
  const replacement: unknown = spec.podReplacementPolicy;
  const replacements = spec.podFailurePolicy ? ['Failed'] : ['Failed', 'TerminatingOrFailed'];
  if (typeof replacement === 'string' && !replacements.includes(replacement))
    errors.unsupported(`${at}.podReplacementPolicy`, replacement, replacements);
  if (typeof spec.managedBy !== 'string') return;
  const [domain = '', ...path] = spec.managedBy.split('/');
  if (path.join('/') === '' || subdomainProblem(domain) !== '')
    errors.invalid(`${at}.managedBy`, spec.managedBy, 'must be a domain-prefixed path (such as "acme.io/foo")');
}
