/**
 * Logs of containers by a plugin's log driver: lines go through a fifo, each a message of protocol buffers behind its
 * length (four bytes, the highest first), and come back the same way from one that can be read.
 *
 *   LogEntry { 1 source, 2 time_nano, 3 line, 4 partial, 5 { 1 last, 2 id, 3 ordinal } }
 *
 * Source: Docker documentation, "Docker log driver plugins"; moby 28, entry.proto.
 */
import { ApiError } from '#base/errors.ts';
import { fieldOf, type JsonObject } from '#base/unknown.ts';
import { pluginListMsMax, pluginLogEntryBytesMax } from './limits.ts';
import type { Plugin } from './plugins.ts';

export interface LogEntry {
  source: string;
  timeNs: bigint;
  line: Buffer;
  isPartial: boolean;
  partial?: { isLast: boolean; id: string; ordinal: number };
}

function varint(value: bigint): Buffer {
  const out: number[] = [];
  let left = BigInt.asUintN(64, value);
  for (; left > 0x7fn; left >>= 7n) out.push(Number(left & 0x7fn) | 0x80);
  return Buffer.from([...out, Number(left)]);
}

function number(field: number, value: bigint): Buffer[] {
  return value === 0n ? [] : [Buffer.from([field << 3]), varint(value)];
}

function bytes(field: number, value: Buffer): Buffer[] {
  return value.length === 0 ? [] : [Buffer.from([(field << 3) | 2]), varint(BigInt(value.length)), value];
}

/** With its length in front. */
export function encodeLogEntry({ source, timeNs, line, isPartial, partial }: LogEntry): Buffer {
  const about =
    partial === undefined
      ? []
      : bytes(
          5,
          Buffer.concat([
            ...number(1, partial.isLast ? 1n : 0n),
            ...bytes(2, Buffer.from(partial.id)),
            ...number(3, BigInt(partial.ordinal)),
          ]),
        );
  const body = Buffer.concat([
    ...bytes(1, Buffer.from(source)),
    ...number(2, timeNs),
    ...bytes(3, line),
    ...number(4, isPartial ? 1n : 0n),
    ...about,
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

/** Throws on what is none. Fields that are not known are passed over. */
function decodeLogEntry(message: Buffer): LogEntry {
  const entry: LogEntry = { source: '', timeNs: 0n, line: Buffer.alloc(0), isPartial: false };
  let at = 0;
  const readVarint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message[at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw new Error('a number does not end');
  };
  while (at < message.length) {
    const key = Number(readVarint());
    if ((key & 7) === 0) {
      const value = readVarint();
      if (key >> 3 === 2) entry.timeNs = value;
      if (key >> 3 === 4) entry.isPartial = value !== 0n;
      continue;
    }
    const length = (key & 7) === 2 ? Number(readVarint()) : (key & 7) === 1 ? 8 : (key & 7) === 5 ? 4 : -1;
    if (length < 0 || at + length > message.length) throw new Error('a field does not end');
    const value = message.subarray(at, at + length);
    at += length;
    if (key >> 3 === 1) entry.source = value.toString();
    if (key >> 3 === 3) entry.line = value;
  }
  return entry;
}

/** The entries of a stream; what is none ends it with an error that names the plugin. */
export async function* readLogEntries(name: string, stream: AsyncIterable<Buffer>): AsyncGenerator<LogEntry> {
  let held = Buffer.alloc(0);
  for await (const part of stream) {
    held = Buffer.concat([held, part]);
    while (held.length >= 4) {
      const length = held.readUInt32BE();
      if (length > pluginLogEntryBytesMax) throw garbage(name, `an entry of ${length} bytes`);
      if (held.length < 4 + length) break;
      const message = held.subarray(4, 4 + length);
      held = held.subarray(4 + length);
      let entry: LogEntry;
      try {
        entry = decodeLogEntry(message);
      } catch {
        throw garbage(name, 'what is no log entry');
      }
      yield entry;
    }
  }
  if (held.length > 0) throw garbage(name, 'the beginning of an entry');
}

function garbage(name: string, what: string): ApiError {
  return new ApiError('InternalError', `LogDriver.ReadLogs: plugin ${JSON.stringify(name)} sent ${what}`);
}

/** Whether the driver gives back what it was sent; older ones do not say. */
export async function canReadLogs(plugin: Plugin): Promise<boolean> {
  const options = { timeoutMs: pluginListMsMax };
  const none = (error: unknown): JsonObject => {
    if (error instanceof ApiError && error.code === 404) return {};
    throw error;
  };
  const answer = await plugin.call('LogDriver.Capabilities', {}, options).catch(none);
  return fieldOf(answer, 'Cap', 'ReadLogs') === true;
}
