/**
 * The write path, top to bottom:
 *
 *   decode → patch → default → convert → mutate-admit → validate → validate-admit → commit
 *
 * The whole runs inside the store's conflict retry: where another writer was faster, everything after reading runs
 * again on the new object. A caller that named a resourceVersion is told of the conflict and not retried.
 */
import { ApiError } from '#base/errors.ts';
import { copyJson, equalButFor, jsonBytes } from '#base/json.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import type { Draft, Manifest } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import { timestamp } from '#base/timestamp.ts';
import { isObject } from '#base/unknown.ts';
import { randomSuffix } from '#os/clock.ts';
import { giveWay } from '#os/turn.ts';
import { FieldErrors } from '#schema/field-errors.ts';
import { dropGatedFields } from '#schema/gated-fields.ts';
import type { KindRecord } from '#schema/kind.ts';
import { validateMetadata, validateMetadataUpdate } from '#schema/validate-meta.ts';
import { fillZeros } from '#schema/zeros.ts';
import { transactionBytesMax } from '#store/limits.ts';
import type { Operation, StoredValue } from '#store/store.ts';
import { admitMutating, admitValidating } from './admission/admission-chain.ts';
import type { AdmissionAttributes } from './admission/attributes.ts';
import { chargeQuotas, quotaConflict } from './admission/quota.ts';
import { dropUnused, planAllocation, releaseOperations } from './allocation.ts';
import type { RequestContext, Server } from './context.ts';
import { prepareShown, shownOf, toKept } from './conversion.ts';
import { conflictRetriesMax, createRetriesMax, eventTtlSeconds, measuredBodyBytesMin } from './limits.ts';
import { trackManagedFields } from './managed-fields.ts';
import { dropRepeatedOwners, keepMetadata } from './metadata-fields.ts';
import { alreadyExists, conflict, notFound, unreadableVersion } from './object-errors.ts';
import { fromStored, isShownAsStored, storageKey, toStored } from './stored-objects.ts';

export function isDryRun(context: RequestContext): boolean {
  const values = context.request.query.getAll('dryRun');
  for (const value of values)
    if (value !== 'All')
      throw new ApiError(
        'Invalid',
        `CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ${JSON.stringify(value)}: supported values: "All"`,
      );
  return values.length > 0;
}

/** A stored value, or what it would have been for a dry run. */
export interface Written {
  stored: StoredValue;
  created: boolean;
}

async function dryStored(
  { server, kind }: RequestContext,
  key: string,
  object: KubeObject,
  revision: number,
): Promise<StoredValue> {
  const value = server.objects.encode(kind, key, object);
  const stored = { key, value, createRevision: revision, modRevision: revision };
  await prepareShown(server, kind, [stored]);
  return stored;
}

/**
 * Defaults apply to the stored version, whichever version the client wrote; where a webhook converts, to the version
 * that was written.
 */
function storageKind(server: Server, kind: KindRecord): KindRecord {
  return kind.toStored === undefined
    ? kind
    : (server.kinds.findKind(kind.storage.group, kind.storage.version, kind.storage.kind) ?? kind);
}

function fillCreated(context: RequestContext, object: KubeObject): void {
  const { server, kind, info } = context;
  const meta = object.metadata;
  if (kind.namespaced) {
    if (meta.namespace !== undefined && meta.namespace !== '' && meta.namespace !== info.namespace)
      throw new ApiError(
        'BadRequest',
        'the namespace of the provided object does not match the namespace sent on the request',
      );
    meta.namespace = info.namespace;
  } else delete meta.namespace;
  if (info.name !== '' && meta.name === undefined) meta.name = info.name;
  if ((meta.name === undefined || meta.name === '') && meta.generateName)
    meta.name = `${meta.generateName.slice(0, 58)}${randomSuffix(server.random)}`;
  meta.uid = server.random.uuid();
  meta.creationTimestamp = timestamp(server.clock.now());
  delete meta.resourceVersion;
  delete meta.deletionTimestamp;
  delete meta.deletionGracePeriodSeconds;
  if (kind.hasGeneration) meta.generation = 1;
  dropSelfLink(meta);
}

