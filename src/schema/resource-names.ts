/** Names and amounts of resources, as each place takes them (core validation of the reference implementation). */
import { isQuantity, parseQuantity } from '#base/quantity.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { isWholeNumber } from './validate-values.ts';

const computeNames = ['cpu', 'memory', 'ephemeral-storage'];
const countedNames = new Set([
  ...['pods', 'resourcequotas', 'services', 'replicationcontrollers', 'secrets', 'configmaps'],
  ...['persistentvolumeclaims', 'services.nodeports', 'services.loadbalancers'],
]);
const quotaNames = new Set([
  ...computeNames.flatMap((name) => [name, `requests.${name}`, `limits.${name}`]),
  'requests.storage',
  ...countedNames,
]);
const containerNames = new Set(computeNames);

const isHugePages = (name: string): boolean => name.startsWith('hugepages-');
const isStandardQuota = (name: string): boolean =>
  quotaNames.has(name) || isHugePages(name) || name.startsWith('requests.hugepages-');

/** One of Kubernetes' own. */
const isNative = (name: string): boolean => !name.includes('/') || name.includes('kubernetes.io/');

/** A resource of a device or an operator, which is given out in whole units and never overcommitted. */
export const isExtended = (name: string): boolean =>
  !isNative(name) && !name.startsWith('requests.') && qualifiedNameProblems(`requests.${name}`).length === 0;

/** Requests may be less than limits. */
export const isOvercommitted = (name: string): boolean => isNative(name) && !isHugePages(name);

/** A resource of which there are whole ones only. */
const isCounted = (name: string): boolean => countedNames.has(name) || isExtended(name);

/** Whether a scope of a quota has something to say of it. */
export const isQuotaName = isStandardQuota;

export function resourceNameProblems(name: string): string[] {
  const problems = qualifiedNameProblems(name);
  if (problems.length === 0 && !name.includes('/') && name !== 'storage' && !isStandardQuota(name))
    problems.push('must be a standard resource type or fully qualified');
  return problems;
}

export function containerResourceProblems(name: string): string[] {
  const problems = resourceNameProblems(name);
  if (name.split('/').length === 1) {
    if (!containerNames.has(name) && !isHugePages(name)) problems.push('must be a standard resource for containers');
  } else if (!isNative(name) && !isExtended(name)) problems.push("doesn't follow extended resource name standard");
  return problems;
}

export function quotaResourceProblems(name: string): string[] {
  const problems = resourceNameProblems(name);
  if (name.split('/').length === 1 && !isStandardQuota(name)) problems.push('must be a standard resource for quota');
  return problems;
}

const thousandthsMax = 2n ** 63n - 1n;

/** Whole, and few enough for their thousandths to be counted in 64 bits, as upstream counts them. */
function isCountable(value: string | number): boolean {
  const { nano } = parseQuantity(value);
  return isWholeNumber(String(value)) && nano / 1_000_000n <= thousandthsMax;
}

/** Not less than none, and whole where the resource is counted. */
export function validateAmount(name: string, value: unknown, at: string, errors: FieldErrors): void {
  if (!isQuantity(value)) return;
  if (parseQuantity(value).nano < 0n) errors.invalid(at, value, 'must be greater than or equal to 0');
  if (isCounted(name) && !isCountable(value)) errors.invalid(at, value, 'must be an integer');
}

/** Huge pages come whole. */
export function validateHugePages(name: string, value: unknown, at: string, errors: FieldErrors): void {
  if (!isHugePages(name) || !isQuantity(value)) return;
  const size = name.slice('hugepages-'.length);
  const page = isQuantity(size) ? parseQuantity(size).nano : 0n;
  if (page <= 0n || !isWholeNumber(size) || parseQuantity(value).nano % page !== 0n)
    errors.invalid(at, value, `${value} is not positive integer multiple of ${name}`);
}

/** Huge pages of a container that asks for nothing else. */
export function hasLonelyPages(names: readonly string[]): boolean {
  return names.some(isHugePages) && !names.includes('cpu') && !names.includes('memory');
}
