/**
 * delete and deletecollection (Kubernetes, "Finalizers", "Garbage Collection", "Pod termination"). An object goes at
 * once when nothing holds it; with finalizers, a grace period or a propagation that the garbage collector must carry
 * out it is marked, and goes when the last of them is done.
 */
import type { Namespace } from '#api/core.v1.ts';
import type { DeleteOptions } from '#api/meta.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import type { KubeList, KubeObject, KubeStatus } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import { kinds } from '#base/kinds.ts';
import { apiVersionOf, isOf } from '#base/objects.ts';
import type { StoredValue } from '#store/store.ts';
import { admitMutating, admitValidating } from './admission/admission-chain.ts';
import { releaseOperations } from './allocation.ts';
import { prepareShown, shownOf, toKept } from './conversion.ts';
import type { RequestContext } from './context.ts';
import { bodyKind, decodeOptions } from './decode.ts';
import { conflictRetriesMax } from './limits.ts';
import { storageKey } from './stored-objects.ts';
import { listPage } from './read.ts';
import { answerObject, answerStatus, viewAs } from './respond.ts';
import { Selection } from './selection.ts';
import { isDryRun, isSame } from './write-path.ts';
import { conflict, notFound } from './object-errors.ts';

const deleteOptions = bodyKind<DeleteOptions>('v1', 'DeleteOptions', 'meta.v1/DeleteOptions');

function readOptions(context: RequestContext): DeleteOptions {
  const options: DeleteOptions = decodeOptions(context, deleteOptions);
  const { query } = context.request;
  if (query.has('gracePeriodSeconds')) options.gracePeriodSeconds = Number(query.get('gracePeriodSeconds'));
  const policy = query.get('propagationPolicy');
  if (policy !== null) options.propagationPolicy = policy;
  if (query.has('orphanDependents')) options.orphanDependents = query.get('orphanDependents') === 'true';
  if (
    options.propagationPolicy !== undefined &&
    !['Background', 'Foreground', 'Orphan'].includes(options.propagationPolicy)
  ) {
    throw new ApiError(
      'Invalid',
      `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: ${JSON.stringify(options.propagationPolicy)}: supported values: "Background", "Foreground", "Orphan", "nil"`,
    );
  }
  for (const value of options.dryRun ?? []) query.append('dryRun', value);
  return options;
}

/** Finalizers once an object is deleted: the server's own comes with the first request. */
function finalizersFor(context: RequestContext, object: KubeObject, options: DeleteOptions): string[] {
  const finalizers = propagated(context, object, options);
  const { deletionFinalizer: own } = context.kind;
  const isFirst = object.metadata.deletionTimestamp === undefined;
  return own === undefined || !isFirst || finalizers.includes(own) ? finalizers : [...finalizers, own];
}

/** Finalizers after the propagation policy has been taken into account. */
function propagated(context: RequestContext, object: KubeObject, options: DeleteOptions): string[] {
  const kept = (object.metadata.finalizers ?? []).filter((f) => f !== 'orphan' && f !== 'foregroundDeletion');
  const policy =
    options.propagationPolicy ??
    (options.orphanDependents === true ? 'Orphan' : options.orphanDependents === false ? 'Background' : undefined);
  if (policy === undefined) return [...(object.metadata.finalizers ?? [])];
  if (context.kind.storage.group === '' && context.kind.storage.resource === 'namespaces') return kept;
  if (policy === 'Orphan') kept.push('orphan');
  if (policy === 'Foreground') kept.push('foregroundDeletion');
  return kept;
}

function graceFor(object: KubeObject, options: DeleteOptions): number {
  if (!isOf(kinds.Pod, object)) return 0;
  const { spec, status } = object;
  if (!spec.nodeName || status?.phase === 'Failed' || status?.phase === 'Succeeded') return 0;
  const grace = options.gracePeriodSeconds ?? spec.terminationGracePeriodSeconds ?? 30;
  return grace < 0 ? 1 : grace;
}

type Deletion = { gone: true; object: KubeObject } | { gone: false; stored: StoredValue; object: KubeObject };

/** Deletes or marks one object. */
export async function deleteObject(
  context: RequestContext,
  namespace: string,
  name: string,
  options: DeleteOptions,
): Promise<Deletion> {
  const { server, kind } = context;
  const key = storageKey(kind, namespace, name);
  for (let attempt = 0; ; attempt++) {
    const before = await server.store.get(key);
    if (before === undefined) throw notFound(kind, name);
    if (attempt > conflictRetriesMax) throw conflict(kind, name);
    await prepareShown(server, kind, [before]);
    const old = kind.conversion === undefined ? server.objects.view(before) : shownOf(server.objects, kind, before);
    const wanted = options.preconditions;
    if (wanted?.uid !== undefined && wanted.uid !== old.metadata.uid)
      throw conflict(
        kind,
        name,
        `Precondition failed: UID in precondition: ${wanted.uid}, UID in object meta: ${old.metadata.uid}`,
      );
    if (wanted?.resourceVersion !== undefined && wanted.resourceVersion !== old.metadata.resourceVersion)
      throw conflict(
        kind,
        name,
        `Precondition failed: ResourceVersion in precondition: ${wanted.resourceVersion}, ResourceVersion in object meta: ${old.metadata.resourceVersion}`,
      );
    const attributes = { operation: 'DELETE' as const, object: old, old, subresource: '', dryRun: isDryRun(context) };
    await admitMutating(context, attributes);
    await admitValidating(context, attributes);
    const done = await deleteOnce(context, { before, old }, options);
    if (done !== undefined) return done;
  }
}

