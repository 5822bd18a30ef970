/** Answers in protobuf: objects, lists and watch frames of built-in kinds. An object's encoding is made once per version of it. */
import { apiVersionOf } from '#base/objects.ts';
import type { KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
import { encodeMessage, ProtobufWriter, wrapMessage } from '#schema/protobuf.ts';
import { typeOf } from '#schema/types.ts';
import type { StoredValue } from '#store/store.ts';

/** Whether the kind has a protobuf form. */
export function hasProtobuf(kind: KindRecord | undefined): kind is KindRecord {
  return kind !== undefined && kind.custom !== true && kind.type.name !== undefined;
}

const messages = new WeakMap<KindRecord, WeakMap<StoredValue, Buffer>>();

function messageOf(kind: KindRecord, stored: StoredValue, view: () => KubeObject): Buffer {
  let known = messages.get(kind);
  if (known === undefined) messages.set(kind, (known = new WeakMap()));
  let message = known.get(stored);
  if (message === undefined) known.set(stored, (message = encodeMessage(kind.type, view())));
  return message;
}

export function encodeStored(kind: KindRecord, stored: StoredValue, view: () => KubeObject): Buffer {
  return wrapMessage(apiVersionOf(kind), kind.kind, messageOf(kind, stored, view));
}

export function encodeList(kind: KindRecord, values: readonly StoredValue[], view: (stored: StoredValue) => KubeObject, metadata: object): Buffer {
  const writer = new ProtobufWriter();
  writer.bytes(1, encodeMessage(typeOf('meta.v1/ListMeta'), metadata));
  for (const stored of values) writer.bytes(2, messageOf(kind, stored, () => view(stored)));
  return wrapMessage(apiVersionOf(kind), kind.listKind, writer.finish());
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

export function encodeStatus(status: KubeObject): Buffer { return wrapMessage('v1', 'Status', encodeMessage(typeOf('meta.v1/Status'), status)); }