/**
 * Creates an object. Each attempt asks `make` for one of its own and changes it in place: an attempt that fails leaves
 * no defaults behind.
 */
export async function createObject(
  context: RequestContext,
  make: () => KubeObject,
  options: { manager?: string; apply?: boolean } = {},
): Promise<Written> {
  const { server } = context;
  let decoded = make();
  // Storing refuses it, which a dry run does not come to; no version is no number.
  if (/^[1-9]\d*$/.test(String(decoded.metadata.resourceVersion)) && options.apply !== true && !isDryRun(context))
    throw new ApiError('BadRequest', 'resourceVersion should not be set on objects to be created');
  const generated = !decoded.metadata.name && decoded.metadata.generateName !== undefined;
  for (let attempt = 0; ; attempt++) {
    try {
      return await createOnce(context, decoded, options);
    } catch (error) {
      if (
        !(error instanceof RetryAllocation) &&
        !(generated && error instanceof ApiError && error.reason === 'AlreadyExists')
      )
        throw error;
      if (attempt >= createRetriesMax) throw error instanceof RetryAllocation ? error.reason : error;
      if (!generated && error instanceof RetryAllocation) {
        server.log.debug('allocation retried', { key: decoded.metadata.name });
      }
      decoded = make();
      context.warnings = [...new Set(context.warnings)];
    }
  }
}

/** Another writer took the address or port that was chosen; `reason` is what to say when it was asked for by name. */
class RetryAllocation extends Error {
  readonly reason: ApiError;
  constructor(reason: ApiError) {
    super(reason.message);
    this.reason = reason;
  }
}

async function createOnce(
  context: RequestContext,
  received: KubeObject,
  options: { manager?: string; apply?: boolean },
): Promise<Written> {
  const { server, kind } = context;
  const stored = storageKind(server, kind);
  const dry = isDryRun(context);
  if (kind.custom === true) await checkDefinitionStays(server, kind);
  checkStorable(context, received);
  if (kind.custom !== true) fillZeros(received, kind.type);
  const object = toStored(kind, received);
  fillCreated(context, object);
  stored.defaults?.(object);
  if (context.request.method === 'POST') dropRepeatedOwners(context, object);
  trackManagedFields(context, undefined, object, options);
  const attributes: AdmissionAttributes = { operation: 'CREATE', object, old: undefined, subresource: '', dryRun: dry };
  await admitMutating(context, attributes);
  const admitted = attributes.object;
  dropRepeatedOwners(context, admitted);
  const allocation = await planAllocation(context, admitted, undefined);
  stored.prepareCreate?.(admitted, server.clock.now(), (text) => context.warnings.push(text));
  if (kind.custom !== true) dropGatedFields(admitted, undefined, stored.type);
  if (kind.custom !== true) fillStatus(admitted, stored);
  const errors = new FieldErrors();
  if (!kind.metadataLast) validateMetadata(admitted, kind, errors);
  stored.validate?.(admitted, errors, undefined);
  kind.validateKept?.(admitted, errors, undefined);
  if (kind.metadataLast && !errors.any) validateMetadata(admitted, kind, errors);
  await validateRules(context, stored, attributes, errors);
  errors.throwIfAny(kind.group, kind.kind, admitted.metadata.name ?? '');
  tellWarnings(context, stored, attributes);
  await admitValidating(context, attributes);
  const { name = '', namespace = '' } = admitted.metadata;
  const key = storageKey(kind, namespace, name);
  dropUnused(admitted);
  const charge = await chargeQuotas(context, admitted, undefined);
  const kept = await toKept(kind, admitted);
  if (dry) {
    if ((await server.store.get(key)) !== undefined) throw alreadyExists(kind, name);
    return { stored: await dryStored(context, key, kept, server.store.currentRevision()), created: true };
  }
  const operation: Operation = { type: 'put', key, value: server.objects.encodeLate(kind, key, kept) };
  if (kind.storage.group === '' && kind.storage.resource === 'events') operation.lease = await eventLease(server);
  const result = await server.store.txn(
    [{ key, modRevision: 0 }, ...allocation.compares, ...charge.compares],
    [operation, ...allocation.operations, ...charge.operations],
  );
  if (!result.succeeded) {
    if (result.current.some((c) => c.key === key)) throw alreadyExists(kind, name);
    throw result.current.some((c) => c.key.startsWith('/registry/ranges/'))
      ? new RetryAllocation(allocation.taken(result.current))
      : new RetryAllocation(quotaConflict());
  }
  return { stored: await committed(context, key, result.revision, kept), created: true };
}

