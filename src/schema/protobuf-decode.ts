/**
 * Kubernetes' protobuf encoding, read: the object that JSON would have given. Zero values of fields that are neither
 * pointers nor required are left out, as `omitempty` does.
 */
import { scanJson } from '#base/json.ts';
import type { JsonObject } from '#base/unknown.ts';
import { isObject } from '#base/unknown.ts';
import { protobufDepthMax, protobufItemsMax } from './limits.ts';
import type { Node } from './protobuf.ts';
import { durationText, protobufMagic, treeOf } from './protobuf.ts';
import type { Field, ObjectNode, TypeNode, UnionNode } from './types.ts';

class Reader {
  readonly bytes: Buffer;
  at: number;
  readonly end: number;
  /** What the whole body may still hold; shared by the readers of its parts. */
  readonly work: { itemsLeft: number; depth: number };
  constructor(bytes: Buffer, at = 0, end = bytes.length, work = { itemsLeft: protobufItemsMax, depth: 0 }) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
    this.work = work;
  }

  /** Each message and list item; an empty one takes two bytes and becomes sixty. */
  countItem(): void {
    if (--this.work.itemsLeft < 0) throw new Error(`proto: more than ${protobufItemsMax} messages and list items`);
  }

  /** Moves on by so many bytes; answers where they begin. */
  take(bytes: number): number {
    const start = this.at;
    if (start + bytes > this.end) throw new Error('proto: unexpected EOF');
    this.at += bytes;
    return start;
  }

  #byte(): number {
    const byte = this.at < this.end ? this.bytes[this.at++] : undefined;
    if (byte === undefined) throw new Error('proto: unexpected EOF');
    return byte;
  }

  varint(): number | bigint {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    let big = BigInt(value);
    for (let shift = 28n; ; shift += 7n) {
      if (shift > 63n) throw new Error('proto: unexpected EOF');
      const byte = this.#byte();
      big |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return big;
    }
  }

  length(): number {
    const length = Number(this.varint());
    if (this.at + length > this.end) throw new Error('proto: unexpected EOF');
    return length;
  }

  slice(): Reader {
    this.countItem();
    const length = this.length();
    const reader = new Reader(this.bytes, this.at, this.at + length, this.work);
    this.at += length;
    return reader;
  }

  text(): string {
    const length = this.length();
    const text = this.bytes.toString('utf8', this.at, this.at + length);
    this.at += length;
    return text;
  }
  data(): Buffer {
    const length = this.length();
    const data = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return data;
  }

  skip(wire: number): void {
    if (wire === 0) this.varint();
    else if (wire === 1) this.take(8);
    else if (wire === 2) {
      const length = this.length();
      this.at += length;
    } else if (wire === 5) this.take(4);
    else throw new Error(`proto: illegal wireType ${wire}`);
  }
}

/** Throws for an integer that a number cannot hold. */
function signed(value: number | bigint): number {
  if (typeof value === 'number') return value;
  const whole = BigInt.asIntN(64, value);
  if (BigInt(Number(whole)) !== whole)
    throw new Error(`proto: integer ${whole} is beyond ±(2^53-1) and cannot be kept exactly`);
  return Number(whole);
}

/** Calls `visit` with each field number and wire type; it must consume the value or answer false. */
function eachField(reader: Reader, visit: (field: number, wire: number) => boolean): void {
  while (reader.at < reader.end) {
    const tag = Number(reader.varint());
    const field = Math.floor(tag / 8);
    if (field === 0) throw new Error('proto: illegal tag 0');
    if (!visit(field, tag % 8)) reader.skip(tag % 8);
  }
}

function readTime(reader: Reader, micro: boolean): string | null {
  let seconds: number | undefined;
  let nanos = 0;
  eachField(reader, (field, wire) => {
    if (wire !== 0) return false;
    const value = signed(reader.varint());
    if (field === 1) seconds = value;
    else if (field === 2) nanos = value;
    return true;
  });
  if (seconds === undefined || seconds === -62_135_596_800) return null;
  const text = new Date(seconds * 1000).toISOString().slice(0, 19);
  return micro ? `${text}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z` : `${text}Z`;
}

function readScalar(reader: Reader, kind: string): unknown {
  switch (kind) {
    case 'string':
      return reader.text();
    case 'boolean':
      return Number(reader.varint()) !== 0;
    case 'int32':
    case 'int64':
      return signed(reader.varint());
    case 'double':
      return reader.bytes.readDoubleLE(reader.take(8));
    case 'bytes':
      return reader.data().toString('base64');
    case 'time':
      return readTime(reader.slice(), false);
    case 'microtime':
      return readTime(reader.slice(), true);
    default:
      return readWrapped(reader.slice(), kind);
  }
}

function parseRaw(text: string): unknown {
  scanJson(text);
  return JSON.parse(text);
}

function readWrapped(reader: Reader, kind: string): unknown {
  let type = 0;
  let number = 0;
  let text = '';
  let raw: unknown = null;
  let nanos = 0n;
  eachField(reader, (field, wire) => {
    if (kind === 'duration' && field === 1) {
      nanos = BigInt.asIntN(64, BigInt(reader.varint()));
      return true;
    }
    if (kind === 'quantity' && field === 1) {
      text = reader.text();
      return true;
    }
    if (kind === 'intstr') {
      if (field === 3) text = reader.text();
      else {
        const v = signed(reader.varint());
        if (field === 1) type = v;
        else number = v;
      }
      return true;
    }
    if (kind === 'any' && field === 1 && wire === 2) {
      const data = reader.data().toString();
      if (data !== '') raw = parseRaw(data);
      return true;
    }
    return false;
  });
  if (kind === 'duration') return durationText(nanos);
  if (kind === 'intstr') return type === 0 ? number : text;
  return kind === 'quantity' ? text : raw;
}

