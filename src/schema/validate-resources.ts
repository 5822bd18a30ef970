/** Validation of the amounts of resources that a container, a Pod, or a RuntimeClass asks for. */
import type { ResourceRequirements } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import {
  containerResourceProblems,
  hasLonelyPages,
  isOvercommitted,
  validateAmount,
  validateHugePages,
} from './resource-names.ts';

/** Says what is wrong with a resource's name. */
type NameRule = (name: string, at: string, errors: FieldErrors) => void;

const validateContainerResource: NameRule = (name, at, errors) => {
  for (const problem of containerResourceProblems(name)) errors.invalid(at, name, problem);
};

/** `validateName` of a resource: those of a container, or of a whole Pod. */
export function validateResources(
  resources: Draft<ResourceRequirements> | undefined,
  at: string,
  errors: FieldErrors,
  validateName: NameRule = validateContainerResource,
): void {
  if (!resources) return;
  const { limits = {}, requests = {} } = resources;
  for (const [part, list] of [
    ['limits', limits],
    ['requests', requests],
  ] as const)
    for (const [name, value] of Object.entries(list)) {
      const path = `${at}.${part}[${name}]`;
      validateName(name, path, errors);
      validateAmount(name, value, path, errors);
      if (part === 'requests') validateRequest(name, [value, limits[name]], at, errors);
      validateHugePages(name, value, path, errors);
    }
  if (hasLonelyPages([...Object.keys(limits), ...Object.keys(requests)]))
    errors.forbidden(at, 'HugePages require cpu or memory');
}

function validateRequest(
  name: string,
  [request, limit]: [string | undefined, string | undefined],
  at: string,
  errors: FieldErrors,
): void {
  if (limit === undefined) {
    if (!isOvercommitted(name)) errors.required(`${at}.limits`, 'Limit must be set for non overcommitable resources');
  } else if (isQuantity(limit) && isQuantity(request)) {
    const order = compareQuantities(request, limit);
    if (order !== 0 && !isOvercommitted(name))
      errors.invalid(`${at}.requests`, request, `must be equal to ${name} limit of ${limit}`);
    else if (order > 0)
      errors.invalid(`${at}.requests`, request, `must be less than or equal to ${name} limit of ${limit}`);
  }
}
