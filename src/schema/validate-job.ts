/**
 * Validation of a Job's policies: what counts as failure, what as success, which index may fail (validation of batch/v1
 * in the reference implementation).
 */
import type {
  JobSpec,
  PodFailurePolicyOnExitCodesRequirement,
  PodFailurePolicyOnPodConditionsPattern,
  SuccessPolicyRule,
} from '#api/batch.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import { omitted } from './field-errors.ts';
import type { FieldErrors } from './field-errors.ts';
import {
  jobConditionsMax,
  jobExitCodesMax,
  jobIndexesCharsMax,
  jobIndexesMax,
  jobIndexesOfManyMax,
  jobManagerCharsMax,
  jobRulesMax,
} from './limits.ts';
import { validateDomainPath } from './validate-domain-path.ts';
import { indexesOf } from './job-indexes.ts';
import { nonNegative } from './validate-values.ts';

const actions = ['Count', 'FailIndex', 'FailJob', 'Ignore'];

function validateExitCodes(
  codes: Draft<PodFailurePolicyOnExitCodesRequirement>,
  at: string,
  names: ReadonlySet<string>,
  errors: FieldErrors,
): void {
  if (!codes.operator) errors.required(`${at}.operator`, 'valid values: ["In" "NotIn"]');
  else if (!['In', 'NotIn'].includes(codes.operator))
    errors.unsupported(`${at}.operator`, codes.operator, ['In', 'NotIn']);
  if (typeof codes.containerName === 'string' && !names.has(codes.containerName))
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
  const seen = new Set<number>();
  values.forEach((value, i) => {
    if (codes.operator === 'In' && value === 0)
      errors.invalid(`${at}.values[${i}]`, value, 'must not be 0 for the In operator');
    if (seen.has(value)) errors.duplicate(`${at}.values[${i}]`, value);
    seen.add(value);
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
    if (!pattern.status) errors.required(`${at}[${i}].status`, 'valid values: ["False" "True" "Unknown"]');
    else if (!statuses.includes(pattern.status)) errors.unsupported(`${at}[${i}].status`, pattern.status, statuses);
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
    if (!rule.action) errors.required(`${path}.action`, 'valid values: ["Count" "FailIndex" "FailJob" "Ignore"]');
    else if (!actions.includes(rule.action)) errors.unsupported(`${path}.action`, rule.action, actions);
    else if (rule.action === 'FailIndex' && typeof spec.backoffLimitPerIndex !== 'number')
      errors.invalid(`${path}.action`, rule.action, 'requires the backoffLimitPerIndex to be set');
    if (rule.onExitCodes) validateExitCodes(rule.onExitCodes, `${path}.onExitCodes`, names, errors);
    validateConditions(conditions, `${path}.onPodConditions`, errors);
    if (rule.onExitCodes && conditions.length > 0)
      errors.invalid(path, omitted, 'specifying both OnExitCodes and OnPodConditions is not supported');
    else if (!rule.onExitCodes && conditions.length === 0)
      errors.invalid(path, omitted, 'specifying one of OnExitCodes and OnPodConditions is required');
  });
}

function validateSuccessPolicy(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  if (spec.completionMode !== 'Indexed') {
    errors.invalid(at, spec.successPolicy, 'requires indexed completion mode');
    return;
  }
  const rules = spec.successPolicy?.rules ?? [];
  if (rules.length === 0)
    errors.required(`${at}.rules`, 'at least one rules must be specified when the successPolicy is specified');
  if (rules.length > jobRulesMax) {
    errors.tooMany(`${at}.rules`, rules.length, jobRulesMax);
    return;
  }
  const completions = Number(spec.completions ?? 0);
  rules.forEach((rule, i) => {
    validateSuccessRule(rule, completions, `${at}.rules[${i}]`, errors);
  });
}

