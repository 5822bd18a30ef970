/** Validation of access reviews (authorization.k8s.io/v1; validation of the reference implementation). */
import type {
  FieldSelectorAttributes,
  LabelSelectorAttributes,
  LocalSubjectAccessReview,
  ResourceAttributes,
  SelfSubjectAccessReview,
  SelfSubjectAccessReviewSpec,
  SubjectAccessReview,
  SubjectAccessReviewSpec,
} from '#api/authorization.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';

export function validateSelfReview({ spec, metadata }: Draft<SelfSubjectAccessReview>, errors: FieldErrors): void {
  validateAttributes(spec ?? {}, errors);
  validateEmptyMetadata(metadata, ['managedFields'], errors);
}

export function validateSubjectReview({ spec, metadata }: Draft<SubjectAccessReview>, errors: FieldErrors): void {
  validateSubject(spec ?? {}, errors);
  validateEmptyMetadata(metadata, ['managedFields'], errors);
}

export function validateLocalReview({ spec, metadata }: Draft<LocalSubjectAccessReview>, errors: FieldErrors): void {
  validateSubject(spec ?? {}, errors);
  validateEmptyMetadata(metadata, ['managedFields', 'namespace'], errors);
  const { resourceAttributes, nonResourceAttributes } = spec ?? {};
  if (resourceAttributes !== undefined && (resourceAttributes.namespace ?? '') !== (metadata?.namespace ?? ''))
    errors.invalid(
      'spec.resourceAttributes.namespace',
      resourceAttributes.namespace ?? '',
      'must match metadata.namespace',
    );
  if (nonResourceAttributes !== undefined)
    errors.invalid('spec.nonResourceAttributes', nonResourceAttributes, 'disallowed on this kind of request');
}

function validateSubject(spec: Draft<SubjectAccessReviewSpec>, errors: FieldErrors): void {
  validateAttributes(spec, errors);
  if (!spec.user && (spec.groups ?? []).length === 0)
    errors.invalid('spec.user', spec.user ?? '', 'at least one of user or group must be specified');
}

function validateAttributes(spec: Draft<SelfSubjectAccessReviewSpec>, errors: FieldErrors): void {
  const { resourceAttributes, nonResourceAttributes } = spec;
  if ((resourceAttributes === undefined) === (nonResourceAttributes === undefined))
    errors.invalid(
      'spec',
      nonResourceAttributes ?? null,
      'exactly one of nonResourceAttributes or resourceAttributes must be specified',
    );
  if (resourceAttributes !== undefined) validateSelectors(resourceAttributes, errors);
}

function validateEmptyMetadata(
  metadata: Draft<ObjectMeta> | undefined,
  allowed: readonly (keyof ObjectMeta)[],
  errors: FieldErrors,
): void {
  const fields = Object.entries(metadata ?? {}).filter(
    ([name, value]) => !allowed.some((one) => one === name) && value !== undefined && value !== null && value !== '',
  );
  const except = allowed.includes('namespace') ? ' except for namespace' : '';
  if (fields.length > 0) errors.invalid('metadata', metadata, `must be empty${except}`);
}

function validateSelectors({ fieldSelector, labelSelector }: Draft<ResourceAttributes>, errors: FieldErrors): void {
  const at = 'spec.resourceAttributes';
  if (fieldSelector !== undefined) {
    validateForm(fieldSelector, `${at}.fieldSelector`, errors);
    (fieldSelector.requirements ?? []).forEach((requirement, i) => {
      const path = `${at}.fieldSelector.requirements[${i}]`;
      if (!requirement.key) errors.required(`${path}.key`, 'must be specified');
      validateValues(requirement, path, errors);
    });
  }
  if (labelSelector === undefined) return;
  validateForm(labelSelector, `${at}.labelSelector`, errors);
  (labelSelector.requirements ?? []).forEach((requirement, i) => {
    const path = `${at}.labelSelector.requirements[${i}]`;
    validateValues(requirement, path, errors);
    const { key = '', values = [] } = requirement;
    for (const problem of qualifiedNameProblems(key)) errors.invalid(`${path}.key`, key, problem);
    values.forEach((value, j) => {
      for (const problem of labelValueProblems(value)) errors.invalid(`${path}.values[${j}]`, value, problem);
    });
  });
}

function validateForm(
  { rawSelector, requirements = [] }: Draft<FieldSelectorAttributes> | Draft<LabelSelectorAttributes>,
  at: string,
  errors: FieldErrors,
): void {
  if (rawSelector && requirements.length > 0)
    errors.invalid(`${at}.rawSelector`, rawSelector, 'may not specified at the same time as requirements');
  if (!rawSelector && requirements.length === 0)
    errors.required(`${at}.requirements`, `when ${at} is specified, requirements or rawSelector is required`);
}

/** Operators that nobody knows here are for authorizers that do. */
function validateValues(
  { operator, values = [] }: { operator?: string; values?: string[] },
  at: string,
  errors: FieldErrors,
): void {
  if ((operator === 'In' || operator === 'NotIn') && values.length === 0)
    errors.required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
  if ((operator === 'Exists' || operator === 'DoesNotExist') && values.length > 0)
    errors.forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
}