/** What is to be deleted: as it is stored, and seen. */
interface Doomed {
  before: StoredValue;
  old: KubeObject;
}

/** One attempt; undefined where another writer was faster. */
async function deleteOnce(
  context: RequestContext,
  { before, old }: Doomed,
  options: DeleteOptions,
): Promise<Deletion | undefined> {
  const { server, kind } = context;
  const { key } = before;
  const marked = markDeleted(context, old, options);
  const holds =
    (marked.metadata.finalizers ?? []).length > 0 ||
    (marked.metadata.deletionGracePeriodSeconds ?? 0) > 0 ||
    isHeldNamespace(marked);
  if (isDryRun(context)) return holds ? { gone: false, stored: before, object: marked } : { gone: true, object: old };
  if (!holds) {
    const result = await server.store.txn(
      [{ key, modRevision: before.modRevision }],
      [{ type: 'delete', key }, ...releaseOperations(old)],
    );
    return result.succeeded ? { gone: true, object: old } : undefined;
  }
  if (isSame(marked, old)) return { gone: false, stored: before, object: old };
  const kept = await toKept(kind, marked);
  const result = await server.store.txn(
    [{ key, modRevision: before.modRevision }],
    [{ type: 'put', key, value: server.objects.encodeLate(kind, key, kept, before) }],
  );
  if (!result.succeeded) return undefined;
  const stored = await server.store.get(key, result.revision);
  if (stored === undefined) throw new Error(`${key} vanished at its own revision ${result.revision}`);
  // What was just written out need not be read back.
  kept.metadata.resourceVersion = String(result.revision);
  server.objects.remember(stored, kept);
  await prepareShown(server, kind, [stored]);
  return { gone: false, stored, object: kind.conversion === undefined ? kept : shownOf(server.objects, kind, stored) };
}

function isHeldNamespace(object: KubeObject): object is Namespace {
  return isOf(kinds.Namespace, object) && (object.spec?.finalizers ?? []).length > 0;
}

function markDeleted(context: RequestContext, old: KubeObject, options: DeleteOptions): KubeObject {
  const { clock } = context.server;
  const { resourceVersion: _r, ...metadata } = old.metadata;
  const object: KubeObject = { ...old, metadata };
  const finalizers = finalizersFor(context, old, options);
  if (finalizers.length > 0) object.metadata.finalizers = finalizers;
  else if (old.metadata.finalizers !== undefined) delete object.metadata.finalizers;
  const grace = graceFor(old, options);
  const before = old.metadata.deletionGracePeriodSeconds;
  if (old.metadata.deletionTimestamp === undefined) {
    object.metadata.deletionTimestamp = timestamp(clock.now() + grace * 1000);
    object.metadata.deletionGracePeriodSeconds = grace;
    if (context.kind.hasGeneration && object.metadata.generation !== undefined) object.metadata.generation++;
  } else if (before !== undefined && grace < before) {
    // a later request may only shorten the period, counted from the first one
    object.metadata.deletionTimestamp = timestamp(Date.parse(old.metadata.deletionTimestamp) + (grace - before) * 1000);
    object.metadata.deletionGracePeriodSeconds = grace;
  }
  if (isHeldNamespace(object)) object.status = { ...object.status, phase: 'Terminating' };
  return object;
}

export async function handleDelete(context: RequestContext): Promise<ApiResponse> {
  const { info, kind } = context;
  const options = readOptions(context);
  const deletion = await deleteObject(context, info.namespace, info.name, options);
  if (!deletion.gone) return answerObject(context, viewFor(context, deletion));
  const { uid } = deletion.object.metadata;
  const status: KubeStatus = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name: info.name,
      ...(kind.group === '' ? {} : { group: kind.group }),
      kind: kind.resource,
      ...(uid === undefined ? {} : { uid }),
    },
  };
  if (kind.storage.resource === 'pods' && kind.group === '') return answerObject(context, deletion.object, 200);
  return answerStatus(context, status, 200);
}

function viewFor(context: RequestContext, deletion: Extract<Deletion, { gone: false }>): KubeObject {
  return isDryRun(context) ? deletion.object : viewAs(context, context.kind, deletion.stored);
}

export async function handleDeleteCollection(context: RequestContext): Promise<ApiResponse> {
  const { kind, request } = context;
  const options = readOptions(context);
  const page = await listPage(context, new Selection(kind, request.query));
  const items: KubeObject[] = [];
  for (const stored of page.values) {
    const view = viewAs(context, kind, stored);
    items.push(view);
    const { name = '', namespace = '' } = view.metadata;
    try {
      await deleteObject(context, namespace, name, options);
    } catch (error) {
      if (!(error instanceof ApiError) || error.reason !== 'NotFound') throw error;
    }
  }
  const list: KubeList = {
    kind: kind.listKind,
    apiVersion: apiVersionOf(kind),
    metadata: { resourceVersion: String(context.server.store.currentRevision()) },
    items,
  };
  return answerObject(context, list);
}
