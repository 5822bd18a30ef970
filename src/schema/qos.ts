/** The quality-of-service class of a Pod (Kubernetes reference, "Pod Quality of Service Classes"). */
import type { PodSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, parseQuantity } from '#base/quantity.ts';

export function qosClassOf(spec: Draft<PodSpec>): 'Guaranteed' | 'Burstable' | 'BestEffort' {
  const containers = [...(spec.containers ?? []), ...(spec.initContainers ?? [])];
  const sets =
    spec.resources !== undefined && (spec.resources.requests || spec.resources.limits)
      ? [spec.resources]
      : containers.map((c) => c.resources ?? {});
  let any = false;
  let guaranteed = sets.length > 0;
  for (const resources of sets) {
    for (const name of ['cpu', 'memory'] as const) {
      const request = resources.requests?.[name];
      const limit = resources.limits?.[name];
      if (positive(request) || positive(limit)) any = true;
      if (!positive(limit) || (request !== undefined && compareQuantities(request, limit) !== 0)) guaranteed = false;
    }
  }
  if (!any) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

function positive(quantity: string | undefined): quantity is string {
  if (quantity === undefined) return false;
  try {
    return parseQuantity(quantity).nano > 0n;
  } catch {
    return false;
  }
}
