/** Validation of the devices that a Pod claims, and of which of them a container uses. */
import type { PodResourceClaim, PodSpec, ResourceClaim, ResourceRequirements } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, formatQuantity, isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { isPodResource, sumOfContainers } from './pod-level-resources.ts';
import { resourceNameProblems } from './resource-names.ts';
import { validateResources } from './validate-resources.ts';
import type { PodScope } from './validate-mounts.ts';

export function validatePodClaims(
  claims: Draft<PodResourceClaim>[] | undefined,
  at: string,
  errors: FieldErrors,
): void {
  const names = new Set<string>();
  (claims ?? []).forEach((claim, i) => {
    const path = `${at}[${i}]`;
    const { name = '' } = claim;
    if (name === '') errors.required(`${path}.name`);
    else if (names.has(name)) errors.duplicate(`${path}.name`, name);
    else if (labelProblem(name) !== '') errors.invalid(`${path}.name`, name, labelProblem(name));
    names.add(name);
    const given = (['resourceClaimName', 'resourceClaimTemplateName'] as const).filter((f) => claim[f] !== undefined);
    if (given.length === 2)
      errors.invalid(path, claim, 'at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified');
    if (given.length === 0)
      errors.invalid(path, claim, 'must specify one of: `resourceClaimName`, `resourceClaimTemplateName`');
    for (const field of given) {
      const problem = subdomainProblem(claim[field] ?? '');
      if (problem !== '') errors.invalid(`${path}.${field}`, claim[field], problem);
    }
  });
}

/** What a container, or the Pod as a whole, uses of the Pod's claims. */
export function validateClaimUse(
  claims: Draft<ResourceClaim>[] | undefined,
  known: ReadonlySet<string>,
  at: string,
  errors: FieldErrors,
): void {
  const used = new Set<string>();
  (claims ?? []).forEach(({ name = '', request = '' }, i) => {
    const path = `${at}[${i}]`;
    if (name === '') {
      errors.required(path);
      return;
    }
    const key = request === '' ? name : `${name}/${request}`;
    if (request !== '' && !used.has(name) && labelProblem(request) !== '')
      errors.invalid(`${path}.request`, request, labelProblem(request));
    if (used.has(name)) errors.duplicate(path, name);
    else if (used.has(key)) errors.duplicate(path, key);
    else if (request === '') for (const other of used) if (other.startsWith(`${name}/`)) errors.duplicate(path, name);
    used.add(key);
    if (!known.has(name)) errors.notFound(path, name);
  });
}

const podResources = ['cpu', 'hugepages-', 'memory'];

/** Resources of the Pod as a whole: they hold what its containers ask for. */
export function validatePodResources({ spec, claims }: PodScope, at: string, errors: FieldErrors): void {
  const { resources } = spec;
  if (!resources) return;
  if (spec.os?.name === 'windows') {
    errors.forbidden(at, 'may not be set for a windows pod');
    return;
  }
  if (resources.claims !== undefined)
    errors.forbidden(`${at}.claims`, 'claims may not be set for Resources at pod-level');
  validateResources(resources, at, errors, (name, path) => {
    const problems = resourceNameProblems(name);
    for (const problem of problems) errors.invalid(path, name, problem);
    if (problems.length === 0 && !isPodResource(name)) errors.unsupported(path, name, podResources);
  });
  validateClaimUse(resources.claims, claims, `${at}.claims`, errors);
  validateSum(spec, resources, at, errors);
}

function validateSum(
  spec: Draft<PodSpec>,
  resources: Draft<ResourceRequirements>,
  at: string,
  errors: FieldErrors,
): void {
  for (const [name, least] of sumOfContainers(spec, 'requests')) {
    const total = resources.requests?.[name];
    if (isQuantity(total) && compareQuantities(least, total) > 0)
      errors.invalid(
        `${at}.requests[${name}]`,
        total,
        `must be greater than or equal to aggregate container requests of ${formatQuantity(least)}`,
      );
  }
  for (const [name, least] of sumOfContainers(spec, 'limits')) {
    const total = resources.limits?.[name];
    if (name.startsWith('hugepages-') && isQuantity(total) && compareQuantities(least, total) > 0)
      errors.invalid(
        `${at}.limits[${name}]`,
        total,
        `must be greater than or equal to aggregate container limits of ${formatQuantity(least)}`,
      );
  }
  (spec.containers ?? []).forEach((container, i) => {
    for (const [name, limit] of Object.entries(container.resources?.limits ?? {})) {
      const most = resources.limits?.[name];
      if (isQuantity(most) && isQuantity(limit) && compareQuantities(limit, most) > 0)
        errors.invalid(
          `${at}.containers[${i}][${name}].limits`,
          limit,
          `must be less than or equal to pod limits of ${most}`,
        );
    }
  });
}
