/** Validation of label selectors and node selectors, and of the affinity that is made of them. */
import type { Affinity, NodeSelector, NodeSelectorTerm, PodAffinityTerm } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { LabelSelector, LabelSelectorRequirement } from '#api/meta.v1.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { validateLabels } from './validate-meta.ts';

/** Whether it is one. An absent one is: it selects nothing. */
export function validateLabelSelector(
  selector: Draft<LabelSelector> | undefined,
  at: string,
  errors: FieldErrors,
): boolean {
  const before = errors.causes.length;
  validateLabels(selector?.matchLabels, `${at}.matchLabels`, errors);
  (selector?.matchExpressions ?? []).forEach((e, i) => {
    const path = `${at}.matchExpressions[${i}]`;
    for (const problem of qualifiedNameProblems(e.key ?? '')) errors.invalid(`${path}.key`, e.key ?? '', problem);
    for (const [j, value] of (e.values ?? []).entries())
      for (const problem of labelValueProblems(String(value))) errors.invalid(`${path}.values[${j}]`, value, problem);
    validateSetOperator(e, path, errors);
  });
  return errors.causes.length === before;
}

/** In, NotIn, Exists and DoesNotExist, with the values that each takes. */
function validateSetOperator(
  { operator, values }: Draft<LabelSelectorRequirement>,
  at: string,
  errors: FieldErrors,
): void {
  const count = (values ?? []).length;
  if (operator === 'In' || operator === 'NotIn') {
    if (count === 0) errors.required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
  } else if (operator === 'Exists' || operator === 'DoesNotExist') {
    if (count > 0)
      errors.forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
  } else errors.invalid(`${at}.operator`, operator ?? '', 'not a valid selector operator');
}

/** `checksValues`: of preferred terms, values were never looked at. */
function validateNodeTerm(
  term: Draft<NodeSelectorTerm> | undefined,
  at: string,
  errors: FieldErrors,
  checksValues = false,
): void {
  (term?.matchExpressions ?? []).forEach((e, i) => {
    const path = `${at}.matchExpressions[${i}]`;
    if (e.operator !== 'Gt' && e.operator !== 'Lt') validateSetOperator(e, path, errors);
    else if ((e.values ?? []).length !== 1)
      errors.required(`${path}.values`, "must be specified single value when `operator` is 'Lt' or 'Gt'");
    for (const problem of qualifiedNameProblems(e.key ?? '')) errors.invalid(`${path}.key`, e.key ?? '', problem);
    if (checksValues)
      (e.values ?? []).forEach((value, j) => {
        for (const problem of labelValueProblems(value)) errors.invalid(`${path}.values[${j}]`, value, problem);
      });
  });
  (term?.matchFields ?? []).forEach((e, i) => {
    const path = `${at}.matchFields[${i}]`;
    if (e.operator !== 'In' && e.operator !== 'NotIn')
      errors.invalid(`${path}.operator`, e.operator ?? '', 'not a valid selector operator');
    else if ((e.values ?? []).length !== 1)
      errors.required(
        `${path}.values`,
        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
      );
    if (e.key !== 'metadata.name') errors.invalid(`${path}.key`, e.key ?? '', 'not a valid field selector key');
    else
      (e.values ?? []).forEach((value, j) => {
        if (subdomainProblem(value) !== '') errors.invalid(`${path}.values[${j}]`, value, subdomainProblem(value));
      });
  });
}

/** A NodeSelector: terms of which one has to match. */
export function validateNodeSelector(selector: Draft<NodeSelector> | undefined, at: string, errors: FieldErrors): void {
  const terms = selector?.nodeSelectorTerms ?? [];
  if (terms.length === 0) errors.required(`${at}.nodeSelectorTerms`, 'must have at least one node selector term');
  terms.forEach((term, i) => {
    validateNodeTerm(term, `${at}.nodeSelectorTerms[${i}]`, errors, true);
  });
}

interface LabelKeys {
  labelSelector?: Draft<LabelSelector> | undefined;
  matchLabelKeys?: string[] | undefined;
  mismatchLabelKeys?: string[] | undefined;
}

