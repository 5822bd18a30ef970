/**
 * Log driver `journald`: entries for systemd's journal by its native protocol, a datagram of fields.
 * Source: docker 28.5, daemon/logger/journald; systemd "Native Journal Protocol".
 */
import { existsSync } from 'node:fs';
import type { Clock, Random } from '#os/clock.ts';
import { extraAttributes, tagOf } from './attributes.ts';
import type { LogInfo, LogRecord, LogSink } from './sink.ts';
import { openDatagrams } from './syslog.ts';

export const journaldOptions = ['labels', 'labels-regex', 'env', 'env-regex', 'tag'];
const priority = { stdout: '6', stderr: '3' };

/** Upper case letters, digits and underscores, none of them first. */
function journalKey(key: string): string {
  return key
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, '_')
    .replace(/^_+/, '');
}

/** Exported for tests. */
export function journalFields(info: LogInfo, record: LogRecord, place: { epoch: string; ordinal: number }): Buffer {
  const tag = tagOf(info);
  const { partial } = record;
  const fields: [string, string | Buffer][] = [
    ['MESSAGE', record.data],
    ['PRIORITY', priority[record.stream]],
    ['CONTAINER_ID', info.id.slice(0, 12)],
    ['CONTAINER_ID_FULL', info.id],
    ['CONTAINER_NAME', info.name],
    ['CONTAINER_TAG', tag],
    ['IMAGE_NAME', info.imageName],
    ['SYSLOG_IDENTIFIER', tag],
    ['CONTAINER_LOG_EPOCH', place.epoch],
    ['CONTAINER_LOG_ORDINAL', String(place.ordinal)],
    ['SYSLOG_TIMESTAMP', record.timestamp],
    ...Object.entries(extraAttributes(info, journalKey)).filter(([key]) => key !== ''),
  ];
  if (partial !== undefined) {
    fields.push(['CONTAINER_PARTIAL_ID', partial.id], ['CONTAINER_PARTIAL_ORDINAL', String(partial.ordinal)]);
    fields.push(['CONTAINER_PARTIAL_LAST', String(partial.isLast)]);
    if (!partial.isLast) fields.push(['CONTAINER_PARTIAL_MESSAGE', 'true']);
  }
  return Buffer.concat(fields.map(([key, value]) => journalField(key, Buffer.from(value))));
}

/** `KEY=value`, or, of what holds a newline, the length before it. */
function journalField(key: string, value: Buffer): Buffer {
  if (!value.includes(0x0a)) return Buffer.concat([Buffer.from(`${key}=`), value, Buffer.from('\n')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(value.length));
  return Buffer.concat([Buffer.from(`${key}\n`), length, value, Buffer.from('\n')]);
}

export async function openJournald(info: LogInfo, clock: Clock, random: Random, path: string): Promise<LogSink> {
  if (!existsSync(path)) throw new Error('journald is not enabled on this host');
  const way = openDatagrams(path, clock);
  const epoch = Buffer.from(random.bytes(32)).toString('hex');
  let ordinal = 0;
  return {
    write: (record) => way.send(journalFields(info, record, { epoch, ordinal: ++ordinal })),
    close: () => way.close(),
  };
}
