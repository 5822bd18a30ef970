/** Errors about an object of a kind, in the words and with the details that kube-apiserver gives them. */
import { ApiError } from '#base/errors.ts';
import type { Reason } from '#base/errors.ts';
import { resourceNameOf } from '#base/objects.ts';
import { invalidError } from '#schema/field-errors.ts';
import type { RequestContext } from './context.ts';

interface Named {
  group: string;
  resource: string;
}

function objectError(reason: Reason, kind: Named, name: string, message: string): ApiError {
  const group = kind.group === '' ? {} : { group: kind.group };
  return new ApiError(reason, message, { name, ...group, kind: kind.resource });
}

const quoted = (kind: Named, name: string): string => `${resourceNameOf(kind)} ${JSON.stringify(name)}`;

export function notFound(kind: Named, name: string): ApiError {
  return objectError('NotFound', kind, name, `${quoted(kind, name)} not found`);
}

export function alreadyExists(kind: Named, name: string): ApiError {
  return objectError('AlreadyExists', kind, name, `${quoted(kind, name)} already exists`);
}

export function conflict(
  kind: Named,
  name: string,
  text = 'the object has been modified; please apply your changes to the latest version and try again',
): ApiError {
  return objectError('Conflict', kind, name, `Operation cannot be fulfilled on ${quoted(kind, name)}: ${text}`);
}

export function forbiddenBy({ kind }: RequestContext, name: string, text: string): ApiError {
  return objectError('Forbidden', kind, name, `${quoted(kind, name)} is forbidden: ${text}`);
}

/** Of kinds whose updates must say what they change. */
export function versionMissing({ group, resource }: Named, name: string): ApiError {
  const message = 'Invalid value: 0: must be specified for an update';
  return invalidError(group, resource, name, [
    { reason: 'FieldValueInvalid', field: 'metadata.resourceVersion', message },
  ]);
}

/** Upstream does not expect it, and says what its parser does. */
export function unreadableVersion(version: string): ApiError {
  return new ApiError('Unknown', `strconv.ParseUint: parsing ${JSON.stringify(version)}: invalid syntax`);
}

/** The object of an update has the name that the request's path has. */
export function nameMissing(name: string): ApiError {
  return new ApiError(
    'BadRequest',
    `the name of the object (${name} based on URL) was undeterminable: name must be provided`,
  );
}
