/**
 * Log driver `syslog`: RFC 3164, RFC 5424 and the local format over UDP, TCP, TLS and unix sockets; the host's own
 * syslog where no address is given.
 * Source: docker 28.5, daemon/logger/syslog; RFC 3164, 5424, 5425; srslog's formatters.
 */
import { createSocket, type Socket } from 'node:dgram';
import { existsSync, readFileSync } from 'node:fs';
import { connectionError } from './connection-error.ts';
import type { Clock } from '#os/clock.ts';
import { openUnixDatagram } from '#os/unix-datagram.linux.ts';
import { pause } from '#os/clock.ts';
import { logFullRetryMs } from '../limits.ts';
import { parseInteger, parseReceiverUrl, refuseOption } from './addresses.ts';
import { tagOf } from './attributes.ts';
import type { LogInfo, LogRecord, LogSink } from './sink.ts';
import { StreamSocket } from './stream-socket.ts';

const facilityNames = [
  'kern',
  'user',
  'mail',
  'daemon',
  'auth',
  'syslog',
  'lpr',
  'news',
  'uucp',
  'cron',
  'authpriv',
  'ftp',
];
const facilities = new Map([
  ...facilityNames.map((name, number): [string, number] => [name, number]),
  ...Array.from({ length: 8 }, (_, index): [string, number] => [`local${index}`, 16 + index]),
]);
const formats = ['', 'rfc3164', 'rfc5424', 'rfc5424micro'];
const defaultPort = 514;
/** Where the host's own syslog listens. */
const localSockets = ['/dev/log', '/var/run/syslog', '/var/run/log'];
const severity = { stdout: 6, stderr: 3 };

export const syslogOptions = [
  'env',
  'env-regex',
  'labels',
  'labels-regex',
  'syslog-address',
  'syslog-facility',
  'syslog-tls-ca-cert',
  'syslog-tls-cert',
  'syslog-tls-key',
  'syslog-tls-skip-verify',
  'tag',
  'syslog-format',
];

type Options = Readonly<Record<string, string>>;

export function checkSyslog(options: Options): void {
  addressOf(options['syslog-address'] ?? '');
  facilityOf(options['syslog-facility'] ?? '');
  if (!formats.includes(options['syslog-format'] ?? '')) refuseOption('Invalid syslog format');
}

type Address =
  | { scheme: 'udp' | 'tcp' | 'tcp+tls'; host: string; port: number }
  | { scheme: 'unix' | 'unixgram'; path: string };

/** Undefined: the host's own. */
function addressOf(text: string): Address | undefined {
  if (text === '') return undefined;
  const url = parseReceiverUrl(text) ?? refuseOption(`parse ${JSON.stringify(text)}: invalid URI for request`);
  switch (url.scheme) {
    case 'unix':
    case 'unixgram':
      if (!existsSync(url.path)) refuseOption(`stat ${url.path}: no such file or directory`);
      return { scheme: url.scheme, path: url.path };
    case 'udp':
    case 'tcp':
    case 'tcp+tls':
      return { scheme: url.scheme, host: url.host || '127.0.0.1', port: url.port ?? defaultPort };
    default:
      return refuseOption(`unsupported scheme: '${url.scheme}'`);
  }
}

function facilityOf(text: string): number {
  if (text === '') return 3;
  const number = facilities.get(text) ?? parseInteger(text);
  return number !== undefined && number >= 0 && number <= 23 ? number : refuseOption('invalid syslog facility');
}

/** Exported for tests: one message, with its newline, and before it the length where TLS frames say it (RFC 5425). */
export function formatSyslog(info: LogInfo, tag: string, record: LogRecord, pid: number): Buffer {
  const priority = facilityOf(info.options['syslog-facility'] ?? '') * 8 + severity[record.stream];
  const format = info.options['syslog-format'] ?? '';
  const head = headOf(format, {
    begin: `<${priority}>`,
    time: new Date(record.timestamp),
    fraction: `.${record.timestamp.slice(20, 26)}`,
    hostname: info.hostname,
    tag,
    pid,
  });
  const message = Buffer.concat([Buffer.from(head), record.data, Buffer.from('\n')]);
  const isFramed = format.startsWith('rfc5424') && (info.options['syslog-address'] ?? '').startsWith('tcp+tls:');
  return isFramed ? Buffer.concat([Buffer.from(`${message.length} `), message]) : message;
}

interface Head {
  begin: string;
  time: Date;
  /** Of a second, to the microsecond. */
  fraction: string;
  hostname: string;
  tag: string;
  pid: number;
}

