/** Metadata from one object to another, field by field. */
import type { ObjectMeta } from '#api/meta.v1.ts';
import { equalJson } from '#base/json.ts';
import type { KubeObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import type { RequestContext } from './context.ts';
import { ownersComparedMax } from './limits.ts';

/** Takes a field over where it is given. */
export function takeField<K extends keyof ObjectMeta>(to: ObjectMeta, from: ObjectMeta, field: K): void {
  const value = from[field];
  if (value !== undefined) to[field] = value;
}

/** Makes a field what it is there, given or not. */
export function keepField<K extends keyof ObjectMeta>(to: ObjectMeta, from: ObjectMeta, field: K): void {
  const value = from[field];
  if (value !== undefined) to[field] = value;
  else if (to[field] !== undefined) delete to[field];
}

/** Owners that are named twice alike count once, and the client is told (API concepts, "Garbage Collection"). */
export function dropRepeatedOwners({ warnings, request }: RequestContext, { metadata }: KubeObject): void {
  const owners = metadata.ownerReferences;
  if (!Array.isArray(owners) || owners.length < 2 || owners.length > ownersComparedMax) return;
  const kept = owners.filter((owner, i) => owners.findIndex((other) => equalJson(owner, other)) === i);
  if (kept.length === owners.length) return;
  const repeated = owners.flatMap((owner, i) =>
    isObject(owner) && owners.findIndex((other) => equalJson(owner, other)) !== i ? [String(owner.uid ?? '')] : [],
  );
  const when = request.method === 'PATCH' ? ' after mutating admission happens' : '';
  warnings.push(
    `.metadata.ownerReferences contains duplicate entries${when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: ${repeated.join(', ')}`,
  );
  metadata.ownerReferences = kept;
}
