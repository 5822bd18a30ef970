/**
 * `Impersonate-*` headers (Kubernetes, "User impersonation"): the caller acts as somebody else where RBAC lets him
 * impersonate each part: user or ServiceAccount, groups, uid, and each value of each extra field by itself
 * (`userextras/FIELD`).
 */
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import { forbidden, isAllowed } from '../authz/authorizer-chain.ts';
import type { Attributes } from '../authz/attributes.ts';
import type { Server } from '../context.ts';

const extraPrefix = 'impersonate-extra-';
const authentication = 'authentication.k8s.io';

export function isImpersonating(request: ApiRequest): boolean {
  for (const header in request.headers) if (header.startsWith('impersonate-')) return true;
  return false;
}

/** A header that came several times is handed over as lines: no value can hold an end of line. */
function valuesOf(header: string | undefined): string[] {
  return header === undefined ? [] : header.split('\n').map((value) => value.trim());
}

/** Field names are percent-encoded, since a header's name holds no slash; what is no encoding stays as it is. */
function fieldOf(header: string): string {
  const text = header.slice(extraPrefix.length).toLowerCase();
  try {
    return decodeURIComponent(text).toLowerCase();
  } catch {
    return text;
  }
}

function extraOf(request: ApiRequest): Record<string, string[]> {
  const extra: Record<string, string[]> = Object.create(null);
  for (const [header, value] of Object.entries(request.headers)) {
    if (!header.startsWith(extraPrefix) || value === undefined) continue;
    const field = fieldOf(header);
    (extra[field] ??= []).push(...valuesOf(value));
  }
  return extra;
}

/** The identity that the request asks for. Throws Forbidden for the first part that the caller may not impersonate. */
export async function impersonate(server: Server, request: ApiRequest, user: UserInfo): Promise<UserInfo> {
  const name = request.headers['impersonate-user'] ?? '';
  const uid = request.headers['impersonate-uid'] ?? '';
  const groups = valuesOf(request.headers['impersonate-group']).filter((group) => group !== '');
  const extra = extraOf(request);
  if (name === '') {
    const asked = [
      ...groups.map((group) => `group ${group}`),
      ...(uid === '' ? [] : [`uid ${uid}`]),
      ...Object.keys(extra).map((field) => `extra ${field}`),
    ];
    throw new ApiError(
      'InternalError',
      `Internal Server Error: requested [${asked.join(' ')}] impersonation without impersonating a user`,
    );
  }
  const check = async (part: Partial<Attributes>): Promise<void> => {
    const attributes: Attributes = {
      user,
      verb: 'impersonate',
      isResource: true,
      group: '',
      version: 'v1',
      resource: '',
      subresource: '',
      namespace: '',
      name: '',
      path: request.path,
      ...part,
    };
    if (!(await isAllowed(server, attributes))) throw forbidden(attributes);
  };
  const [, namespace = '', account = ''] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name) ?? [];
  if (account !== '') await check({ resource: 'serviceaccounts', name: account, namespace });
  else await check({ resource: 'users', name });
  for (const group of groups) await check({ resource: 'groups', name: group });
  for (const [subresource, values] of Object.entries(extra))
    for (const value of values)
      await check({ group: authentication, resource: 'userextras', subresource, name: value });
  if (uid !== '') await check({ group: authentication, resource: 'uids', name: uid });
  const implied =
    account === '' || groups.length > 0 ? [] : ['system:serviceaccounts', `system:serviceaccounts:${namespace}`];
  const standing = name === 'system:anonymous' ? 'system:unauthenticated' : 'system:authenticated';
  return {
    name,
    groups: [...new Set([...groups, ...implied, standing])],
    extra: { ...extra },
    ...(uid === '' ? {} : { uid }),
  };
}
