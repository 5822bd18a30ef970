/**
 * The `Client` over any `Transport`: verbs to paths, queries and bodies (Kubernetes API concepts, "Resource URIs").
 */
import type { DeleteOptions as MetaDeleteOptions, ObjectMeta } from '#api/meta.v1.ts';
import { type KindRef, type KubeList, type KubeObject, type WatchEvent, apiVersionOf } from '#base/objects.ts';
import type {
  Client,
  DeleteOptions,
  ListOptions,
  ObjectName,
  Patch,
  Subresources,
  UpdateOptions,
  WatchOptions,
  WriteOptions,
} from './client.ts';
import type { Transport, TransportRequest } from './transport.ts';

/** The body of a patch, and the media type that says its form. */
function patchContent(patch: Patch): Pick<TransportRequest, 'body' | 'contentType'> {
  if (patch.json !== undefined) return { body: patch.json, contentType: 'application/json-patch+json' };
  if (patch.merge !== undefined) return { body: patch.merge, contentType: 'application/merge-patch+json' };
  if (patch.strategic !== undefined)
    return { body: patch.strategic, contentType: 'application/strategic-merge-patch+json' };
  return { body: patch.apply, contentType: 'application/apply-patch+yaml' };
}

/** The path of a collection, an object or a subresource. */
export function pathOf(kind: KindRef, namespace?: string, name?: string, subresource?: string): string {
  let path = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  if (kind.namespaced && namespace !== undefined && namespace !== '') path += `/namespaces/${namespace}`;
  path += `/${kind.resource}`;
  if (name !== undefined) path += `/${encodeURIComponent(name)}`;
  if (subresource !== undefined) path += `/${subresource}`;
  return path;
}

function selectionQuery(options: ListOptions & WatchOptions): URLSearchParams {
  const query = new URLSearchParams();
  if (options.labelSelector !== undefined && options.labelSelector !== '')
    query.set('labelSelector', options.labelSelector);
  if (options.fieldSelector !== undefined && options.fieldSelector !== '')
    query.set('fieldSelector', options.fieldSelector);
  if (options.limit !== undefined) query.set('limit', String(options.limit));
  if (options.continue !== undefined) query.set('continue', options.continue);
  if (options.resourceVersion !== undefined) query.set('resourceVersion', options.resourceVersion);
  if (options.resourceVersionMatch !== undefined) query.set('resourceVersionMatch', options.resourceVersionMatch);
  return query;
}

function writeQuery(options: WriteOptions | undefined): URLSearchParams | undefined {
  if (options === undefined) return undefined;
  const query = new URLSearchParams();
  if (options.fieldManager !== undefined) query.set('fieldManager', options.fieldManager);
  if (options.fieldValidation !== undefined) query.set('fieldValidation', options.fieldValidation);
  if (options.dryRun === true) query.set('dryRun', 'All');
  if (options.force === true) query.set('force', 'true');
  return query;
}

function deleteBody(options: DeleteOptions): MetaDeleteOptions {
  return {
    kind: 'DeleteOptions',
    apiVersion: 'v1',
    ...(options.gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds: options.gracePeriodSeconds }),
    ...(options.propagationPolicy === undefined ? {} : { propagationPolicy: options.propagationPolicy }),
    ...(options.preconditions === undefined ? {} : { preconditions: options.preconditions }),
    ...(options.dryRun === true ? { dryRun: ['All'] } : {}),
  };
}

async function* oneByOne<T>(batches: AsyncIterable<T[]>): AsyncGenerator<T> {
  for await (const batch of batches) yield* batch;
}

