/** What lies in the fields of a decoded message; the type's zero where there is nothing of the kind. */
import { isObject, itemsOf, type JsonObject } from '#base/unknown.ts';

/** Fields by their protocol's names; 64-bit integers are numbers; what is absent has its type's zero. */
export type Message = JsonObject;

export function timestampOf(timeMs: number): Message {
  return { seconds: Math.floor(timeMs / 1000), nanos: Math.round((timeMs % 1000) * 1e6) };
}

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