/** What is right and yet not wise: said once the object has passed. */
function tellWarnings({ warnings }: RequestContext, stored: KindRecord, { object, old }: AdmissionAttributes): void {
  stored.warn?.(object, old, (text) => {
    warnings.push(text);
  });
}

/** What the server itself says of a new object has its zeros, too. */
function fillStatus(object: KubeObject & { status?: unknown }, { type }: KindRecord): void {
  const status = type.fields.get('status')?.type;
  if (status?.kind === 'object' && isObject(object.status)) fillZeros(object.status, status);
}

async function validateRules(
  { warnings }: RequestContext,
  stored: KindRecord,
  { object, old }: AdmissionAttributes,
  errors: FieldErrors,
): Promise<void> {
  const warn = (text: string): void => {
    warnings.push(text);
  };
  await stored.validateRules?.(object, old, { errors, warn, nextTurn: giveWay });
}

/** What is too large to be stored is refused before it is worked on. */
function checkStorable(context: RequestContext, object: KubeObject): void {
  if ((context.request.body?.length ?? 0) < measuredBodyBytesMin) return;
  if (jsonBytes(object) > transactionBytesMax) throw new ApiError('InternalError', 'etcdserver: request is too large');
}

/** No new objects of a definition that goes: they would hold it up. */
async function checkDefinitionStays(server: Server, kind: KindRecord): Promise<void> {
  const definition = (await server.live.definitions.current()).get(
    '',
    `${kind.storage.resource}.${kind.storage.group}`,
  );
  if (definition?.metadata.deletionTimestamp === undefined) return;
  throw new ApiError('MethodNotAllowed', `create not allowed while custom resource definition is terminating`, {
    group: kind.group,
    kind: kind.resource,
  });
}

/** What a transaction stored; the object becomes its view. */
async function committed(
  { server, kind }: RequestContext,
  key: string,
  revision: number,
  object: KubeObject,
): Promise<StoredValue> {
  const stored = await server.store.get(key, revision);
  if (stored === undefined) throw new Error(`${key} vanished at its own revision ${revision}`);
  object.metadata.resourceVersion = String(revision);
  server.objects.remember(stored, object);
  server.onWritten?.();
  await prepareShown(server, kind, [stored]);
  return stored;
}

/** Events live an hour; those of one minute share a lease. */
async function eventLease(server: Server): Promise<number> {
  const minute = Math.floor(server.clock.now() / 60_000);
  if (server.eventLease?.minute !== minute) {
    const lease = server.store.grantLease(eventTtlSeconds + 60);
    server.eventLease = { minute, lease };
    // One that could not be had is asked for again.
    lease.catch(() => delete server.eventLease);
  }
  return server.eventLease.lease;
}

export interface UpdateOptions<T extends KubeObject = KubeObject> {
  subresource?: string;
  manager?: string;
  apply?: boolean;
  /** Preconditions other than the object's own resourceVersion. */
  uid?: string;
  /** Admission does not see what the system itself does, like removing a finalizer during deletion. */
  operation?: 'UPDATE' | 'CREATE';
  /** Changes nothing but what `change` returns: no defaulting by kind, for subresources with rules of their own. */
  validate?(object: Draft<T>, old: T, errors: FieldErrors): void;
  /** What the system decides of an object is nothing else that its owner wants. */
  keepsGeneration?: boolean;
  /** The object is made when it is not there. */
  createWhenMissing?: () => Promise<Written>;
  /**
   * `change` writes nothing into what it is given: what it takes over stays shared with the stored view, and is neither
   * copied nor compared.
   */
  sharesCurrent?: boolean;
}