export function createClient(transport: Transport, fieldManager?: string): Client {
  const withManager = (options: WriteOptions | undefined): WriteOptions | undefined =>
    fieldManager === undefined || options?.fieldManager !== undefined ? options : { ...options, fieldManager };
  const named = (kind: KindRef, object: KubeObject): KubeObject =>
    object.kind === undefined || object.apiVersion === undefined
      ? { ...object, apiVersion: apiVersionOf(kind), kind: kind.kind }
      : object;
  /** `T` is what the path answers with. */
  const send = async <T extends object = KubeObject>(request: TransportRequest): Promise<T> =>
    (await transport.send(request)) as T;
  const subresourceWrite = (
    kind: KindRef,
    subresource: string,
    body: { metadata: ObjectMeta },
    options: WriteOptions | undefined,
  ): Omit<TransportRequest, 'method'> => {
    const query = writeQuery(withManager(options));
    const path = pathOf(kind, body.metadata.namespace, body.metadata.name, subresource);
    return { path, body, ...(query === undefined ? {} : { query }) };
  };
  const watchBatches = <T extends KubeObject>(
    kind: KindRef<T>,
    options: WatchOptions,
  ): AsyncIterable<WatchEvent<T>[]> => {
    const query = selectionQuery(options);
    query.set('watch', 'true');
    if (options.allowBookmarks === true) query.set('allowWatchBookmarks', 'true');
    if (options.timeoutSeconds !== undefined) query.set('timeoutSeconds', String(options.timeoutSeconds));
    return transport.watch({
      method: 'GET',
      path: pathOf(kind, options.namespace),
      query,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }) as AsyncIterable<WatchEvent<T>[]>;
  };
  return {
    get: async <T extends KubeObject>(kind: KindRef<T>, name: string, namespace?: string) =>
      send<T>({ method: 'GET', path: pathOf(kind, namespace, name) }),
    list: async <T extends KubeObject>(kind: KindRef<T>, options: ListOptions = {}) =>
      send<KubeList<T>>({
        method: 'GET',
        path: pathOf(kind, options.namespace),
        query: selectionQuery(options),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      }),
    create: async <T extends KubeObject>(kind: KindRef<T>, object: KubeObject, options?: WriteOptions) => {
      const query = writeQuery(withManager(options));
      return send<T>({
        method: 'POST',
        path: pathOf(kind, object.metadata.namespace),
        body: named(kind, object),
        ...(query === undefined ? {} : { query }),
      });
    },
    update: async <T extends KubeObject>(kind: KindRef<T>, object: KubeObject, options?: UpdateOptions) => {
      const query = writeQuery(withManager(options));
      return send<T>({
        method: 'PUT',
        path: pathOf(kind, object.metadata.namespace, object.metadata.name, options?.subresource),
        body: named(kind, object),
        ...(query === undefined ? {} : { query }),
      });
    },
    patch: async <T extends KubeObject>(
      kind: KindRef<T>,
      { name, namespace }: ObjectName,
      patch: Patch,
      options?: UpdateOptions,
    ) => {
      const query = writeQuery(withManager(options));
      return send<T>({
        method: 'PATCH',
        path: pathOf(kind, namespace, name, options?.subresource),
        ...patchContent(patch),
        ...(query === undefined ? {} : { query }),
      });
    },
    delete: async (kind, name, namespace, options = {}) =>
      send({ method: 'DELETE', path: pathOf(kind, namespace, name), body: deleteBody(options) }),
    deleteCollection: async (kind, options = {}) => {
      await send({
        method: 'DELETE',
        path: pathOf(kind, options.namespace),
        query: selectionQuery(options),
        body: deleteBody(options),
      });
    },
    watch: <T extends KubeObject>(kind: KindRef<T>, options: WatchOptions) => oneByOne(watchBatches(kind, options)),
    watchBatches,
    getSubresource: async <S extends keyof Subresources>(
      kind: KindRef,
      subresource: S,
      name: string,
      namespace?: string,
    ) => send<Subresources[S]>({ method: 'GET', path: pathOf(kind, namespace, name, subresource) }),
    createSubresource: async (kind, subresource, body, options) =>
      send({ method: 'POST', ...subresourceWrite(kind, subresource, body, options) }),
    updateSubresource: async <S extends keyof Subresources>(
      kind: KindRef,
      subresource: S,
      body: { metadata: ObjectMeta },
      options?: WriteOptions,
    ) => send<Subresources[S]>({ method: 'PUT', ...subresourceWrite(kind, subresource, body, options) }),
    raw: async <T extends object>(method: string, path: string, body?: unknown, headers?: Record<string, string>) => {
      const [pathname = '', search] = path.split('?', 2);
      const { 'content-type': contentType, ...others } = headers ?? {};
      return send<T>({
        method,
        path: pathname,
        headers: others,
        ...(search === undefined ? {} : { query: new URLSearchParams(search) }),
        ...(body === undefined ? {} : { body }),
        ...(contentType === undefined ? {} : { contentType }),
      });
    },
  };
}