function validateSuccessRule(
  { succeededCount: count, succeededIndexes: indexes }: Draft<SuccessPolicyRule>,
  completions: number,
  at: string,
  errors: FieldErrors,
): void {
  if (typeof count !== 'number' && typeof indexes !== 'string')
    errors.required(at, 'at least one of succeededCount or succeededIndexes must be specified');
  let selected: number | undefined;
  if (typeof indexes === 'string') {
    if (indexes.length > jobIndexesCharsMax) errors.tooLong(`${at}.succeededIndexes`, jobIndexesCharsMax);
    const { total, problem } = indexesOf(indexes, completions);
    selected = total;
    if (problem !== '') errors.invalid(`${at}.succeededIndexes`, indexes, `error parsing succeededIndexes: ${problem}`);
  }
  if (typeof count !== 'number') return;
  const bounds: [number | undefined, string][] = [
    [completions, 'the number of specified completions'],
    [selected, 'the number of indexes in the specified succeededIndexes field'],
  ];
  nonNegative(count, `${at}.succeededCount`, errors);
  for (const [most, what] of bounds)
    if (most !== undefined && count > most)
      errors.invalid(`${at}.succeededCount`, count, `must be less than or equal to ${most} (${what})`);
}

/** What may be failed of an Indexed Job and how much of it runs at once: its status lists indexes. */
function validateIndexed(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  const { completions, parallelism = 0, maxFailedIndexes: failed } = spec;
  const atMost = (field: 'parallelism' | 'maxFailedIndexes', most: number, when: string): void => {
    const value = spec[field];
    if (typeof value === 'number' && value > most)
      errors.invalid(`${at}.${field}`, value, `must be less than or equal to ${most}${when}`);
  };
  if (completions === undefined) errors.required(`${at}.completions`, 'when completion mode is Indexed');
  atMost('parallelism', jobIndexesMax, ' when completion mode is Indexed');
  if (completions !== undefined && typeof failed === 'number' && failed > completions)
    errors.invalid(`${at}.maxFailedIndexes`, failed, 'must be less than or equal to completions');
  atMost('maxFailedIndexes', jobIndexesMax, '');
  if (completions === undefined || completions <= jobIndexesMax || typeof spec.backoffLimitPerIndex !== 'number')
    return;
  if (typeof failed !== 'number')
    errors.required(`${at}.maxFailedIndexes`, `must be specified when completions is above ${jobIndexesMax}`);
  const many = ` when completions are above ${jobIndexesMax} and used with backoff limit per index`;
  if (parallelism > jobIndexesOfManyMax) atMost('parallelism', jobIndexesOfManyMax, many);
  atMost('maxFailedIndexes', jobIndexesOfManyMax, many);
}

const modes = ['NonIndexed', 'Indexed'];

/** Everything of a Job's spec that comes before its template. */
export function validateJobPolicies(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  const { completionMode: mode, podReplacementPolicy: replacement } = spec;
  if (typeof spec.maxFailedIndexes === 'number' && typeof spec.backoffLimitPerIndex !== 'number')
    errors.required(`${at}.backoffLimitPerIndex`, 'when maxFailedIndexes is specified');
  if (typeof spec.managedBy === 'string') {
    validateDomainPath(spec.managedBy, `${at}.managedBy`, errors);
    if (spec.managedBy.length > jobManagerCharsMax) errors.tooLong(`${at}.managedBy`, jobManagerCharsMax);
  }
  if (typeof mode === 'string' && !modes.includes(mode)) errors.unsupported(`${at}.completionMode`, mode, modes);
  if (mode === 'Indexed') validateIndexed(spec, at, errors);
  else if (mode === undefined || mode === 'NonIndexed')
    for (const field of ['backoffLimitPerIndex', 'maxFailedIndexes'] as const)
      if (typeof spec[field] === 'number')
        errors.invalid(`${at}.${field}`, spec[field], 'requires indexed completion mode');
  if (spec.podFailurePolicy) validateFailurePolicy(spec, `${at}.podFailurePolicy`, errors);
  if (spec.successPolicy) validateSuccessPolicy(spec, `${at}.successPolicy`, errors);
  const replacements = spec.podFailurePolicy ? ['Failed'] : ['Failed', 'TerminatingOrFailed'];
  if (typeof replacement === 'string' && !replacements.includes(replacement))
    errors.unsupported(`${at}.podReplacementPolicy`, replacement, replacements);
}
