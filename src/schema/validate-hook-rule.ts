/** Validation of the rules by which webhooks and policies say what they are asked about. */
import type { RuleWithOperations } from '#api/admissionregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';

const operations = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];

export function validateHookRule(rule: Draft<RuleWithOperations>, at: string, errors: FieldErrors): void {
  for (const field of ['operations', 'apiGroups', 'apiVersions', 'resources'] as const) {
    const values: string[] = rule[field] ?? [];
    if (values.length === 0) errors.required(`${at}.${field}`);
    if (field !== 'resources' && values.length > 1 && values.includes('*'))
      errors.invalid(`${at}.${field}`, values, "if '*' is present, must not specify other values");
  }
  (rule.operations ?? []).forEach((operation, i) => {
    if (!operations.includes(operation)) errors.unsupported(`${at}.operations[${i}]`, operation, operations);
  });
  if (rule.scope !== undefined && !['*', 'Cluster', 'Namespaced'].includes(rule.scope ?? ''))
    errors.unsupported(`${at}.scope`, rule.scope, ['*', 'Cluster', 'Namespaced']);
}
