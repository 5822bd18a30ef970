/** Validation of Namespaces: their finalizers, and the phase that goes with deletion. */
import type { Namespace } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';

const standardFinalizers = new Set(['kubernetes', 'orphan', 'foregroundDeletion']);

export function validateNamespace(o: Draft<Namespace>, errors: FieldErrors): void {
  for (const finalizer of o.spec?.finalizers ?? []) {
    for (const problem of qualifiedNameProblems(finalizer)) errors.invalid('spec.finalizers', finalizer, problem);
    if (!finalizer.includes('/') && !standardFinalizers.has(finalizer))
      errors.invalid(
        'spec.finalizers',
        finalizer,
        'name is neither a standard finalizer name nor is it fully qualified',
      );
  }
}

export function validateNamespaceStatus(o: Draft<Namespace>, _old: Namespace, errors: FieldErrors): void {
  const phase = o.status?.phase;
  if (o.metadata?.deletionTimestamp == null) {
    if (phase !== 'Active')
      errors.invalid('status.Phase', phase, "may only be 'Active' if `deletionTimestamp` is empty");
  } else if (phase !== 'Terminating')
    errors.invalid('status.Phase', phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
}
