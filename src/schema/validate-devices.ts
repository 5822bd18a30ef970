/**
 * Validation of rules that taint devices.
 * Source: Kubernetes API reference, "DeviceTaintRule"; k8s.io/kubernetes 1.37, pkg/apis/resource/validation.
 */
import type { Condition } from '#api/meta.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { DeviceTaint, DeviceTaintRule, DeviceTaintSelector } from '#api/resource.v1.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';

const effects = ['NoExecute', 'NoSchedule', 'None'] as const;
const conditionsMax = 8;
const poolBytesMax = 253;
const driverBytesMax = 63;
const identifierCharsMax = 32;
const reasonPattern = /^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/;

export function validateTaintRule(o: Draft<DeviceTaintRule>, errors: FieldErrors, old?: DeviceTaintRule): void {
  const { deviceSelector, taint } = o.spec ?? {};
  if (deviceSelector !== undefined && deviceSelector !== null)
    validateSelector(deviceSelector, 'spec.deviceSelector', errors);
  validateTaint(taint ?? {}, 'spec.taint', errors, old?.spec.taint);
}

function validateSelector({ driver, pool, device }: Draft<DeviceTaintSelector>, at: string, errors: FieldErrors): void {
  if (driver !== undefined) validateDriver(driver, `${at}.driver`, errors);
  if (pool !== undefined) validatePool(pool, `${at}.pool`, errors);
  if (device === '') errors.required(`${at}.device`);
  else if (device !== undefined && labelProblem(device) !== '')
    errors.invalid(`${at}.device`, device, labelProblem(device));
}

/** A name of an attribute or a capacity: an identifier, perhaps behind a domain. */
export function validateAttributeName(name: string, at: string, errors: FieldErrors): void {
  const parts = name.split('/');
  const [domain, id] = parts.length === 1 ? [undefined, name] : parts;
  if (parts.length > 2) return;
  if (domain === '') errors.invalid(at, '', 'the domain must not be empty');
  else if (domain !== undefined) validateDriver(domain, at, errors);
  if (id === '' && domain !== undefined) errors.invalid(at, '', 'the name must not be empty');
  else if (id !== undefined) {
    if (id.length > identifierCharsMax) errors.tooLong(at, identifierCharsMax);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(id))
      errors.invalid(
        at,
        id,
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
      );
  }
}

export function validateDriver(driver: string, at: string, errors: FieldErrors): void {
  if (driver === '') errors.required(at);
  else if (driver.length > driverBytesMax) errors.tooLong(at, driverBytesMax);
  const problem = driver === '' ? '' : subdomainProblem(driver.toLowerCase());
  if (problem !== '') errors.invalid(at, driver, problem);
}

export function validatePool(pool: string, at: string, errors: FieldErrors): void {
  if (pool === '') {
    errors.required(at);
    return;
  }
  if (pool.length > poolBytesMax) errors.tooLong(at, poolBytesMax);
  for (const part of pool.split('/')) {
    const problem = subdomainProblem(part);
    if (problem !== '') errors.invalid(at, part, problem);
  }
}

export function validateTaint(
  { key = '', value = '', effect = '' }: Draft<DeviceTaint>,
  at: string,
  errors: FieldErrors,
  old?: DeviceTaint,
): void {
  for (const problem of qualifiedNameProblems(key)) errors.invalid(`${at}.key`, key, problem);
  if (value !== '') for (const problem of labelValueProblems(value)) errors.invalid(`${at}.value`, value, problem);
  if (old?.effect === effect) return;
  if (effect === '') errors.required(`${at}.effect`);
  else if (!effects.some((known) => known === effect)) errors.unsupported(`${at}.effect`, effect, effects);
}

export function validateTaintRuleStatus(o: Draft<DeviceTaintRule>, _old: unknown, errors: FieldErrors): void {
  const conditions = o.status?.conditions ?? [];
  validateConditions(conditions, errors);
  if (conditions.length > conditionsMax) errors.tooMany('status.conditions', conditions.length, conditionsMax);
}

/** `status.conditions`, of any kind whose conditions are `metav1.Condition`s. */
export function validateConditions(conditions: readonly Draft<Condition>[] | undefined, errors: FieldErrors): void {
  const seen = new Set<string>();
  for (const [at, condition] of (conditions ?? []).entries()) {
    const { type = '' } = condition;
    if (seen.has(type)) errors.duplicate(`status.conditions[${at}]`, type);
    seen.add(type);
    validateCondition(condition, `status.conditions[${at}]`, errors);
  }
}

/** As of any `metav1.Condition`. */
function validateCondition(condition: Draft<Condition>, at: string, errors: FieldErrors): void {
  const { type = '', status = '', reason = '', observedGeneration = 0, lastTransitionTime } = condition;
  if (type === '') errors.required(`${at}.type`, 'is required');
  else for (const problem of qualifiedNameProblems(type)) errors.invalid(`${at}.type`, type, problem);
  if (status === '') errors.required(`${at}.status`);
  else if (!['True', 'False', 'Unknown'].includes(status))
    errors.unsupported(`${at}.status`, status, ['False', 'True', 'Unknown']);
  if (observedGeneration < 0)
    errors.invalid(`${at}.observedGeneration`, observedGeneration, 'must be greater than or equal to zero');
  if (!lastTransitionTime) errors.required(`${at}.lastTransitionTime`);
  if (reason === '') errors.required(`${at}.reason`);
  else if (!reasonPattern.test(reason))
    errors.invalid(
      `${at}.reason`,
      reason,
      "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    );
}