// walk kubectl-apply 4/8: the write path: default, admit, validate, commit, again on conflict.
/**
 * Reads, changes and writes an object; `change` receives a copy (with `sharesCurrent` the frozen view itself) in the
 * request's version and answers the wanted object.
 */
export async function updateObject<T extends KubeObject>(
  context: RequestContext<T>,
  name: string,
  change: (current: T) => KubeObject | Promise<KubeObject>,
  options: UpdateOptions<NoInfer<T>> = {},
): Promise<Written> {
  const { server, kind, info } = context;
  const key = storageKey(kind, info.namespace, name);
  for (let attempt = 0; ; attempt++) {
    const before = await server.store.get(key);
    if (before === undefined) {
      if (options.createWhenMissing !== undefined) return options.createWhenMissing();
      throw notFound(kind, name);
    }
    const view = server.objects.view(before);
    await prepareShown(server, kind, [before]);
    const { conversion } = kind;
    const current = conversion === undefined ? fromStored(kind, view) : shownOf(server.objects, kind, before);
    const old = conversion === undefined ? fromStored(storageKind(server, kind), view) : current;
    const wanted = await change(options.sharesCurrent === true && isShownAsStored(kind) ? current : copyJson(current));
    const asked = wanted.metadata.resourceVersion;
    if (asked !== undefined && asked !== '' && asked !== '0' && asked !== old.metadata.resourceVersion)
      throw /^\d+$/.test(asked) ? conflict(kind, name) : unreadableVersion(asked);
    if (options.uid !== undefined && options.uid !== '' && options.uid !== old.metadata.uid)
      throw conflict(
        kind,
        name,
        `Precondition failed: UID in precondition: ${options.uid}, UID in object meta: ${old.metadata.uid}`,
      );
    const written = await updateOnce(context, { before, old, wanted }, options);
    if (written !== undefined) return written;
    if (attempt >= conflictRetriesMax) throw conflict(kind, name);
  }
}

/** It is of the past: what clients send of it goes. */
function dropSelfLink(meta: ObjectMeta): void {
  if (meta.selfLink !== undefined) Object.assign(meta, { selfLink: undefined });
}

