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
const reasonPattern = /^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/;

export function validateTaintRule(o: Draft<DeviceTaintRule>, errors: FieldErrors, old?: DeviceTaintRule): void {
  const { deviceSelector, taint } = o.spec ?? {};
  if (deviceSelector !== undefined && deviceSelector !== null)
    validateSelector(deviceSelector, 'spec.deviceSelector', errors);
  validateTaint(taint ?? {}, old?.spec.taint, errors);
}

function validateSelector({ driver, pool, device }: Draft<DeviceTaintSelector>, at: string, errors: FieldErrors): void {
  if (driver !== undefined) validateDriver(driver, `${at}.driver`, errors);
  if (pool !== undefined) validatePool(pool, `${at}.pool`, errors);
  if (device === '') errors.required(`${at}.device`);
  else if (device !== undefined && labelProblem(device) !== '')
    errors.invalid(`${at}.device`, device, labelProblem(device));
}

function validateDriver(driver: string, at: string, errors: FieldErrors): void {
  if (driver === '') errors.required(at);
  else if (driver.length > driverBytesMax) errors.tooLong(at, driverBytesMax);
  const problem = driver === '' ? '' : subdomainProblem(driver.toLowerCase());
  if (problem !== '') errors.invalid(at, driver, problem);
}

function validatePool(pool: string, at: string, errors: FieldErrors): void {
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

function validateTaint(
  { key = '', value = '', effect = '' }: Draft<DeviceTaint>,
  old: DeviceTaint | undefined,
  errors: FieldErrors,
): void {
  for (const problem of qualifiedNameProblems(key)) errors.invalid('spec.taint.key', key, problem);
  if (value !== '') for (const problem of labelValueProblems(value)) errors.invalid('spec.taint.value', value, problem);
  if (old?.effect === effect) return;
  if (effect === '') errors.required('spec.taint.effect');
  else if (!effects.some((known) => known === effect)) errors.unsupported('spec.taint.effect', effect, effects);
}

export function validateTaintRuleStatus(o: Draft<DeviceTaintRule>, _old: unknown, errors: FieldErrors): void {
  const conditions = o.status?.conditions ?? [];
  const seen = new Set<string>();
  for (const [at, condition] of conditions.entries()) {
    const { type = '' } = condition;
    if (seen.has(type)) errors.duplicate(`status.conditions[${at}]`, type);
    seen.add(type);
    validateCondition(condition, `status.conditions[${at}]`, errors);
  }
  if (conditions.length > conditionsMax) errors.tooMany('status.conditions', conditions.length, conditionsMax);
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
  if (lastTransitionTime === undefined) errors.required(`${at}.lastTransitionTime`);
  if (reason === '') errors.required(`${at}.reason`);
  else if (!reasonPattern.test(reason))
    errors.invalid(
      `${at}.reason`,
      reason,
      "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    );
}
