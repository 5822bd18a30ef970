/** Errors about an object of a kind, in the words and with the details that kube-apiserver gives them. */
import { ApiError } from '#base/errors.ts';
import type { Reason } from '#base/errors.ts';
import { resourceNameOf } from '#base/objects.ts';
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
