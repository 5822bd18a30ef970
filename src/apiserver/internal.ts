/** Requests that the API server makes of itself, past authentication, authorisation, and configured admission. */
import type { KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { RequestContext, Server } from './context.ts';

const user = { name: 'system:apiserver', groups: ['system:masters', 'system:authenticated'] };

/** What such a request asks for; a create of the cluster's scope where nothing is said. */
export interface InternalRequest {
  verb?: string;
  namespace?: string;
  name?: string;
  subresource?: string;
}

export function internalContext<T extends KubeObject>(
  server: Server,
  kind: KindRecord<T>,
  { verb = 'create', namespace = '', name = '', subresource = '' }: InternalRequest,
): RequestContext<T> {
  const request = {
    method: 'POST',
    path: '',
    query: new URLSearchParams({ fieldManager: 'kube-apiserver' }),
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
    isOwn: true,
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
      selectedNode: '',
      rest: '',
    },
  };
}
