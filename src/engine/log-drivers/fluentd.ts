/**
 * Log driver `fluentd`: the forward protocol's message mode over TCP, TLS or a unix socket, with acknowledgements where
 * they are asked for.
 * Source: docker 28.5, daemon/logger/fluentd; Fluentd "Forward Protocol Specification v1".
 */
import { parseDuration } from '#base/duration.ts';
import { parseSize } from '#base/sizes.ts';
import type { Clock, Random } from '#os/clock.ts';
import { logAckBytesMax, logAckMsMax } from '../limits.ts';
import { parseBool, parseInteger, parseReceiverUrl, refuseOption } from './addresses.ts';
import { extraAttributes, tagOf } from './attributes.ts';
import { connectionError } from './connection-error.ts';
import { packEventTime, packList, packMap, packSeconds, packString, readAck } from './msgpack.ts';
import type { LogInfo, LogRecord, LogSink } from './sink.ts';
import { StreamSocket, type StreamAddress } from './stream-socket.ts';

export const fluentdOptions = [
  'env',
  'env-regex',
  'labels',
  'labels-regex',
  'tag',
  'fluentd-address',
  'fluentd-async',
  'fluentd-async-reconnect-interval',
  'fluentd-buffer-limit',
  'fluentd-max-retries',
  'fluentd-request-ack',
  'fluentd-retry-wait',
  'fluentd-sub-second-precision',
  'fluentd-write-timeout',
];

const defaultPort = 24_224;
type Options = Readonly<Record<string, string>>;

export function checkFluentd(options: Options): void {
  addressOf(options['fluentd-address'] ?? '');
  const given = (key: string): string => options[key] ?? '';
  if (given('fluentd-buffer-limit') !== '' && parseSize(given('fluentd-buffer-limit')) === undefined)
    refuseOption(`invalid size: '${given('fluentd-buffer-limit')}'`);
  for (const key of ['fluentd-retry-wait', 'fluentd-async-reconnect-interval', 'fluentd-write-timeout'])
    if (given(key) !== '' && parseDuration(given(key)) === undefined)
      refuseOption(`invalid value for ${key}: time: invalid duration ${JSON.stringify(given(key))}`);
  const retries = given('fluentd-max-retries');
  if (retries !== '' && (parseInteger(retries) ?? -1) < 0)
    refuseOption(`strconv.ParseUint: parsing ${JSON.stringify(retries)}: invalid syntax`);
  if (Number(retries) > 2 ** 31 - 1) refuseOption('invalid fluentd-max-retries: value out of range');
  for (const key of ['fluentd-async', 'fluentd-request-ack', 'fluentd-sub-second-precision'])
    if (given(key) !== '') parseBool(given(key));
}

/** Whether the container may start while nobody receives. */
export function isFluentdAsync(options: Options): boolean {
  return isSet(options, 'fluentd-async');
}

function isSet(options: Options, key: string): boolean {
  return (options[key] ?? '') !== '' && parseBool(options[key] ?? '');
}

function addressOf(text: string): StreamAddress {
  const wrong = (reason: string): never => refuseOption(`invalid fluentd-address (${text}): ${reason}`);
  if (text === '') return { host: '127.0.0.1', port: defaultPort };
  const url = parseReceiverUrl(text.includes('://') ? text : `tcp://${text}`) ?? wrong('invalid address');
  switch (url.scheme) {
    case 'unix':
      return url.path === '' || url.path === '/' ? wrong('path is empty') : { path: url.path };
    case 'tcp':
    case 'tls':
      if (url.path !== '') wrong('unsupported path');
      return {
        host: url.host || '127.0.0.1',
        port: url.port ?? defaultPort,
        ...(url.scheme === 'tls' ? { tls: {} } : {}),
      };
    default:
      return wrong(`unsupported scheme: '${url.scheme}'`);
  }
}

/** Exported for tests. `chunk` asks for an acknowledgement. */
export function fluentdMessage(info: LogInfo, record: LogRecord, chunk?: string): Buffer {
  const seconds = Math.floor(Date.parse(record.timestamp) / 1000);
  const time = isSet(info.options, 'fluentd-sub-second-precision')
    ? packEventTime(seconds, Number(record.timestamp.slice(20, 29)))
    : packSeconds(seconds);
  const { partial } = record;
  const fields: [string, string | Buffer][] = [
    ['container_id', info.id],
    ['container_name', `/${info.name}`],
    ['source', record.stream],
    ['log', record.data],
    ...Object.entries(extraAttributes(info)),
    ...(partial === undefined
      ? []
      : ([
          ['partial_message', 'true'],
          ['partial_id', partial.id],
          ['partial_ordinal', String(partial.ordinal)],
          ['partial_last', String(partial.isLast)],
        ] satisfies [string, string][])),
  ];
  return packList([
    packString(tagOf(info)),
    time,
    packMap(fields),
    packMap(chunk === undefined ? [] : [['chunk', chunk]]),
  ]);
}

export async function openFluentd(info: LogInfo, clock: Clock, random: Random): Promise<LogSink> {
  const address = addressOf(info.options['fluentd-address'] ?? '');
  const shown = 'path' in address ? address.path : `${address.host}:${address.port}`;
  const socket = await StreamSocket.connect(address, clock).catch((error: unknown) => {
    throw connectionError('path' in address ? 'unix' : 'tcp', shown, error);
  });
  const acks = isSet(info.options, 'fluentd-request-ack') ? new Acks(socket, clock) : undefined;
  return {
    async write(record) {
      const chunk = acks === undefined ? undefined : random.uuid();
      await socket.write(fluentdMessage(info, record, chunk));
      if (chunk !== undefined) await acks?.wait(chunk);
    },
    close: () => socket.close(clock),
  };
}

/** Answers of the receiver, one at a time. */
class Acks {
  readonly #clock: Clock;
  readonly #socket: StreamSocket;
  #bytes: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #isClosed = false;

  constructor(socket: StreamSocket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    socket.onData((bytes) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
      if (this.#bytes.length > logAckBytesMax) socket.destroy();
      this.#wake?.();
    });
    socket.onClose(() => {
      this.#isClosed = true;
      this.#wake?.();
    });
  }

  async wait(chunk: string): Promise<void> {
    const timer = this.#clock.setTimer(logAckMsMax, () => this.#socket.destroy(), { background: true });
    try {
      for (;;) {
        const ack = readAck(this.#bytes);
        if (ack !== undefined) {
          this.#bytes = Buffer.alloc(0);
          if (ack === chunk) return;
          throw new Error('the receiver acknowledged another message');
        }
        if (this.#isClosed) throw new Error('the receiver closed the connection');
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      timer.cancel();
    }
  }
}
