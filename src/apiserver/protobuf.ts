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
import { encodingsBytesMax, listPieceBytesMax } from './limits.ts';

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

/**
 * The envelope tells the length of all that follows, so each object's length is asked for first; what is kept no longer
 * is then encoded again.
 */
export function* encodeListPieces(
  kind: KindRecord,
  values: readonly StoredValue[],
  view: (stored: StoredValue) => KubeObject,
  metadata: object,
): Generator<Uint8Array> {
  const lengthOf = (stored: StoredValue): number => messageOf(kind, stored, () => view(stored)).length;
  const lead = new ProtobufWriter();
  lead.bytes(1, encodeMessage(typeOf('meta.v1/ListMeta'), metadata));
  const first = lead.finish();
  let size = first.length;
  for (const stored of values) {
    const length = lengthOf(stored);
    size += 1 + varintBytes(length) + length;
  }
  const { head, tail } = envelopeOf(apiVersionOf(kind), kind.listKind, size);
  yield joinOwn([head, first]);
  let writer = new ProtobufWriter();
  let bytes = 0;
  for (const stored of values) {
    const message = messageOf(kind, stored, () => view(stored));
    writer.bytes(2, message);
    if ((bytes += message.length) < listPieceBytesMax) continue;
    yield writer.finish();
    writer = new ProtobufWriter();
    bytes = 0;
  }
  yield joinOwn([writer.finish(), tail]);
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
