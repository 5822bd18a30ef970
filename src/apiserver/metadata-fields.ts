/** Metadata from one object to another, field by field. */
import type { ObjectMeta } from '#api/meta.v1.ts';
import { ApiError } from '#base/errors.ts';
import { equalJson } from '#base/json.ts';
import type { KubeObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import type { RequestContext } from './context.ts';
import { conflict } from './object-errors.ts';
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

/** Metadata that is the server's alone. */
const keptFields = ['creationTimestamp', 'generation'] as const;

/** What an update says of metadata, and what it may not say. Throws where it is another object's. */
export function keepMetadata(context: RequestContext, object: KubeObject, old: KubeObject): void {
  const meta = object.metadata;
  const { name = '' } = old.metadata;
  meta.name ??= name;
  if (meta.name !== name)
    throw new ApiError(
      'BadRequest',
      `the name of the object (${meta.name}) does not match the name on the URL (${name})`,
    );
  if (context.kind.namespaced) {
    if (meta.namespace !== undefined && meta.namespace !== '' && meta.namespace !== old.metadata.namespace)
      throw new ApiError(
        'BadRequest',
        'the namespace of the provided object does not match the namespace sent on the request',
      );
    keepField(meta, old.metadata, 'namespace');
  } else if (meta.namespace !== undefined) delete meta.namespace;
  if (context.request.method === 'PUT' && meta.uid && meta.uid !== old.metadata.uid)
    throw conflict(
      context.kind,
      name,
      `Precondition failed: UID in precondition: ${meta.uid}, UID in object meta: ${old.metadata.uid}`,
    );
  for (const field of keptFields) keepField(meta, old.metadata, field);
  if (!meta.uid) keepField(meta, old.metadata, 'uid');
  if (old.metadata.deletionTimestamp) meta.deletionTimestamp = old.metadata.deletionTimestamp;
  if (old.metadata.deletionGracePeriodSeconds != null)
    meta.deletionGracePeriodSeconds ??= old.metadata.deletionGracePeriodSeconds;
  // A `delete` would make a slow dictionary of it, for as long as the object and its copies live.
  Object.assign(meta, { resourceVersion: undefined });
}
