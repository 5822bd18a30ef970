/**
 * Answers in protobuf: objects, lists and watch frames of built-in kinds. An object's encoding is made once per version
 * of it.
 */
import { joinOwn, ownCopy } from '#base/bytes.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import { encodeMessage, envelopeOf, ProtobufWriter, varintBytes, wrapMessage } from '#schema/protobuf.ts';
import { typeOf } from '#schema/types.ts';
import type { StoredValue } from '#store/store.ts';
import type { ListCache } from './list-cache.ts';
import {
  encodingsBytesMax,
  keptListBytesMin,
  listPieceBytesMax,
  listWholeBytesMax,
  scannedTogetherMax,
} from './limits.ts';

/** Whether the kind has a protobuf form. */
export function hasProtobuf(kind: KindRecord | undefined): kind is KindRecord {
  return kind !== undefined && kind.custom !== true && kind.type.name !== undefined;
}

let messages = new WeakMap<KindRecord, WeakMap<StoredValue, Buffer>>();
let messageBytes = 0;

function messageOf(kind: KindRecord, stored: StoredValue, view: () => KubeObject): Buffer {
  let known = messages.get(kind);
  let message = known?.get(stored);
  if (message !== undefined) return message;
  message = ownCopy(encodeMessage(kind.type, view()));
  messageBytes += message.length;
  if (messageBytes > encodingsBytesMax) {
    messages = new WeakMap();
    messageBytes = message.length;
    known = undefined;
  }
  if (known === undefined) messages.set(kind, (known = new WeakMap()));
  known.set(stored, message);
  return message;
}

export function encodeStored(kind: KindRecord, stored: StoredValue, view: () => KubeObject): Buffer {
  return wrapMessage(apiVersionOf(kind), kind.kind, messageOf(kind, stored, view));
}

const nothing = new Uint8Array(0);

/** A list, and where its items are kept. */
interface List {
  kind: KindRecord;
  values: readonly StoredValue[];
  view(stored: StoredValue): KubeObject;
  metadata: object;
  cache: ListCache;
  key: string;
}

/**
 * The envelope tells the length of all that follows, so each object's length is asked for first; what is kept no longer
 * is then encoded again. Meanwhile pieces are empty.
 */
export function* encodeListPieces(list: List): Generator<Uint8Array> {
  const { kind, values, view, metadata, cache, key } = list;
  const lead = new ProtobufWriter();
  lead.bytes(1, encodeMessage(typeOf('meta.v1/ListMeta'), metadata));
  const first = lead.finish();
  const known = cache.find(key, values);
  let size = known?.length ?? 0;
  if (known === undefined)
    for (const [index, stored] of values.entries()) {
      const { length } = messageOf(kind, stored, () => view(stored));
      size += 1 + varintBytes(length) + length;
      if (index % scannedTogetherMax === scannedTogetherMax - 1) yield nothing;
    }
  const { head, tail } = envelopeOf(apiVersionOf(kind), kind.listKind, first.length + size);
  yield joinOwn([head, first]);
  if (known === undefined) yield* encodeItems(list, size);
  else for (let at = 0; at < size; at += listPieceBytesMax) yield known.subarray(at, at + listPieceBytesMax);
  yield tail;
}

/** The items, of so many bytes together. */
function* encodeItems({ kind, values, view, cache, key }: List, size: number): Generator<Uint8Array> {
  const kept: Uint8Array[] | undefined = size >= keptListBytesMin && size <= listWholeBytesMax ? [] : undefined;
  let writer = new ProtobufWriter();
  let bytes = 0;
  for (const [index, stored] of values.entries()) {
    const message = messageOf(kind, stored, () => view(stored));
    writer.bytes(2, message);
    if ((bytes += message.length) < listPieceBytesMax && index < values.length - 1) continue;
    const piece = writer.finish();
    kept?.push(piece);
    yield piece;
    writer = new ProtobufWriter();
    bytes = 0;
  }
  if (kept !== undefined) cache.keep(key, values, joinOwn(kept));
}

/** A watch frame: length, then a `WatchEvent` whose object is enveloped. */
export function encodeFrame(type: string, object: Uint8Array): Buffer {
  const writer = new ProtobufWriter();
  writer.string(1, type);
  writer.message(2, () => writer.bytes(1, object));
  const event = writer.finish();
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(event.length);
  return Buffer.concat([length, event]);
}

export function encodeStatus(status: KubeObject): Buffer {
  return wrapMessage('v1', 'Status', encodeMessage(typeOf('meta.v1/Status'), status));
}