/** An object to be written whatever version there is. */
export function unversioned<T extends KubeObject>(object: T): Manifest<T> & KubeObject {
  const { resourceVersion: _r, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** What an update starts from, and what is to become of it. */
interface Change {
  before: StoredValue;
  /** What `before` shows. */
  old: KubeObject;
  wanted: KubeObject;
}

/** One attempt; undefined where another writer was faster. */
async function updateOnce(
  context: RequestContext,
  { before, old, wanted }: Change,
  options: UpdateOptions,
): Promise<Written | undefined> {
  const { server, kind } = context;
  const { key } = before;
  const stored = storageKind(server, kind);
  const subresource = options.subresource ?? '';
  const dry = isDryRun(context);
  checkStorable(context, wanted);
  if (kind.custom !== true) fillZeros(wanted, kind.type);
  const object = toStored(kind, wanted);
  keepMetadata(context, object, old);
  if (subresource === '') stored.defaults?.(object);
  else if (subresource === 'status') {
    if (stored.custom === true) stored.defaults?.(object);
    else if ('status' in object && object.status !== undefined && object.status !== null)
      stored.defaultStatus?.(object.status, object);
  }
  if (context.request.method === 'PUT') dropRepeatedOwners(context, object);
  trackManagedFields(context, old, object, options);
  const attributes: AdmissionAttributes = { operation: 'UPDATE', object, old, subresource, dryRun: dry };
  await admitMutating(context, attributes);
  const admitted = attributes.object;
  dropRepeatedOwners(context, admitted);
  const allocation = await planAllocation(context, admitted, old);
  if (subresource === '') stored.prepareUpdate?.(admitted, old, server.clock.now());
  else if (subresource === 'status') stored.prepareStatus?.(admitted, old, server.clock.now());
  if (kind.custom !== true) dropGatedFields(admitted, old, stored.type);
  if (kind.hasGeneration && options.keepsGeneration !== true && !isSameSpec(admitted, old, kind))
    admitted.metadata.generation = (old.metadata.generation ?? 0) + 1;
  const errors = new FieldErrors();
  validateMetadata(admitted, kind, errors, old);
  validateMetadataUpdate(admitted, old, errors);
  if (options.validate !== undefined) options.validate(admitted, old, errors);
  else if (subresource === '') {
    stored.validate?.(admitted, errors, old);
    stored.validateUpdate?.(admitted, old, errors);
    kind.validateKept?.(admitted, errors, old);
  } else if (subresource === 'status') stored.validateStatus?.(admitted, old, errors);
  await validateRules(context, stored, attributes, errors);
  errors.throwIfAny(kind.group, kind.kind, admitted.metadata.name ?? '');
  if (subresource !== 'status') tellWarnings(context, stored, attributes);
  await admitValidating(context, attributes);
  dropUnused(admitted);
  // What was stored otherwise than it would be now is written again, though nothing else changes.
  if (server.objects.isCurrent(kind, before) && isSame(withoutTimes(admitted), withoutTimes(old)))
    return { stored: before, created: false };
  const kept = await toKept(kind, admitted);
  if (dry) return { stored: await dryStored(context, key, kept, before.modRevision), created: false };
  if (isFinished(admitted)) return finishDeletion(context, before, kept);
  const charge = await chargeQuotas(context, admitted, old);
  const operation: Operation = { type: 'put', key, value: server.objects.encodeLate(kind, key, kept, before) };
  if (before.lease !== undefined) operation.lease = before.lease;
  const result = await server.store.txn(
    [{ key, modRevision: before.modRevision }, ...allocation.compares, ...charge.compares],
    [operation, ...allocation.operations, ...charge.operations],
  );
  if (!result.succeeded) {
    const mine = result.current.find((c) => c.key === key);
    if (mine?.modRevision === before.modRevision && result.current.some((c) => c.key.startsWith('/registry/ranges/')))
      throw allocation.taken(result.current);
    return undefined;
  }
  return { stored: await committed(context, key, result.revision, kept), created: false };
}

/** A write that changes nothing but the time at which a manager last wrote is no write. */
function withoutTimes(object: KubeObject): KubeObject {
  const { metadata } = object;
  if (metadata.managedFields === undefined) return object;
  return {
    ...object,
    metadata: { ...metadata, managedFields: metadata.managedFields.map(({ time: _t, ...entry }) => entry) },
  };
}

/** Nothing differs but their versions. */
export function isSame(object: KubeObject, old: KubeObject): boolean {
  return equalButFor(object, old, ['metadata']) && equalButFor(object.metadata, old.metadata, ['resourceVersion']);
}

/** Where a kind has no status of its own, a field of that name is part of what is wanted. */
function isSameSpec(object: KubeObject, old: KubeObject, kind: KindRecord): boolean {
  return equalButFor(
    object,
    old,
    kind.hasStatus || kind.subresources.status !== undefined
      ? ['metadata', 'apiVersion', 'kind', 'status']
      : ['metadata', 'apiVersion', 'kind'],
  );
}

/** Marked for deletion, nothing left to wait for. */
function isFinished(object: KubeObject): boolean {
  return (
    object.metadata.deletionTimestamp !== undefined &&
    (object.metadata.finalizers ?? []).length === 0 &&
    (object.metadata.deletionGracePeriodSeconds ?? 0) === 0 &&
    !(isOf(kinds.Namespace, object) && (object.spec?.finalizers ?? []).length > 0)
  );
}

async function finishDeletion(
  { server, kind }: RequestContext,
  { key, modRevision, createRevision }: StoredValue,
  object: KubeObject,
): Promise<Written | undefined> {
  const result = await server.store.txn(
    [{ key, modRevision }],
    [{ type: 'delete', key }, ...releaseOperations(object)],
  );
  if (!result.succeeded) return undefined;
  const value = server.objects.encode(kind, key, object);
  const stored = { key, value, createRevision, modRevision: result.revision };
  await prepareShown(server, kind, [stored]);
  return { stored, created: false };
}