/** Keys whose values a new Pod's labels give: they are added to the selector. */
export function validateLabelKeys(
  { labelSelector, matchLabelKeys = [], mismatchLabelKeys = [] }: LabelKeys,
  at: string,
  errors: FieldErrors,
): void {
  for (const [field, keys] of [
    ['matchLabelKeys', matchLabelKeys],
    ['mismatchLabelKeys', mismatchLabelKeys],
  ] as const)
    if (keys.length > 0 && !labelSelector)
      errors.forbidden(`${at}.${field}`, 'must not be specified when labelSelector is not set');
    else
      keys.forEach((key, i) => {
        for (const problem of qualifiedNameProblems(key)) errors.invalid(`${at}.${field}[${i}]`, key, problem);
      });
  const seen = new Set(Object.keys(labelSelector?.matchLabels ?? {}));
  for (const { key = '' } of labelSelector?.matchExpressions ?? []) {
    const i = matchLabelKeys.lastIndexOf(key);
    if (i >= 0 && seen.has(key)) errors.invalid(`${at}[${i}]`, key, 'exists in both matchLabelKeys and labelSelector');
    seen.add(key);
  }
  matchLabelKeys.forEach((key, i) => {
    if (mismatchLabelKeys.includes(key))
      errors.invalid(`${at}.matchLabelKeys[${i}]`, key, 'exists in both matchLabelKeys and mismatchLabelKeys');
  });
}

function validateWeight(weight: unknown, at: string, errors: FieldErrors): void {
  if (typeof weight !== 'number' || weight < 1 || weight > 100)
    errors.invalid(at, weight ?? 0, 'must be in the range 1-100');
}

function validatePodTerm(term: Draft<PodAffinityTerm> | undefined, at: string, errors: FieldErrors): void {
  if (term?.labelSelector) validateLabelSelector(term.labelSelector, `${at}.labelSelector`, errors);
  if (term?.namespaceSelector) validateLabelSelector(term.namespaceSelector, `${at}.namespaceSelector`, errors);
  for (const name of term?.namespaces ?? [])
    if (labelProblem(name) !== '') errors.invalid(`${at}.namespace`, name, labelProblem(name));
  validateLabelKeys(term ?? {}, at, errors);
  if (!term?.topologyKey) {
    errors.required(`${at}.topologyKey`, 'can not be empty');
  }
  const key = term?.topologyKey ?? '';
  for (const problem of qualifiedNameProblems(key)) errors.invalid(`${at}.topologyKey`, key, problem);
}

/** Of a Pod: towards nodes, towards Pods and away from Pods (validateAffinity of the reference implementation). */
export function validateAffinity(affinity: Draft<Affinity> | undefined, at: string, errors: FieldErrors): void {
  const required = 'requiredDuringSchedulingIgnoredDuringExecution';
  const preferred = 'preferredDuringSchedulingIgnoredDuringExecution';
  const node = affinity?.nodeAffinity;
  if (node?.[required]) validateNodeSelector(node[required], `${at}.nodeAffinity.${required}`, errors);
  (node?.[preferred] ?? []).forEach((entry, i) => {
    validateWeight(entry.weight, `${at}.nodeAffinity.${preferred}[${i}].weight`, errors);
    validateNodeTerm(entry.preference, `${at}.nodeAffinity.${preferred}[${i}].preference`, errors);
  });
  for (const kind of ['podAffinity', 'podAntiAffinity'] as const) {
    (affinity?.[kind]?.[required] ?? []).forEach((term, i) => {
      validatePodTerm(term, `${at}.${kind}.${required}[${i}]`, errors);
    });
    (affinity?.[kind]?.[preferred] ?? []).forEach((entry, i) => {
      validateWeight(entry.weight, `${at}.${kind}.${preferred}[${i}].weight`, errors);
      validatePodTerm(entry.podAffinityTerm, `${at}.${kind}.${preferred}[${i}].podAffinityTerm`, errors);
    });
  }
}
