/**
 * The messages of BuildKit's protocol (`protocol.json`, made by `generate.ts`), to and from bytes. Names of fields are
 * the protocol's; 64-bit integers are numbers; what is absent has its type's zero.
 */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type protobuf from 'protobufjs';
import { isObject, itemsOf, type JsonObject } from '#base/unknown.ts';

export type Message = JsonObject;

/** Loaded when the first build begins: it takes nine megabytes, and most of the time nobody builds. */
const load = createRequire(import.meta.url);
let root: protobuf.Root | undefined;

const types = new Map<string, protobuf.Type>();

function typeOf(name: string): protobuf.Type {
  let found = types.get(name);
  if (found === undefined) types.set(name, (found = protocol().lookupType(name)));
  return found;
}

function library(): typeof protobuf {
  return load('protobufjs');
}

function protocol(): protobuf.Root {
  root ??= library().Root.fromJSON(JSON.parse(readFileSync(join(import.meta.dirname, 'protocol.json'), 'utf8')));
  return root;
}

/** Request and response types of a method, `/moby.buildkit.v1.Control/Solve`; undefined when there is none. */
export function methodOf(path: string): { request: string; response: string } | undefined {
  const [, service = '', name = ''] = path.split('/');
  const found = protocol().lookup(service);
  if (!(found instanceof library().Service)) return undefined;
  const method = found.methods[name];
  if (method === undefined) return undefined;
  method.resolve();
  const { resolvedRequestType: request, resolvedResponseType: response } = method;
  return request === null || response === null ? undefined : { request: request.fullName, response: response.fullName };
}

export function encodeMessage(type: string, message: Message): Uint8Array {
  const found = typeOf(type);
  return found.encode(found.fromObject(message)).finish();
}

/** Throws BadRequest for what is no such message. */
export function decodeMessage(type: string, bytes: Uint8Array): Message {
  const found = typeOf(type);
  try {
    return found.toObject(found.decode(bytes), { longs: Number, defaults: true, bytes: Buffer });
  } catch (error) {
    // The decoder knows many ways to say it; a deep one ends the stack.
    throw new ApiError('BadRequest', `invalid ${type} message: ${messageOf(error)}`);
  }
}

export function timestampOf(timeMs: number): Message {
  return { seconds: Math.floor(timeMs / 1000), nanos: Math.round((timeMs % 1000) * 1e6) };
}

// What lies in a field; its type's zero where there is nothing of the kind.

export function textIn(message: Message, field: string): string {
  const value = message[field];
  return typeof value === 'string' ? value : '';
}
export function numberIn(message: Message, field: string): number {
  const value = message[field];
  return typeof value === 'number' ? value : 0;
}
export function bytesOf(value: unknown): Buffer {
  return Buffer.isBuffer(value) ? value : Buffer.alloc(0);
}
export function bytesIn(message: Message, field: string): Buffer {
  return bytesOf(message[field]);
}
export function messageIn(message: Message, field: string): Message {
  const value = message[field];
  return isObject(value) ? value : {};
}
export function messagesIn(message: Message, field: string): Message[] {
  return itemsOf(message[field]).filter(isObject);
}
export function textsIn(message: Message, field: string): string[] {
  return itemsOf(message[field]).filter((item) => typeof item === 'string');
}
export function textMapIn(message: Message, field: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(messageIn(message, field)).flatMap(([name, value]) =>
      typeof value === 'string' ? [[name, value]] : [],
    ),
  );
}
