/**
 * Kubernetes' protobuf encoding of built-in kinds, driven by the field numbers in the schema data (protobuf wire
 * format; Kubernetes API concepts, "Kubernetes Protobuf encoding"): four bytes of magic, then a `runtime.Unknown` that
 * names the kind and holds the message. Here it is written; `protobuf-decode.ts` reads it.
 */
import type { JsonObject } from '#base/unknown.ts';
import { isObject, itemsOf } from '#base/unknown.ts';
import type { Field, ObjectNode, TypeNode, UnionNode } from './types.ts';
import { memberOf } from './types.ts';

export const protobufMagic = Uint8Array.of(0x6b, 0x38, 0x73, 0x00);
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
    this.#buffer.set(head, start);
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
  for (const [, number, unit = ''] of text.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g))
    total += Number(number) * (durationUnits[unit] ?? 0);
  return BigInt(Math.round(text.startsWith('-') ? -total : total));
}

export function durationText(nanos: bigint): string {
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
  } else if (type.kind === 'union') writer.message(field, () => writeMember(writer, type, value));
  else writeScalar(writer, field, type.kind, value);
}

/** A boolean member is always written: true beside what stands in its place. */
function writeMember(writer: ProtobufWriter, type: UnionNode, value: unknown): void {
  const chosen = memberOf(type, value);
  type.members.forEach((member, at) => {
    if (at === chosen) writeValue(writer, at + 1, member, value);
    else if (member.kind === 'boolean') writer.int(at + 1, chosen < 0 ? 0 : 1);
  });
}

/** A field, or the message embedded at a number. */
export type Node = { field: Field } | { field?: undefined; children: Map<number, Node> };
const trees = new WeakMap<ObjectNode, Map<number, Node>>();

/** Fields by number, with the embedded messages as nodes of their own. */
export function treeOf(node: ObjectNode): Map<number, Node> {
  let tree = trees.get(node);
  if (tree !== undefined) return tree;
  tree = new Map();
  for (const field of node.fields.values()) {
    const last = field.number?.at(-1);
    if (field.number === undefined || last === undefined) continue;
    let level = tree;
    for (const number of field.number.slice(0, -1)) {
      let entry = level.get(number);
      if (entry === undefined || entry.field !== undefined) level.set(number, (entry = { children: new Map() }));
      level = entry.children;
    }
    level.set(last, { field });
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
      if (hasAny(entry.children, value)) writer.message(number, () => writeLevel(writer, entry.children, value));
      continue;
    }
    const item = value[entry.field.name];
    if (item !== undefined && item !== null) writeValue(writer, number, entry.field.type, item);
  }
}

function hasAny(level: ReadonlyMap<number, Node>, value: JsonObject): boolean {
  for (const entry of level.values())
    if (entry.field === undefined ? hasAny(entry.children, value) : value[entry.field.name] !== undefined) return true;
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
