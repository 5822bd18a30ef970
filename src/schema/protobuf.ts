/**
 * Kubernetes' protobuf encoding of built-in kinds, driven by the field numbers in the schema data (protobuf wire
 * format; Kubernetes API concepts, "Kubernetes Protobuf encoding"): four bytes of magic, then a `runtime.Unknown` that
 * names the kind and holds the message.
 *
 * Decoding gives the object that JSON would have given: zero values of fields that are neither pointers nor required
 * are left out, as `omitempty` does.
 */
import { scanJson } from '#base/json.ts';
import { isObject, itemsOf, type JsonObject } from '#base/unknown.ts';
import { protobufDepthMax, protobufItemsMax } from './limits.ts';
import type { Field, ObjectNode, TypeNode } from './types.ts';

const protobufMagic = Uint8Array.of(0x6b, 0x38, 0x73, 0x00);
export const protobufMediaType = 'application/vnd.kubernetes.protobuf';

export class ProtobufWriter {
  #buffer = Buffer.allocUnsafe(1024);
  #at = 0;

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + bytes));
    this.#buffer.copy(grown, 0, 0, this.#at);
    this.#buffer = grown;
  }

  varint(value: number | bigint): void {
    this.#room(10);
    if (typeof value === 'number' && value >= 0 && value <= 0x7fffffff) {
      let left = value;
      while (left > 0x7f) {
        this.#buffer[this.#at++] = (left & 0x7f) | 0x80;
        left >>>= 7;
      }
      this.#buffer[this.#at++] = left;
      return;
    }
    let left = BigInt.asUintN(64, BigInt(value));
    while (left > 0x7fn) {
      this.#buffer[this.#at++] = Number(left & 0x7fn) | 0x80;
      left >>= 7n;
    }
    this.#buffer[this.#at++] = Number(left);
  }

  tag(field: number, wire: number): void {
    this.varint(field * 8 + wire);
  }
  bytes(field: number, value: Uint8Array): void {
    this.tag(field, 2);
    this.varint(value.length);
    this.#room(value.length);
    this.#buffer.set(value, this.#at);
    this.#at += value.length;
  }

  string(field: number, value: string): void {
    const length = Buffer.byteLength(value);
    this.tag(field, 2);
    this.varint(length);
    this.#room(length);
    this.#at += this.#buffer.write(value, this.#at);
  }

  double(field: number, value: number): void {
    this.tag(field, 1);
    this.#room(8);
    this.#at = this.#buffer.writeDoubleLE(value, this.#at);
  }
  int(field: number, value: number | bigint): void {
    this.tag(field, 0);
    this.varint(value);
  }

  /** A nested message: written in place, then moved to make room for its length. */
  message(field: number, write: () => void): void {
    this.tag(field, 2);
    const start = this.#at;
    this.#at += 1;
    this.#room(0);
    write();
    const length = this.#at - start - 1;
    const head: number[] = [];
    let left = length;
    while (left > 0x7f) {
      head.push((left & 0x7f) | 0x80);
      left = Math.floor(left / 128);
    }
    head.push(left);
    this.#room(head.length);
    if (head.length > 1) this.#buffer.copyWithin(start + head.length, start + 1, this.#at);
    for (let i = 0; i < head.length; i++) this.#buffer[start + i] = head[i]!;
    this.#at += head.length - 1;
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#at);
  }
}

function writeTime(writer: ProtobufWriter, field: number, text: string): void {
  const ms = Date.parse(text);
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  const nanos = Number(fraction.padEnd(9, '0').slice(0, 9));
  writer.message(field, () => {
    writer.int(1, BigInt(Math.floor(ms / 1000)));
    writer.int(2, nanos);
  });
}

const durationUnits: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
function durationNanos(text: string): bigint {
  let total = 0;
  for (const [, number, unit] of text.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g))
    total += Number(number) * durationUnits[unit!]!;
  return BigInt(Math.round(text.startsWith('-') ? -total : total));
}

function durationText(nanos: bigint): string {
  let seconds = Number(nanos) / 1e9;
  if (seconds === 0) return '0s';
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  seconds = Number((seconds % 60).toFixed(9));
  return `${hours > 0 ? `${hours}h` : ''}${hours > 0 || minutes > 0 ? `${minutes}m` : ''}${seconds}s`;
}

function writeScalar(writer: ProtobufWriter, field: number, kind: string, value: unknown): void {
  switch (kind) {
    case 'string':
      writer.string(field, String(value));
      return;
    case 'boolean':
      writer.int(field, value === true ? 1 : 0);
      return;
    case 'int32':
    case 'int64':
      writer.int(
        field,
        typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= 0x7fffffff
          ? value
          : BigInt(Math.trunc(Number(value))),
      );
      return;
    case 'double':
      writer.double(field, Number(value));
      return;
    case 'bytes':
      writer.bytes(field, Buffer.from(String(value), 'base64'));
      return;
    case 'time':
    case 'microtime':
      if (value !== null && value !== '') writeTime(writer, field, String(value));
      else writer.message(field, () => undefined);
      return;
    case 'duration':
      writer.message(field, () => writer.int(1, durationNanos(String(value))));
      return;
    case 'quantity':
      writer.message(field, () => writer.string(1, String(value)));
      return;
    case 'intstr':
      writer.message(field, () => {
        writer.int(1, typeof value === 'number' ? 0 : 1);
        if (typeof value === 'number') writer.int(2, BigInt(value));
        else {
          writer.int(2, 0);
          writer.string(3, String(value));
        }
      });
      return;
    default:
      writer.message(field, () => writer.bytes(1, Buffer.from(JSON.stringify(value))));
  }
}

