/**
 * The transport between machines: HTTP/2 over TLS on one connection that is made again when it is lost, with a client
 * certificate or a bearer token. A request that never reached a server fails as ServiceUnavailable; callers retry.
 * Where there are several servers, a connection that fails or falls silent is one to the next of them.
 * Plain `http://` servers (a proxy, tests) are spoken to in HTTP/2 with prior knowledge.
 */
import http2 from 'node:http2';
import { ApiError, isReason } from '#base/errors.ts';
import type { WatchEvent } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import type { Clock } from '#os/clock.ts';
import {
  requestTimeoutMs,
  responseBodyBytesMax,
  serverPingMs,
  serverSilenceMsMax,
  watchEventBytesMax,
  unseenMax,
} from './limits.ts';
import type { ServerChoice } from './server-choice.ts';
import { errorOfStatus, plainStatus, type Transport, type TransportRequest } from './transport.ts';

export interface HttpTransportOptions {
  /** `https://host:port`, with an optional path prefix; or several, without one. */
  server: string | ServerChoice;
  /** PEM, or how to read it when a connection is made. */
  ca?: string | (() => string);
  /** PEM, or how to read the current one when a connection is made. */
  certificate?: string | (() => string);
  key?: string | (() => string);
  /** Bearer token, or how to read the current one. */
  token?: string | (() => string);
  insecureSkipTlsVerify?: boolean;
  serverName?: string;
  userAgent?: string;
  clock: Clock;
}

const { HTTP2_HEADER_METHOD, HTTP2_HEADER_PATH, HTTP2_HEADER_STATUS, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } =
  http2.constants;

/** Of several the one that is asked now. */
function currentServer({ server }: HttpTransportOptions): string {
  return typeof server === 'string' ? server : server.current;
}

function currentOf(value: string | (() => string)): string {
  return typeof value === 'function' ? value() : value;
}

function unavailable(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const made = new ApiError('ServiceUnavailable', messageOf(error));
  made.cause = error;
  return made;
}

