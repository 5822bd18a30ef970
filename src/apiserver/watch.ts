/**
 * watch (Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks", "Streaming lists").
 *
 * A watch reads the store's events of its prefix. What an event looks like on the wire is made once and shared by all
 * watchers that want the same form, through a bounded cache keyed by the event. With selectors, an object that begins
 * or ceases to match is an ADDED or a DELETED.
 */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { freezeJson } from '#base/json.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { KubeObject, WatchEvent, WatchEventType } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import { encodeObject, protobufMediaType } from '#schema/protobuf.ts';
import { CompactedError, FutureRevisionError } from '#store/store.ts';
import type { StoredValue, StoreEvent, StoreWatch } from '#store/store.ts';
import type { RequestContext } from './context.ts';
import { prepareShown, shownOf } from './conversion.ts';
import { scannedTogetherMax, watchInitialObjectsMax, watchPieceBytesMax } from './limits.ts';
import { negotiate } from './negotiate.ts';
import type { Negotiated } from './negotiate.ts';
import type { Objects } from './stored-objects.ts';
import { isShownAsStored, storagePrefix } from './stored-objects.ts';
import { encodeFrame, encodeStatus, encodeStored } from './protobuf.ts';
import { parseRevision } from './read.ts';
import { encodeBody, formsOf, headersFor, includeObject } from './respond.ts';
import { Selection } from './selection.ts';
import { makeTable, partialMetadata } from './table.ts';
import { Feed } from './watch-feed.ts';
import { eventObject, frameOf, storedOf, type EventType } from './watch-frames.ts';

/** `ADDED`, `MODIFIED` or `DELETED` as this selection sees the event; undefined where it does not. */
function typeFor(
  objects: Objects,
  selection: Selection,
  event: StoreEvent,
): 'ADDED' | 'MODIFIED' | 'DELETED' | undefined {
  if (selection.isEmpty)
    return event.type === 'delete' ? 'DELETED' : event.previous === undefined ? 'ADDED' : 'MODIFIED';
  const before = event.previous !== undefined && selection.matches(objects, event.previous);
  const after = event.value !== undefined && selection.matches(objects, event.value);
  if (after) return before ? 'MODIFIED' : 'ADDED';
  return before ? 'DELETED' : undefined;
}

/** How a watch writes its events: as shared objects, as shared frames, or converted for this watcher. */
interface Writer<T> {
  initial(stored: StoredValue): T;
  event(event: StoreEvent, type: 'ADDED' | 'MODIFIED' | 'DELETED'): T;
  made(type: WatchEventType, object: KubeObject): T;
}

/** What an event shows in the watcher's version. */
function shownEvent(objects: Objects, kind: KindRecord, event: StoreEvent, type: EventType): KubeObject {
  if (kind.conversion === undefined) {
    const object = eventObject(objects, event, type);
    return kind.fromStored === undefined ? object : freezeJson(kind.fromStored(object));
  }
  const object = shownOf(objects, kind, storedOf(event, type));
  if (type !== 'DELETED') return object;
  return freezeJson({ ...object, metadata: { ...object.metadata, resourceVersion: String(event.revision) } });
}

function objectWriter(context: RequestContext, kind: KindRecord): Writer<WatchEvent> {
  const { objects } = context.server;
  return {
    initial: (stored) => ({ type: 'ADDED', object: shownOf(objects, kind, stored) }),
    event: (event, type) => ({ type, object: shownEvent(objects, kind, event, type) }),
    made: (type, object) => ({ type, object }),
  };
}

function frameWriter(context: RequestContext): Writer<Uint8Array> {
  const { objects } = context.server;
  return {
    initial: (stored) =>
      Buffer.concat([Buffer.from('{"type":"ADDED","object":'), objects.bytes(stored), Buffer.from('}\n')]),
    event: (event, type) => frameOf(objects, event, type),
    made: (type, object) => Buffer.from(`${JSON.stringify({ type, object })}\n`),
  };
}

/** Protobuf frames. The encoding of an object is shared; a frame is cheap to put around it. */
function protobufWriter(context: RequestContext, kind: KindRecord): Writer<Uint8Array> {
  const { objects } = context.server;
  const shown = (object: KubeObject): KubeObject => (kind.fromStored === undefined ? object : kind.fromStored(object));
  return {
    initial: (stored) =>
      encodeFrame(
        'ADDED',
        encodeStored(kind, stored, () => shown(objects.view(stored))),
      ),
    event: (event, type) =>
      encodeFrame(
        type,
        type === 'DELETED'
          ? encodeObject(kind.type, shown(eventObject(objects, event, type)))
          : encodeStored(kind, storedOf(event, type), () => shown(eventObject(objects, event, type))),
      ),
    made: (type, object) =>
      encodeFrame(type, type === 'ERROR' ? encodeStatus(object) : encodeObject(kind.type, object)),
  };
}

