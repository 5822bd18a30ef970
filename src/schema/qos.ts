/** The quality-of-service class of a Pod (Kubernetes reference, "Pod Quality of Service Classes"). */
import type { Json } from '#base/objects.ts';
import { compareQuantities, parseQuantity } from '#base/quantity.ts';

export function qosClassOf(spec: Json): 'Guaranteed' | 'Burstable' | 'BestEffort' {
  const containers = [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  const sets =
    spec.resources !== undefined && (spec.resources.requests || spec.resources.limits)
      ? [spec.resources]
      : containers.map((c: Json) => c.resources ?? {});
  let any = false;
  let guaranteed = sets.length > 0;
  for (const resources of sets) {
    for (const name of ['cpu', 'memory']) {
      const request = resources.requests?.[name];
      const limit = resources.limits?.[name];
      if (positive(request) || positive(limit)) any = true;
      if (!positive(limit) || (request !== undefined && compareQuantities(request, limit) !== 0)) guaranteed = false;
    }
  }
  if (!any) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

function positive(quantity: string | undefined): boolean {
  if (quantity === undefined) return false;
  try {
    return parseQuantity(quantity).nano > 0n;
  } catch {
    return false;
  }
}
