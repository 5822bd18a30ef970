/**
 * Of MessagePack what the forward protocol needs: strings, unsigned integers, lists, maps of strings and Fluentd's
 * event time, written; and strings of maps, read.
 * Source: MessagePack specification; Fluentd "Forward Protocol Specification v1".
 */
export function packString(text: string | Buffer): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const { length } = bytes;
  const head = Buffer.alloc(5);
  if (length < 32) return Buffer.concat([Buffer.of(0xa0 | length), bytes]);
  if (length < 2 ** 8) return Buffer.concat([Buffer.of(0xd9, length), bytes]);
  if (length < 2 ** 16) {
    head[0] = 0xda;
    head.writeUInt16BE(length, 1);
    return Buffer.concat([head.subarray(0, 3), bytes]);
  }
  head[0] = 0xdb;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
}

export function packMap(fields: readonly (readonly [string, string | Buffer])[]): Buffer {
  const head =
    fields.length < 16 ? Buffer.of(0x80 | fields.length) : Buffer.from([0xde, fields.length >> 8, fields.length & 255]);
  return Buffer.concat([head, ...fields.flatMap(([key, value]) => [packString(key), packString(value)])]);
}

export function packList(items: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.of(0x90 | items.length), ...items]);
}

/** Seconds as a 32-bit unsigned integer. */
export function packSeconds(seconds: number): Buffer {
  const out = Buffer.alloc(5);
  out[0] = 0xce;
  out.writeUInt32BE(seconds, 1);
  return out;
}

/** Fluentd's EventTime: extension type 0 of seconds and nanoseconds. */
export function packEventTime(seconds: number, nanoseconds: number): Buffer {
  const out = Buffer.alloc(10);
  out[0] = 0xd7;
  out.writeUInt32BE(seconds, 2);
  out.writeUInt32BE(nanoseconds, 6);
  return out;
}

/** The value of `ack` in an answer; undefined until the answer is whole, empty where it is another. */
export function readAck(bytes: Buffer): string | undefined {
  const key = packString('ack');
  if (bytes.length < 1 + key.length + 1) return undefined;
  if (bytes[0] !== 0x81 || !bytes.subarray(1, 1 + key.length).equals(key)) return '';
  const at = 1 + key.length;
  const kind = bytes[at] ?? 0;
  const isShort = (kind & 0xe0) === 0xa0;
  if (!isShort && kind !== 0xd9) return '';
  const from = isShort ? at + 1 : at + 2;
  const length = isShort ? kind & 0x1f : bytes[at + 1];
  return length === undefined || bytes.length < from + length ? undefined : bytes.toString('utf8', from, from + length);
}