/** Tables, partial metadata, other versions, YAML: made for this watcher alone. */
function convertingWriter(context: RequestContext, kind: KindRecord, wanted: Negotiated): Writer<Uint8Array> {
  const { objects, clock } = context.server;
  const include = includeObject(context);
  let first = true;
  const shape = (converted: KubeObject): object => {
    if (wanted.form === 'partial') return partialMetadata(converted, wanted.version);
    if (wanted.form !== 'table') return converted;
    const { resourceVersion = '' } = converted.metadata;
    const table = makeTable(kind, [converted], {
      metadata: { resourceVersion },
      include,
      now: clock.now(),
      version: wanted.version,
      withColumns: first,
    });
    first = false;
    return table;
  };
  const frame = (type: string, object: object): Uint8Array =>
    wanted.encoding === 'yaml'
      ? Buffer.concat([Buffer.from('---\n'), encodeBody({ type, object }, 'yaml')])
      : Buffer.from(`${JSON.stringify({ type, object })}\n`);
  return {
    initial: (stored) => frame('ADDED', shape(shownOf(objects, kind, stored))),
    event: (event, type) => frame(type, shape(shownEvent(objects, kind, event, type))),
    made: (type, object) =>
      frame(type, type === 'BOOKMARK' && wanted.form !== 'object' ? bookmarkShape(object, wanted) : object),
  };
}

function bookmarkShape(object: KubeObject, wanted: Negotiated): object {
  return wanted.form === 'partial'
    ? partialMetadata(object, wanted.version)
    : {
        kind: 'Table',
        apiVersion: `meta.k8s.io/${wanted.version}`,
        metadata: { resourceVersion: object.metadata.resourceVersion },
        columnDefinitions: null,
        rows: [
          {
            cells: [],
            object: {
              kind: 'PartialObjectMetadata',
              apiVersion: `meta.k8s.io/${wanted.version}`,
              metadata: object.metadata,
            },
          },
        ],
      };
}

interface WatchPlan {
  from: number;
  initial: StoredValue[] | undefined;
  endBookmark: boolean;
  bookmarks: boolean;
  expired: number | undefined;
}

async function planWatch(context: RequestContext, selection: Selection, prefix: string): Promise<WatchPlan> {
  const { server, request } = context;
  const query = request.query;
  const bookmarks = ['true', '1'].includes(query.get('allowWatchBookmarks') ?? '');
  const sendInitial = query.get('sendInitialEvents');
  if (sendInitial !== null && (query.get('resourceVersionMatch') ?? '') !== 'NotOlderThan')
    throw new ApiError(
      'Invalid',
      'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
    );
  const revision = parseRevision(query.get('resourceVersion'));
  const wantsInitial = sendInitial === 'true' || (sendInitial === null && (revision === undefined || revision === 0));
  if (!wantsInitial) {
    const from = revision === undefined || revision === 0 ? server.store.currentRevision() : revision;
    return {
      from,
      initial: undefined,
      endBookmark: false,
      bookmarks,
      expired: from < server.store.compactedRevision() ? server.store.compactedRevision() : undefined,
    };
  }
  if (revision !== undefined && revision > server.store.currentRevision())
    throw new ApiError(
      'Timeout',
      `Too large resource version: ${revision}, current: ${server.store.currentRevision()}`,
      { causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1 },
    );
  const list = await server.store.list(prefix);
  await prepareShown(server, selection.kind, list.values);
  const initial: StoredValue[] = [];
  for (const [index, stored] of list.values.entries()) {
    if (index % scannedTogetherMax === scannedTogetherMax - 1) await context.pause?.();
    if (selection.matches(server.objects, stored)) initial.push(stored);
  }
  return {
    from: list.revision,
    initial,
    endBookmark: sendInitial === 'true' && bookmarks,
    bookmarks,
    expired: undefined,
  };
}

/** What is written for each, handed over in pieces: the next one is made when the connection has taken the last. */
function* pieces<S, T>(
  sources: readonly S[],
  write: (source: S) => T | undefined,
  itemsMax = Infinity,
): Generator<T[]> {
  let out: T[] = [];
  let bytes = 0;
  for (const source of sources) {
    const written = write(source);
    if (written === undefined) continue;
    out.push(written);
    if (written instanceof Uint8Array) bytes += written.length;
    if (bytes < watchPieceBytesMax && out.length < itemsMax) continue;
    yield out;
    out = [];
    bytes = 0;
  }
  if (out.length > 0) yield out;
}

/** What a watch follows. */
interface Followed {
  kind: KindRecord;
  selection: Selection;
  /** The directory of the store. */
  prefix: string;
  plan: WatchPlan;
}

/** What a watch begins with; fewer in one go where others wait, as each may have to be parsed. */
async function* initialPieces<T>(
  context: RequestContext,
  initial: readonly StoredValue[],
  writer: Writer<T>,
): AsyncGenerator<T[]> {
  const itemsMax = context.server.flowControl.isShared ? scannedTogetherMax : watchInitialObjectsMax;
  for (const piece of pieces(initial, (stored) => writer.initial(stored), itemsMax)) {
    yield piece;
    await context.pause?.();
  }
}

