/** The messages of BuildKit's protocol (`protocol.json`, made by `generate.ts`). */
import { join } from 'node:path';
import type { Message } from '#grpc/fields.ts';
import { Protocol, type MethodTypes } from '#grpc/protocol.ts';

export const buildkit = new Protocol(join(import.meta.dirname, 'protocol.json'));

export function methodOf(path: string): MethodTypes | undefined {
  return buildkit.methodOf(path);
}
export function encodeMessage(type: string, message: Message): Uint8Array {
  return buildkit.encode(type, message);
}
/** Throws BadRequest for what is no such message. */
export function decodeMessage(type: string, bytes: Uint8Array): Message {
  return buildkit.decode(type, bytes);
}
