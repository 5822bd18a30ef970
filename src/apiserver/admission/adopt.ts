/** What a webhook or a policy made of an object becomes the request's object, as far as it may be changed. */
import { ApiError } from '#base/errors.ts';
import { isKubeObject } from '#base/objects.ts';
import { checkObject } from '#schema/check.ts';
import type { RequestContext } from '../context.ts';
import { keepField } from '../metadata-fields.ts';
import type { AdmissionAttributes } from './attributes.ts';

/** What the server itself fills in, whatever is made of it. */
const ownFields = ['uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds'] as const;

/**
 * Takes what was made of the object as the request's version shows it, decoded as a request is, stored as its version
 * is. Answers why it is none of the kind. Throws `BadRequest` where it would be stored elsewhere than the requester may
 * write: in another namespace, or under another name than the path has.
 */
export function adoptMade(
  { kind, info, server }: RequestContext,
  attributes: AdmissionAttributes,
  made: unknown,
): string | undefined {
  if (!isKubeObject(made)) return 'does not leave an object';
  const { object: before, operation } = attributes;
  const { error } = checkObject(made, kind.type);
  if (error !== undefined) return error;
  const object = kind.toStored === undefined ? made : kind.toStored(made);
  if (object.kind !== before.kind || object.apiVersion !== before.apiVersion)
    return `must not make ${made.apiVersion}, Kind=${made.kind} of it`;
  if ((object.metadata.namespace ?? '') !== (before.metadata.namespace ?? ''))
    throw new ApiError(
      'BadRequest',
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  const isNamed = operation === 'UPDATE' || info.name !== '';
  if (isNamed && object.metadata.name !== before.metadata.name)
    throw new ApiError(
      'BadRequest',
      `the name of the object (${object.metadata.name}) does not match the name on the URL (${before.metadata.name})`,
    );
  for (const field of ownFields) keepField(object.metadata, before.metadata, field);
  attributes.object = object;
  const { group, version, kind: name } = kind.storage;
  // What a webhook converts is in the version of the request until it is kept.
  const kept = kind.conversion === undefined ? server.kinds.findKind(group, version, name) : kind;
  kept?.defaults?.(object);
  return undefined;
}
