/** Validation of the rules by which webhooks and policies say what they are asked about. */
import type { RuleWithOperations } from '#api/admissionregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';

const operations = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];
const scopes = ['*', 'Cluster', 'Namespaced'];

export function validateHookRule(rule: Draft<RuleWithOperations>, at: string, errors: FieldErrors): void {
  for (const [field, others] of [
    ['operations', 'operations'],
    ['apiGroups', 'API groups'],
    ['apiVersions', 'API versions'],
  ] as const) {
    const values: string[] = rule[field] ?? [];
    const path = `${at}.${field}`;
    if (values.length === 0) errors.required(path);
    if (values.length > 1 && values.includes('*'))
      errors.invalid(path, values, `if '*' is present, must not specify other ${others}`);
    values.forEach((value, i) => {
      if (field === 'operations' && !operations.includes(value)) errors.unsupported(`${path}[${i}]`, value, operations);
      if (field === 'apiVersions' && value === '') errors.required(`${path}[${i}]`);
    });
  }
  validateResources(rule.resources ?? [], `${at}.resources`, errors);
  if (typeof rule.scope === 'string' && !scopes.includes(rule.scope))
    errors.unsupported(`${at}.scope`, rule.scope, scopes);
}

/** `pods`, `pods/status`, `pods/*`, any `scale`: what a wildcard covers is not named beside it. */
function validateResources(resources: readonly string[], at: string, errors: FieldErrors): void {
  if (resources.length === 0) errors.required(at);
  const [wholes, subs] = [new Set<string>(), new Set<string>()];
  let isLastPlain = false;
  resources.forEach((resource, i) => {
    if (resource === '') {
      errors.required(`${at}[${i}]`);
      return;
    }
    const cut = resource.indexOf('/');
    if (cut < 0) {
      isLastPlain = resource !== '*';
      return;
    }
    const [name, sub] = [resource.slice(0, cut), resource.slice(cut + 1)];
    if (wholes.has(name))
      errors.invalid(`${at}[${i}]`, resource, `if '${name}/*' is present, must not specify ${resource}`);
    if (subs.has(sub))
      errors.invalid(`${at}[${i}]`, resource, `if '*/${sub}' is present, must not specify ${resource}`);
    if (sub === '*') wholes.add(name);
    if (name === '*') subs.add(sub);
  });
  if (resources.length > 1 && resources.includes('*/*'))
    errors.invalid(at, resources, "if '*/*' is present, must not specify other resources");
  if (resources.includes('*') && isLastPlain)
    errors.invalid(at, resources, "if '*' is present, must not specify other resources without subresources");
}