async function* runWatch<T>(
  context: RequestContext,
  { kind, selection, prefix, plan }: Followed,
  writer: Writer<T>,
): AsyncGenerator<T[]> {
  const { server, request } = context;
  if (plan.expired !== undefined) {
    yield [
      writer.made(
        'ERROR',
        new ApiError('Expired', `too old resource version: ${plan.from} (${plan.expired})`).toStatus(),
      ),
    ];
    return;
  }
  const bookmark = (revision: number, annotations?: Record<string, string>): T =>
    writer.made('BOOKMARK', {
      kind: kind.kind,
      apiVersion: apiVersionOf(kind),
      metadata: {
        resourceVersion: String(revision),
        creationTimestamp: null,
        ...(annotations === undefined ? {} : { annotations }),
      },
    });
  let watch: StoreWatch;
  try {
    watch = server.store.watch(prefix, plan.from, selection.route(server.objects));
  } catch (error) {
    if (!(error instanceof FutureRevisionError)) throw error;
    yield [
      writer.made(
        'ERROR',
        new ApiError(
          'Timeout',
          `Too large resource version: ${plan.from}, current: ${error.currentRevision}`,
        ).toStatus(),
      ),
    ];
    return;
  }
  const feed = new Feed(context, watch, { bookmarks: plan.bookmarks, isRouted: selection.isRouted });
  const endWatch = server.flowControl.estimates.noteWatch(context.info);
  try {
    if (plan.initial !== undefined) {
      yield* initialPieces(context, plan.initial, writer);
      plan.initial = undefined;
      if (plan.endBookmark) yield [bookmark(plan.from, { 'k8s.io/initial-events-end': 'true' })];
    }
    context.onBegun?.();
    for (;;) {
      const batch = await feed.next();
      if (batch === 'closed' || request.signal.aborted) return;
      if (typeof batch === 'number') {
        if (plan.bookmarks) yield [bookmark(batch)];
        continue;
      }
      if (kind.conversion !== undefined)
        await prepareShown(
          server,
          kind,
          batch.flatMap(({ value, previous }) => [value, previous]),
        );
      yield* pieces(batch, (event) => {
        const type = typeFor(server.objects, selection, event);
        return type === undefined ? undefined : writer.event(event, type);
      });
    }
  } catch (error) {
    const told =
      error instanceof CompactedError
        ? new ApiError('Expired', `too old resource version: ${plan.from} (${error.compactedRevision})`)
        : error;
    // An ApiError is a conversion that failed.
    if (!(told instanceof ApiError)) throw error;
    yield [writer.made('ERROR', told.toStatus())];
  } finally {
    feed.close();
    endWatch();
    context.onBegun?.();
  }
}

/** The last frames that were put together: watchers that keep pace with each other all send the same ones. */
let lastJoined: { parts: Uint8Array[]; bytes: Uint8Array } = { parts: [], bytes: new Uint8Array(0) };

function joinFrames(parts: Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) return only;
  const last = lastJoined.parts;
  if (last.length === parts.length && parts.every((part, index) => part === last[index])) return lastJoined.bytes;
  const bytes = Buffer.concat(parts);
  lastJoined = { parts, bytes };
  return bytes;
}

async function* joined(batches: AsyncGenerator<Uint8Array[]>): AsyncGenerator<Uint8Array> {
  for await (const batch of batches) yield joinFrames(batch);
}

export async function handleWatch(context: RequestContext): Promise<ApiResponse> {
  const { kind, info, request } = context;
  const query = request.query;
  if (info.name !== '' && !query.has('fieldSelector')) query.set('fieldSelector', `metadata.name=${info.name}`);
  const selection = new Selection(kind, query);
  const namespace = kind.namespaced ? info.namespace || selection.namespace || '' : '';
  const prefix =
    storagePrefix(kind, namespace) +
    (selection.name !== undefined && (namespace !== '' || !kind.namespaced) ? selection.name : '');
  const followed: Followed = { kind, selection, prefix, plan: await planWatch(context, selection, prefix) };
  if (request.wantsObject === true)
    return {
      status: 200,
      headers: {},
      events: runWatch(context, followed, objectWriter(context, kind)),
    };
  const wanted = negotiate(request, formsOf(kind));
  if (wanted.encoding === 'protobuf') {
    const headers = { ...headersFor(context, 'protobuf'), 'content-type': `${protobufMediaType};stream=watch` };
    return {
      status: 200,
      headers,
      body: joined(runWatch(context, followed, protobufWriter(context, kind))),
    };
  }
  const writer =
    wanted.form === 'object' && wanted.encoding === 'json' && isShownAsStored(kind)
      ? frameWriter(context)
      : convertingWriter(context, kind, wanted);
  const headers = headersFor(context, wanted.encoding);
  if (wanted.encoding === 'json') headers['content-type'] = 'application/json';
  return { status: 200, headers, body: joined(runWatch(context, followed, writer)) };
}
