/**
 * Log driver `gelf`: JSON messages of the Graylog Extended Log Format 1.1; over UDP compressed and in chunks, over TCP
 * ended by a zero byte.
 * Source: docker 28.5, daemon/logger/gelf; GELF specification ("GELF via UDP", "GELF via TCP").
 */
import { deflateSync, gzipSync } from 'node:zlib';
import { messageOf } from '#base/thrown.ts';
import type { Clock, Random } from '#os/clock.ts';
import { parseInteger, parseReceiverUrl, refuseOption, type ReceiverUrl } from './addresses.ts';
import { extraAttributes, tagOf } from './attributes.ts';
import { connectionError } from './connection-error.ts';
import type { LogInfo, LogRecord, LogSink } from './sink.ts';
import { StreamSocket } from './stream-socket.ts';
import { openUdp } from './syslog.ts';

export const gelfOptions = [
  'gelf-address',
  'tag',
  'labels',
  'labels-regex',
  'env',
  'env-regex',
  'gelf-compression-level',
  'gelf-compression-type',
  'gelf-tcp-max-reconnect',
  'gelf-tcp-reconnect-delay',
];

/** Of a datagram, its head of twelve bytes included. */
const chunkBytes = 1420;
const chunkHeadBytes = 12;
const chunksMax = 128;
const level = { stdout: 6, stderr: 3 };

export function checkGelf(options: Readonly<Record<string, string>>): void {
  const { scheme } = addressOf(options['gelf-address'] ?? '');
  for (const [key, value] of Object.entries(options)) {
    const unknown = (): never => refuseOption(`unknown value "${value}" for log opt "${key}" for gelf log driver`);
    if (key.startsWith('gelf-compression') && scheme !== 'udp') refuseOption('compression is only supported on UDP');
    if (key === 'gelf-compression-level' && !/^(-1|\d)$/.test(value)) unknown();
    if (key === 'gelf-compression-type' && !['gzip', 'zlib', 'none'].includes(value)) unknown();
    if (key.startsWith('gelf-tcp-')) {
      if (scheme !== 'tcp') refuseOption(`"${key}" is only valid for TCP`);
      if ((parseInteger(value) ?? -1) < 0) refuseOption(`"${key}" must be a positive integer`);
    }
  }
}

function addressOf(text: string): ReceiverUrl & { port: number } {
  if (text === '') refuseOption('gelf-address is a required parameter');
  const url = parseReceiverUrl(text);
  if (url !== undefined && url.scheme !== 'udp' && url.scheme !== 'tcp')
    refuseOption('gelf: endpoint needs to be TCP or UDP');
  if (url?.port === undefined) return refuseOption('gelf: please provide gelf-address as proto://host:port');
  return { ...url, port: url.port };
}

/** Exported for tests. */
export function gelfMessage(info: LogInfo, record: LogRecord): Buffer {
  const extra = {
    _command: info.command.join(' '),
    _container_id: info.id,
    _container_name: info.name,
    _created: new Date(info.createdAtMs).toISOString(),
    _image_id: info.imageId,
    _image_name: info.imageName,
    _tag: tagOf(info),
    ...extraAttributes(info, (key) => (key.startsWith('_') ? key : `_${key}`)),
  };
  return Buffer.from(
    JSON.stringify({
      version: '1.1',
      host: info.hostname,
      short_message: record.data.toString('utf8'),
      timestamp: Math.floor(Date.parse(record.timestamp)) / 1000,
      level: level[record.stream],
      ...extra,
    }),
  );
}

/** Datagrams of one message; none where it is too long for the protocol. Exported for tests. */
export function gelfChunks(message: Buffer, id: Uint8Array): Buffer[] {
  if (message.length <= chunkBytes) return [message];
  const size = chunkBytes - chunkHeadBytes;
  const count = Math.ceil(message.length / size);
  if (count > chunksMax) return [];
  return Array.from({ length: count }, (_, index) =>
    Buffer.concat([
      Buffer.from([0x1e, 0x0f]),
      id,
      Buffer.from([index, count]),
      message.subarray(index * size, (index + 1) * size),
    ]),
  );
}

function compress(message: Buffer, options: LogInfo['options']): Buffer {
  const asked = parseInteger(options['gelf-compression-level'] ?? '1') ?? 1;
  switch (options['gelf-compression-type'] ?? 'gzip') {
    case 'gzip':
      return gzipSync(message, { level: asked });
    case 'zlib':
      return deflateSync(message, { level: asked });
    default:
      return message;
  }
}

export async function openGelf(info: LogInfo, clock: Clock, random: Random): Promise<LogSink> {
  const { scheme, host, port } = addressOf(info.options['gelf-address'] ?? '');
  if (scheme === 'udp') {
    const way = await openUdp(host, port);
    return {
      async write(record) {
        if (record.data.length === 0) return;
        for (const chunk of gelfChunks(compress(gelfMessage(info, record), info.options), random.bytes(8)))
          await way.send(chunk);
      },
      close: () => way.close(),
    };
  }
  const socket = await StreamSocket.connect({ host, port }, clock).catch((error: unknown) => {
    const reason = messageOf(connectionError('tcp', `${host}:${port}`, error));
    throw new Error(`gelf: cannot connect to GELF endpoint: ${host}:${port} ${reason}`, { cause: error });
  });
  return {
    write: (record) =>
      record.data.length === 0
        ? Promise.resolve()
        : socket.write(Buffer.concat([gelfMessage(info, record), Buffer.from([0])])),
    close: () => socket.close(clock),
  };
}
