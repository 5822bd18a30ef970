/** From a request for a served kind to the handler of its verb or subresource. */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import type { RequestContext } from './context.ts';
import { handleDelete, handleDeleteCollection } from './delete.ts';
import { handleGet, handleList } from './read.ts';
import { handleReview, isReview } from './reviews.ts';
import { handleSubresource } from './subresources.ts';
import { handleUsage } from './usage.ts';
import { handleWatch } from './watch.ts';
import { handleCreate, handlePatch, handleUpdate } from './write.ts';

type Handler = (context: RequestContext) => Promise<ApiResponse>;

const handlers: Record<string, Handler> = {
  get: handleGet,
  list: handleList,
  watch: handleWatch,
  create: handleCreate,
  update: handleUpdate,
  patch: handlePatch,
  delete: handleDelete,
  deletecollection: handleDeleteCollection,
};

export async function dispatch(context: RequestContext): Promise<ApiResponse> {
  const { info, kind } = context;
  if (kind.deprecation !== undefined) {
    context.warnings.push(kind.deprecation);
    context.audit?.annotate('k8s.io/deprecated', 'true');
  }
  if (info.namespace === '' && kind.namespaced && (info.name !== '' || info.verb === 'create')) {
    if (info.name !== '') throw new ApiError('NotFound', 'the server could not find the requested resource', {});
    if (!isReview(kind)) throw new ApiError('MethodNotAllowed', 'an empty namespace may not be set during creation');
  }
  if (info.namespace !== '' && !kind.namespaced && info.resource !== 'namespaces')
    throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  if (info.subresource !== '') {
    if (!Object.hasOwn(kind.subresources, info.subresource))
      throw new ApiError('NotFound', 'the server could not find the requested resource', {});
    return handleSubresource(context);
  }
  if (!kind.verbs.includes(info.verb))
    throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource', {});
  if (info.verb === 'create' && info.name !== '')
    throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource', {});
  if (isReview(kind)) return handleReview(context);
  if (kind.group === 'metrics.k8s.io') return handleUsage(context);
  const handler = handlers[info.verb];
  if (handler === undefined)
    throw new ApiError('MethodNotAllowed', 'the server does not allow this method on the requested resource', {});
  return handler(context);
}