function headOf(format: string, { begin, time, fraction, hostname, tag, pid }: Head): string {
  switch (format) {
    case 'rfc5424':
      return `${begin}1 ${localIso(time, '')} ${hostname} ${tag} ${pid} ${tag} - `;
    case 'rfc5424micro':
      return `${begin}1 ${localIso(time, fraction)} ${hostname} ${tag} ${pid} ${tag} - `;
    case 'rfc3164':
      return `${begin}${stamp(time)} ${hostname} ${tag}[${pid}]: `;
    default:
      return `${begin}${stamp(time)} ${tag}[${pid}]: `;
  }
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const two = (value: number): string => String(value).padStart(2, '0');

/** `Jan  2 15:04:05`, local time. */
function stamp(time: Date): string {
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':');
  return `${months[time.getMonth()]} ${String(time.getDate()).padStart(2, ' ')} ${clock}`;
}

/** RFC 3339 in local time, `Z` for UTC. */
function localIso(time: Date, fraction: string): string {
  const offset = -time.getTimezoneOffset();
  const local = new Date(time.getTime() + offset * 60_000).toISOString().slice(0, 19);
  const amount = Math.abs(offset);
  const zone = offset === 0 ? 'Z' : `${offset < 0 ? '-' : '+'}${two(Math.floor(amount / 60))}:${two(amount % 60)}`;
  return `${local}${fraction}${zone}`;
}

export async function openSyslog(info: LogInfo, clock: Clock): Promise<LogSink> {
  const tag = tagOf(info);
  const address = addressOf(info.options['syslog-address'] ?? '');
  const way = await openWay(address, info.options, clock);
  return {
    write: (record) =>
      record.data.length === 0 ? Promise.resolve() : way.send(formatSyslog(info, tag, record, process.pid)),
    close: () => way.close(),
  };
}

interface Way {
  send(message: Buffer): Promise<void>;
  close(): Promise<void>;
}

async function openWay(address: Address | undefined, options: Options, clock: Clock): Promise<Way> {
  if (address === undefined) {
    for (const path of localSockets) if (existsSync(path)) return openUnix(path, clock);
    throw new Error('Unix syslog delivery error');
  }
  if ('path' in address)
    return address.scheme === 'unixgram' ? openDatagrams(address.path, clock) : openUnix(address.path, clock);
  const { scheme, host, port } = address;
  if (scheme === 'udp') return openUdp(host, port);
  const tls = scheme === 'tcp+tls' ? { tls: tlsOf(options, host) } : {};
  const socket = await StreamSocket.connect({ host, port, ...tls }, clock).catch((error: unknown) => {
    throw connectionError('tcp', `${host}:${port}`, error);
  });
  return { send: (message) => socket.write(message), close: () => socket.close(clock) };
}

function tlsOf(options: Options, host: string): object {
  const read = (key: string): string | undefined =>
    (options[key] ?? '') === '' ? undefined : readFileSync(options[key] ?? '', 'utf8');
  const [ca, cert, key] = ['syslog-tls-ca-cert', 'syslog-tls-cert', 'syslog-tls-key'].map(read);
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    rejectUnauthorized: options['syslog-tls-skip-verify'] === undefined,
  };
}

/** Datagrams where the receiver takes them, else a stream. */
async function openUnix(path: string, clock: Clock): Promise<Way> {
  try {
    return openDatagrams(path, clock);
  } catch {
    const socket = await StreamSocket.connect({ path }, clock).catch((error: unknown) => {
      throw connectionError('unix', path, error);
    });
    return { send: (message) => socket.write(message), close: () => socket.close(clock) };
  }
}

export function openDatagrams(path: string, clock: Clock): Way {
  const socket = openUnixDatagram(path);
  return {
    async send(message) {
      for (;;) {
        const result = socket.send(message);
        if (result === 'sent') return;
        if (result === 'gone') throw new Error(`nobody listens on ${path}`);
        await pause(clock, logFullRetryMs);
      }
    },
    close: async () => socket.close(),
  };
}

/** Whether anybody receives is not known. A name is looked up at each message by the system's resolver. */
export async function openUdp(host: string, port: number): Promise<Way> {
  const socket: Socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', () => undefined);
  socket.unref();
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.connect(port, host, () => resolve());
  }).catch((error: unknown) => {
    throw connectionError('udp', `${host}:${port}`, error);
  });
  return {
    // A refusal by the receiver's host tells of an earlier message: as docker, it is not sent again.
    send: (message) =>
      new Promise((resolve) => {
        socket.send(message, () => resolve());
      }),
    close: () =>
      new Promise((resolve) => {
        socket.close(() => resolve());
      }),
  };
}
