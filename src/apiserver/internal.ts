/** Requests that the API server makes of itself, past authentication and authorisation. */
import type { KindRecord } from '#schema/kind.ts';
import type { RequestContext, Server } from './context.ts';

const user = { name: 'system:apiserver', groups: ['system:masters', 'system:authenticated'] };

export function internalContext(
  server: Server,
  kind: KindRecord,
  namespace: string,
  verb = 'create',
  name = '',
  subresource = '',
): RequestContext {
  const request = {
    method: 'POST',
    path: '',
    query: new URLSearchParams({ fieldManager: 'tiphys-apiserver' }),
    headers: {},
    signal: new AbortController().signal,
    wantsObject: true,
  };
  return {
    server,
    request,
    user,
    kind,
    warnings: [],
    info: {
      isResource: true,
      verb,
      path: '',
      group: kind.group,
      version: kind.version,
      resource: kind.resource,
      subresource,
      namespace,
      name,
      selectedName: '',
      rest: '',
    },
  };
}