class Connection {
  readonly #options: HttpTransportOptions;
  #session: http2.ClientHttp2Session | undefined;
  #closed = false;
  readonly #end: () => void;
  /** Sessions that were not to blame for their end. */
  readonly #renewed = new WeakSet<http2.ClientHttp2Session>();
  /** Streams under way keep the process alive; an idle connection does not. */
  #streams = 0;

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    const { server } = options;
    // What is under way would wait for an answer that does not come.
    this.#end = typeof server === 'string' ? () => undefined : server.onChange(() => this.#session?.destroy());
  }

  session(): http2.ClientHttp2Session {
    if (this.#closed) throw new ApiError('ServiceUnavailable', 'the client is closed');
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const { ca, certificate, key, insecureSkipTlsVerify, serverName } = this.#options;
    const origin = new URL(currentServer(this.#options)).origin;
    const session = http2.connect(origin, {
      ...(ca === undefined ? {} : { ca: currentOf(ca) }),
      ...(certificate === undefined ? {} : { cert: currentOf(certificate) }),
      ...(key === undefined ? {} : { key: currentOf(key) }),
      ...(serverName === undefined ? {} : { servername: serverName }),
      rejectUnauthorized: insecureSkipTlsVerify !== true,
      settings: { initialWindowSize: 4 * 1024 * 1024, enablePush: false },
    });
    session.setMaxListeners(0);
    const forget = (): void => {
      if (this.#session === session) this.#session = undefined;
    };
    session.on('error', forget);
    session.on('goaway', forget);
    session.on('close', forget);
    session.unref();
    this.#session = session;
    if (typeof this.#options.server !== 'string') this.#watchOver(session, this.#options.server, origin);
    return session;
  }

  /** One that fails, or answers neither the connection nor a ping in time, is left for the next server. */
  #watchOver(session: http2.ClientHttp2Session, servers: ServerChoice, origin: string): void {
    const { clock } = this.#options;
    let timer = { cancel(): void {} };
    const fail = (): void => {
      timer.cancel();
      if (!this.#closed && !this.#renewed.has(session)) servers.failed(origin);
    };
    const expect = (): void => {
      timer = clock.setTimer(
        serverSilenceMsMax,
        () => {
          session.destroy(new Error(`no answer from ${origin}`));
          fail();
        },
        { background: true },
      );
    };
    const ping = (): void => {
      if (session.destroyed || session.closed) return;
      expect();
      session.ping(() => {
        timer.cancel();
        if (!session.destroyed) timer = clock.setTimer(serverPingMs, ping, { background: true });
      });
    };
    expect();
    session.once('connect', () => {
      timer.cancel();
      timer = clock.setTimer(serverPingMs, ping, { background: true });
    });
    session.on('error', fail);
    session.on('goaway', fail);
    session.on('close', fail);
  }

  /** The server says that it cannot serve now. */
  refused(code: number, asked: string): void {
    const { server } = this.#options;
    if (typeof server !== 'string' && (code === 503 || code === 504)) server.failed(asked);
  }

  open(headers: http2.OutgoingHttpHeaders, endStream: boolean): http2.ClientHttp2Stream {
    const session = this.session();
    const stream = session.request(headers, { endStream });
    if (this.#streams++ === 0) session.ref();
    stream.once('close', () => {
      if (--this.#streams === 0 && !session.destroyed) session.unref();
    });
    return stream;
  }

  /** The next request makes a connection; what is under way ends on the one it has. */
  renew(): void {
    if (this.#session !== undefined) this.#renewed.add(this.#session);
    this.#session?.close();
    this.#session = undefined;
  }

  close(): void {
    this.#closed = true;
    this.#end();
    this.#session?.destroy();
  }
}

/** Read afresh: what aborts it happens while the watch waits. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

function openStream(
  connection: Connection,
  options: HttpTransportOptions,
  request: TransportRequest,
): http2.ClientHttp2Stream {
  const prefix = new URL(currentServer(options)).pathname.replace(/\/$/, '');
  const query = request.query === undefined || request.query.size === 0 ? '' : `?${request.query.toString()}`;
  const headers: http2.OutgoingHttpHeaders = {
    [HTTP2_HEADER_METHOD]: request.method,
    [HTTP2_HEADER_PATH]: `${prefix}${request.path}${query}`,
    accept: 'application/json',
    'user-agent': options.userAgent ?? 'tiphys',
    ...request.headers,
  };
  if (options.token !== undefined) headers['authorization'] = `Bearer ${currentOf(options.token)}`;
  const body = request.body === undefined ? undefined : JSON.stringify(request.body);
  if (body !== undefined) headers['content-type'] = request.contentType ?? 'application/json';
  const stream = connection.open(headers, body === undefined);
  if (body !== undefined) stream.end(body);
  return stream;
}

function statusOf(stream: http2.ClientHttp2Stream): Promise<number> {
  return new Promise((resolve, reject) => {
    stream.once('response', (headers) => resolve(Number(headers[HTTP2_HEADER_STATUS] ?? 0)));
    stream.once('error', reject);
    stream.once('close', () => reject(new Error('the connection was closed before an answer came')));
  });
}

/** `stream` has no encoding: its pieces are bytes. */
async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.length;
    if (bytes > responseBodyBytesMax)
      throw new ApiError('RequestEntityTooLarge', `the answer is larger than ${responseBodyBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parsed(text: string, code: number): object {
  try {
    return JSON.parse(text);
  } catch {
    if (code >= 400) throw errorOfStatus(code, undefined, text.trim());
    // `/healthz`, `/version` of other servers and logs answer in plain text.
    return plainStatus('Success', text);
  }
}

async function* decodeEvents(stream: AsyncIterable<Buffer>): AsyncGenerator<WatchEvent[]> {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  for await (const chunk of stream) {
    let start = 0;
    const events: WatchEvent[] = [];
    for (;;) {
      const end = chunk.indexOf(10, start);
      if (end < 0) break;
      const line = Buffer.concat([...pending, chunk.subarray(start, end)]);
      pending = [];
      pendingBytes = 0;
      start = end + 1;
      if (line.length > 0) events.push(JSON.parse(line.toString('utf8')));
    }
    if (events.length > 0) yield events;
    if (start < chunk.length) {
      pending.push(chunk.subarray(start));
      pendingBytes += chunk.length - start;
      if (pendingBytes > watchEventBytesMax)
        throw new ApiError('RequestEntityTooLarge', `a watch event is larger than ${watchEventBytesMax} bytes`);
    }
  }
}

/**
 * One that the server did not look at: it had more under way than the server lets a connection have, of which it was
 * told meanwhile. It may be asked again, whatever it asks for (RFC 9113, 8.7), and waits for its turn then.
 */
class Unseen extends Error {}

function seen(stream: http2.ClientHttp2Stream, error: unknown): unknown {
  return stream.rstCode === NGHTTP2_REFUSED_STREAM ? new Unseen('the server took no further stream') : error;
}

async function untilSeen<T>(ask: () => Promise<T>): Promise<T> {
  for (let left = unseenMax; ; left--) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Unseen) || left <= 0) throw error;
    }
  }
}

async function sendOnce(
  connection: Connection,
  options: HttpTransportOptions,
  request: TransportRequest,
): Promise<object> {
  const asked = currentServer(options);
  const stream = openStream(connection, options, request);
  const timer = options.clock.setTimer(
    requestTimeoutMs,
    () => stream.destroy(new ApiError('Timeout', `no answer within ${requestTimeoutMs / 1000} s`)),
    { background: true },
  );
  const onAbort = (): void => {
    stream.close(NGHTTP2_CANCEL);
  };
  request.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const code = await statusOf(stream);
    connection.refused(code, asked);
    const object = parsed(await textOf(stream), code);
    if (code >= 400) throw errorOfStatus(code, object);
    return object;
  } catch (error) {
    throw seen(stream, error);
  } finally {
    timer.cancel();
    request.signal?.removeEventListener('abort', onAbort);
  }
}

export interface HttpTransport extends Transport {
  /** Has requests use a new connection, which shows the certificate of then. */
  renew(): void;
}

export function createHttpTransport(options: HttpTransportOptions): HttpTransport {
  const connection = new Connection(options);
  return {
    async send(request) {
      // Of several servers each is asked for what changes nothing.
      const others = typeof options.server === 'string' || request.method !== 'GET' ? 0 : options.server.all.length - 1;
      for (let left = others; ; left--) {
        try {
          return await untilSeen(() => sendOnce(connection, options, request));
        } catch (error) {
          const made = unavailable(error);
          const isElsewhere = isReason(made, 'ServiceUnavailable', 'Timeout') && !isAborted(request.signal);
          if (left <= 0 || !isElsewhere) throw made;
        }
      }
    },
    async *watch(request) {
      const { signal } = request;
      if (signal?.aborted === true) return;
      let stream: http2.ClientHttp2Stream | undefined;
      const onAbort = (): void => stream?.close(NGHTTP2_CANCEL);
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        const asked = currentServer(options);
        const { code, answer } = await untilSeen(async () => {
          const opened = (stream = openStream(connection, options, request));
          const status = statusOf(opened).catch((error: unknown) => {
            throw seen(opened, error);
          });
          return { code: await status, answer: opened };
        });
        connection.refused(code, asked);
        if (code >= 400) throw errorOfStatus(code, parsed(await textOf(answer), code));
        yield* decodeEvents(answer);
      } catch (error) {
        if (!isAborted(signal)) throw unavailable(error);
      } finally {
        signal?.removeEventListener('abort', onAbort);
        stream?.close(NGHTTP2_CANCEL);
      }
    },
    renew: () => connection.renew(),
    async [Symbol.asyncDispose]() {
      connection.close();
    },
  };
}