function readValue(reader: Reader, type: TypeNode): unknown {
  if (type.kind === 'object') return readMessage(reader.slice(), type);
  if (type.kind === 'list') {
    const inner = reader.slice();
    const out: unknown[] = [];
    eachField(inner, (field) => {
      if (field !== 1) return false;
      out.push(readValue(inner, type.item));
      return true;
    });
    return out;
  }
  if (type.kind === 'union') return readMember(reader.slice(), type);
  return readScalar(reader, type.kind);
}

/** Of the members that are said the last one, as Go takes a list before a schema, and a schema before a boolean. */
function readMember(reader: Reader, { members }: UnionNode): unknown {
  const values: unknown[] = members.map(({ kind }) => (kind === 'boolean' ? false : undefined));
  eachField(reader, (field) => {
    const member = members[field - 1];
    if (member === undefined) return false;
    if (member.kind === 'list') {
      const known = values[field - 1];
      const list: unknown[] = Array.isArray(known) ? known : [];
      values[field - 1] = list;
      if (member.item.kind !== 'object') reader.countItem();
      list.push(readValue(reader, member.item));
    } else values[field - 1] = readValue(reader, member);
    return true;
  });
  return values.findLast((value) => value !== undefined) ?? null;
}

function readEntry(reader: Reader, item: TypeNode, into: JsonObject): void {
  let key = '';
  let value: unknown;
  eachField(reader, (field) => {
    if (field === 1) key = reader.text();
    else if (field === 2) value = readValue(reader, item);
    else return false;
    return true;
  });
  if (key !== '__proto__') into[key] = value ?? (item.kind === 'time' ? null : zeroOf(item));
}

function zeroOf(node: TypeNode): unknown {
  return node.kind === 'object' || node.kind === 'map'
    ? {}
    : node.kind === 'list'
      ? []
      : node.kind === 'boolean'
        ? false
        : ['int32', 'int64', 'double', 'intstr'].includes(node.kind)
          ? 0
          : '';
}

function readMessage(reader: Reader, node: ObjectNode): JsonObject {
  if (++reader.work.depth > protobufDepthMax)
    throw new Error(`proto: more than ${protobufDepthMax} messages within each other`);
  const out: JsonObject = {};
  readLevel(reader, treeOf(node), out);
  reader.work.depth--;
  return out;
}

function readLevel(reader: Reader, level: ReadonlyMap<number, Node>, out: JsonObject): void {
  eachField(reader, (number, wire) => {
    const entry = level.get(number);
    if (entry === undefined) return false;
    if (entry.field === undefined) {
      readLevel(reader.slice(), entry.children, out);
      return true;
    }
    readField(reader, entry.field, wire, out);
    return true;
  });
}

function readField(reader: Reader, field: Field, wire: number, out: JsonObject): void {
  const { type, name } = field;
  if (type.kind === 'map') {
    const known = out[name];
    const map = isObject(known) ? known : {};
    out[name] = map;
    readEntry(reader.slice(), type.item, map);
    return;
  }
  if (type.kind === 'list') {
    const known = out[name];
    const list: unknown[] = Array.isArray(known) ? known : [];
    out[name] = list;
    if (wire === 2 && ['int32', 'int64', 'boolean'].includes(type.item.kind)) {
      const packed = reader.slice();
      while (packed.at < packed.end) {
        packed.countItem();
        list.push(readScalar(packed, type.item.kind));
      }
      return;
    }
    if (type.item.kind !== 'object') reader.countItem();
    list.push(readValue(reader, type.item));
    return;
  }
  const value = readValue(reader, type);
  if (!field.pointer && !field.writesZero && isZero(value)) return;
  if (value === null && !field.writesZero) return;
  out[name] = value;
}

function isZero(value: unknown): boolean {
  return (
    value === '' ||
    value === 0 ||
    value === false ||
    value === null ||
    value === undefined ||
    (typeof value === 'object' && Object.keys(value).length === 0)
  );
}

export interface Unwrapped {
  apiVersion: string;
  kind: string;
  message: Buffer;
}

/** Opens the envelope. Throws what is no Kubernetes protobuf. */
export function unwrapMessage(bytes: Uint8Array): Unwrapped {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (buffer.length < 4 || !buffer.subarray(0, 4).equals(protobufMagic))
    throw new Error('provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]');
  const out: Unwrapped = { apiVersion: '', kind: '', message: Buffer.alloc(0) };
  const reader = new Reader(buffer, 4);
  eachField(reader, (field) => {
    if (field === 1) {
      const meta = reader.slice();
      eachField(meta, (f) => {
        if (f === 1) out.apiVersion = meta.text();
        else if (f === 2) out.kind = meta.text();
        else return false;
        return true;
      });
      return true;
    }
    if (field === 2) {
      out.message = reader.data();
      return true;
    }
    return false;
  });
  return out;
}

export function decodeMessage(node: ObjectNode, message: Buffer): JsonObject {
  return readMessage(new Reader(message), node);
}
