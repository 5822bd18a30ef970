/** Who set which field (Kubernetes, "Server-Side Apply", "Field management"). Filled in by `apply`; see schema/field-sets.ts. */
import type { KubeObject } from '#base/objects.ts';
import type { RequestContext } from './context.ts';

export function trackManagedFields(_context: RequestContext, old: KubeObject | undefined, object: KubeObject, _options: { manager?: string; apply?: boolean; subresource?: string }): void {
  if (old?.metadata.managedFields === undefined) delete object.metadata.managedFields;
}