function writeValue(writer: ProtobufWriter, field: number, type: TypeNode, value: unknown): void {
  if (type.kind === 'object') writer.message(field, () => writeFields(writer, type, value));
  else if (type.kind === 'list') for (const item of itemsOf(value)) writeValue(writer, field, type.item, item);
  else if (type.kind === 'map') {
    if (!isObject(value)) return;
    for (const key of Object.keys(value).sort()) {
      const item = type.item;
      writer.message(field, () => {
        writer.string(1, key);
        if (item.kind === 'list') writer.message(2, () => writeValue(writer, 1, item, value[key]));
        else writeValue(writer, 2, item, value[key]);
      });
    }
  } else writeScalar(writer, field, type.kind, value);
}

interface Node {
  field?: Field;
  children?: Map<number, Node>;
}
const trees = new WeakMap<ObjectNode, Map<number, Node>>();

/** Fields by number, with the embedded messages as nodes of their own. */
function treeOf(node: ObjectNode): Map<number, Node> {
  let tree = trees.get(node);
  if (tree !== undefined) return tree;
  tree = new Map();
  for (const field of node.fields.values()) {
    if (field.number === undefined) continue;
    let level = tree;
    field.number.forEach((number, depth) => {
      const last = depth === field.number!.length - 1;
      let entry = level.get(number);
      if (entry === undefined) level.set(number, (entry = {}));
      if (last) entry.field = field;
      else level = entry.children ??= new Map();
    });
  }
  trees.set(node, tree);
  return tree;
}

function writeFields(writer: ProtobufWriter, node: ObjectNode, value: unknown): void {
  if (isObject(value)) writeLevel(writer, treeOf(node), value);
}

function writeLevel(writer: ProtobufWriter, level: ReadonlyMap<number, Node>, value: JsonObject): void {
  for (const [number, entry] of level) {
    if (entry.field === undefined) {
      if (hasAny(entry.children!, value)) writer.message(number, () => writeLevel(writer, entry.children!, value));
      continue;
    }
    const item = value[entry.field.name];
    if (item !== undefined && item !== null) writeValue(writer, number, entry.field.type, item);
  }
}

function hasAny(level: ReadonlyMap<number, Node>, value: JsonObject): boolean {
  for (const entry of level.values())
    if (entry.field === undefined ? hasAny(entry.children!, value) : value[entry.field.name] !== undefined) return true;
  return false;
}

/** The message of an object, without the envelope. */
export function encodeMessage(node: ObjectNode, object: object): Buffer {
  const writer = new ProtobufWriter();
  writeFields(writer, node, object);
  return writer.finish();
}

export function wrapMessage(apiVersion: string, kind: string, message: Uint8Array): Buffer {
  const writer = new ProtobufWriter();
  writer.message(1, () => {
    writer.string(1, apiVersion);
    writer.string(2, kind);
  });
  writer.bytes(2, message);
  writer.string(3, '');
  writer.string(4, '');
  return Buffer.concat([protobufMagic, writer.finish()]);
}

/** Bytes of a length in front of what it measures. */
export function varintBytes(value: number): number {
  let bytes = 1;
  for (let left = value; left > 0x7f; left = Math.floor(left / 128)) bytes++;
  return bytes;
}

/**
 * The envelope of a message of so many bytes, for one that is written in pieces: what comes before and what after it.
 */
export function envelopeOf(apiVersion: string, kind: string, length: number): { head: Buffer; tail: Buffer } {
  const head = new ProtobufWriter();
  head.message(1, () => {
    head.string(1, apiVersion);
    head.string(2, kind);
  });
  head.tag(2, 2);
  head.varint(length);
  const tail = new ProtobufWriter();
  tail.string(3, '');
  tail.string(4, '');
  return { head: Buffer.concat([protobufMagic, head.finish()]), tail: tail.finish() };
}

export function encodeObject(node: ObjectNode, object: { apiVersion: string; kind: string }): Buffer {
  return wrapMessage(object.apiVersion, object.kind, encodeMessage(node, object));
}

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

  varint(): number | bigint {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.bytes[this.at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    let big = BigInt(value);
    for (let shift = 28n; ; shift += 7n) {
      if (this.at >= this.end || shift > 63n) throw new Error('proto: unexpected EOF');
      const byte = this.bytes[this.at++]!;
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
    else if (wire === 1) this.at += 8;
    else if (wire === 2) {
      const length = this.length();
      this.at += length;
    } else if (wire === 5) this.at += 4;
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
    case 'double': {
      const value = reader.bytes.readDoubleLE(reader.at);
      reader.at += 8;
      return value;
    }
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
  let raw: unknown;
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
      raw = data === '' ? null : parseRaw(data);
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
  return readScalar(reader, type.kind);
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
      readLevel(reader.slice(), entry.children!, out);
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
  if (!field.pointer && !field.required && field.keepsZero !== true && isZero(value)) return;
  if (value === null && type.kind !== 'any' && !field.required) return;
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
