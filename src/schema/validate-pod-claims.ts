/** Validation of the devices that a Pod claims, and of which of them a container uses. */
import type { Container, PodResourceClaim, PodSpec, ResourceClaim, ResourceRequirements } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';

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

function validateUse(
  claims: Draft<ResourceClaim>[],
  known: ReadonlySet<string>,
  at: string,
  errors: FieldErrors,
): void {
  const used = new Set<string>();
  claims.forEach(({ name = '', request = '' }, i) => {
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

/** What each container uses of the Pod's claims. */
export function validateClaimUses(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const known = new Set((spec.resourceClaims ?? []).flatMap(({ name }) => name ?? []));
  for (const list of ['containers', 'initContainers'] as const)
    (spec[list] ?? []).forEach(({ resources }, i) => {
      validateUse(resources?.claims ?? [], known, `${at}.${list}[${i}].resources.claims`, errors);
    });
}

const podResources = new Set(['cpu', 'memory']);
const isPodResource = (name: string): boolean => podResources.has(name) || name.startsWith('hugepages-');

/** Resources of the Pod as a whole: they hold what its containers ask for. */
export function validatePodResources(spec: Draft<PodSpec>, at: string, errors: FieldErrors): void {
  const { resources } = spec;
  if (!resources) return;
  if (spec.os?.name === 'windows') {
    errors.forbidden(`${at}.resources`, 'may not be set for a windows pod');
    return;
  }
  if (resources.claims !== undefined)
    errors.forbidden(`${at}.resources.claims`, 'claims may not be set for Resources at pod-level');
  for (const part of ['limits', 'requests'] as const)
    for (const name of Object.keys(resources[part] ?? {}))
      if (!isPodResource(name))
        errors.unsupported(`${at}.resources.${part}[${name}]`, name, ['cpu', 'hugepages-', 'memory']);
  validateSum(spec.containers ?? [], resources, at, errors);
}

function validateSum(
  containers: readonly Draft<Container>[],
  resources: Draft<ResourceRequirements>,
  at: string,
  errors: FieldErrors,
): void {
  for (const [name, total] of Object.entries(resources.requests ?? {})) {
    const asked = containers.map((container) => container.resources?.requests?.[name] ?? '0').filter(isQuantity);
    const least = asked.find((value) => isQuantity(total) && compareQuantities(value, total) > 0);
    if (least !== undefined)
      errors.invalid(
        `${at}.resources.requests[${name}]`,
        total,
        `must be greater than or equal to aggregate container requests of ${least}`,
      );
  }
  containers.forEach((container, i) => {
    for (const [name, limit] of Object.entries(container.resources?.limits ?? {})) {
      const most = resources.limits?.[name];
      if (isQuantity(most) && isQuantity(limit) && compareQuantities(limit, most) > 0)
        errors.invalid(
          `${at}.resources.containers[${i}][${name}].limits`,
          limit,
          `must be less than or equal to pod limits of ${most}`,
        );
    }
  });
}
