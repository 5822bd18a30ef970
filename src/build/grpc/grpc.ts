/**
 * gRPC over a connection that is there already: BuildKit's clients hijack `/grpc`, on which we serve, and `/session`,
 * on which they serve and we ask. Node's HTTP/2 does the rest.
 *
 * Source: gRPC's documentation, "gRPC over HTTP2": a message is a byte (compressed or not), four bytes of length and
 * the bytes; the status stands in the trailers. Compressed messages are refused: no client sends them unasked.
 */
import * as http2 from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream, ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { ApiError, toApiError } from '#base/errors.ts';
import type { Reason } from '#base/errors.ts';
import { whenDrained } from '#base/streams.ts';
import { giveWay } from '#os/turn.ts';
import { detailsOf, detailsTrailer, readDetails } from './error-details.ts';
import { messageBytesMax, sessionMemoryMbMax, streamsMax, windowBytes } from './limits.ts';
import { decodeMessage, encodeMessage, methodOf } from './messages.ts';
import type { Message } from './messages.ts';

/** Codes that we send. What a build found wrong has none of its own (`unknown`): clients show the words alone. */
export const code = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
} as const;

const codeOfReason: Partial<Record<Reason, number>> = {
  NotFound: code.notFound,
  Forbidden: code.permissionDenied,
  TooManyRequests: code.resourceExhausted,
  RequestEntityTooLarge: code.resourceExhausted,
  ServiceUnavailable: code.unavailable,
};

export class GrpcError extends Error {
  readonly status: number;
  /** As they came: who passes the error on passes them on. */
  readonly details: readonly Message[];
  constructor(status: number, message: string, details: readonly Message[] = []) {
    super(message);
    this.name = 'GrpcError';
    this.status = status;
    this.details = details;
  }
}

/** Messages of a stream of bytes. Throws RequestEntityTooLarge beyond `messageBytesMax`. */
async function* readFrames(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let have = 0;
  for await (const chunk of source) {
    parts.push(chunk);
    have += chunk.length;
    while (have >= 5) {
      const [first = chunk] = parts;
      const head = first.length < 5 ? Buffer.concat(parts) : first;
      if (head !== first) parts = [head];
      if (head[0] !== 0) throw new GrpcError(code.unimplemented, 'compressed messages are not read');
      const length = head.readUInt32BE(1);
      if (length > messageBytesMax)
        throw new GrpcError(
          code.resourceExhausted,
          `grpc: received message larger than max (${length} vs. ${messageBytesMax})`,
        );
      if (have < 5 + length) break;
      const all = parts.length === 1 ? head : Buffer.concat(parts);
      yield all.subarray(5, 5 + length);
      const rest = all.subarray(5 + length);
      parts = rest.length === 0 ? [] : [rest];
      have = rest.length;
    }
  }
  if (have > 0) throw new GrpcError(code.internal, 'the stream ended within a message');
}

function frameOf(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

async function sendFrame(stream: Duplex, bytes: Uint8Array): Promise<void> {
  if (!stream.write(frameOf(bytes))) await whenDrained(stream);
}

export interface Call {
  /** Headers of the request, lower-case. */
  metadata: http2.IncomingHttpHeaders;
  /** Aborted when the client cancels or goes. */
  signal: AbortSignal;
  messages: AsyncGenerator<Message>;
  send(message: Message): Promise<void>;
}

/** A method: its return value is the one answer, unless it is undefined and `send` was used. */
export type Handler = (call: Call) => Promise<Message | undefined>;

export interface Request extends Omit<Call, 'messages'> {
  request: Message;
}

/** A method whose request is one message. */
export function unary(handle: (request: Request) => Promise<Message | undefined>): Handler {
  return async ({ messages, ...call }) => {
    const first = await messages.next();
    return handle({ ...call, request: first.done === true ? {} : first.value });
  };
}

/**
 * Serves `handlers` (by path) on the connection until it closes. `typesOf`: where messages are others than the protocol
 * says.
 */
export function serveGrpc(socket: Duplex, handlers: ReadonlyMap<string, Handler>, typesOf = methodOf): void {
  const session = http2.performServerHandshake(socket, {
    settings: { maxConcurrentStreams: streamsMax, initialWindowSize: windowBytes },
    maxSessionMemory: sessionMemoryMbMax,
  });
  session.on('error', () => socket.destroy());
  session.on('stream', (stream: ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    // Whoever waits for the stream hears of it by its end.
    stream.on('error', () => {});
    void answer(stream, headers, { handlers, typesOf });
  });
}

async function answer(
  stream: ServerHttp2Stream,
  metadata: http2.IncomingHttpHeaders,
  served: { handlers: ReadonlyMap<string, Handler>; typesOf: typeof methodOf },
): Promise<void> {
  const path = String(metadata[':path']);
  const aborted = new AbortController();
  stream.once('close', () => aborted.abort(new GrpcError(code.canceled, 'context canceled')));
  let trailers: Record<string, string> = { 'grpc-status': '0' };
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers(trailers));
  try {
    const handler = served.handlers.get(path);
    const types = served.typesOf(path);
    if (handler === undefined || types === undefined)
      throw new GrpcError(code.unimplemented, `unknown method ${path.slice(0, 200)}`);
    // Without closing what is still to carry the status.
    const frames = readFrames(stream.iterator({ destroyOnReturn: false }));
    const next = async (): Promise<Message | undefined> => {
      const { value, done } = await frames.next();
      return done === true ? undefined : decodeMessage(types.request, value);
    };
    const messages = async function* (): AsyncGenerator<Message> {
      for (let message = await next(); message !== undefined; message = await next()) yield message;
    };
    const send = (message: Message): Promise<void> => sendFrame(stream, encodeMessage(types.response, message));
    const result = await handler({ metadata, signal: aborted.signal, messages: messages(), send });
    if (result !== undefined) await send(result);
  } catch (error) {
    trailers = statusOf(error);
  }
  if (!stream.destroyed) stream.end();
}

function statusOf(error: unknown): Record<string, string> {
  const { message } = error instanceof GrpcError ? error : toApiError(error);
  const status = error instanceof GrpcError ? error.status : (codeOfReason[toApiError(error).reason] ?? code.unknown);
  const details = error instanceof GrpcError ? error.details : detailsOf(error);
  const text = message.toWellFormed();
  return {
    'grpc-status': String(status),
    'grpc-message': encodeURI(text),
    ...detailsTrailer(status, text, details),
  };
}

/** A stream to the other side. */
export interface ClientStream {
  messages: AsyncGenerator<Message>;
  send(message: Message): Promise<void>;
  end(): void;
  [Symbol.dispose](): void;
}

/** Asks services on a connection. */
export class GrpcClient {
  readonly #session: ClientHttp2Session;
  readonly closed: Promise<void>;

  constructor(socket: Duplex) {
    this.#session = http2.connect('http://localhost', {
      createConnection: () => socket,
      settings: { initialWindowSize: windowBytes, enablePush: false },
      maxSessionMemory: sessionMemoryMbMax,
    });
    this.#session.on('error', () => socket.destroy());
    this.closed = new Promise((resolve) => {
      this.#session.once('close', () => resolve());
      socket.once('close', () => resolve());
    });
    this.#session.once('connect', () => this.#session.setLocalWindowSize(windowBytes));
  }

  close(): void {
    this.#session.destroy();
  }

  /**
   * Opens a stream. Its messages end with the status: an ApiError where it is not OK. `types`: of messages other than
   * the protocol says, as some methods carry.
   */
  open(
    path: string,
    metadata: Record<string, string | string[]>,
    signal: AbortSignal,
    types = methodOf(path),
  ): ClientStream {
    if (types === undefined) throw new GrpcError(code.unimplemented, `unknown method ${path}`);
    const stream: ClientHttp2Stream = this.#session.request(
      { ...metadata, ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
      { signal },
    );
    let failure: Error | undefined;
    let status: http2.IncomingHttpHeaders | undefined;
    stream.on('error', (error: Error) => (failure ??= error));
    stream.on('response', (headers) => {
      // A method that fails at once sends its status in place of headers.
      if (headers['grpc-status'] !== undefined) status = headers;
    });
    stream.on('trailers', (headers) => (status = headers));
    const messages = async function* (): AsyncGenerator<Message> {
      try {
        for await (const frame of readFrames(stream)) yield decodeMessage(types.response, frame);
      } catch (error) {
        // Who has said all, and wants to hear no more, closes a stream that is open on our side: the status counts.
        if (status === undefined) throw error;
      }
      // Data may end a moment before the trailers that say why.
      if (status === undefined) await trailersOf(stream);
      if (status?.['grpc-status'] !== '0') throw errorOf(status, failure);
    };
    return {
      messages: messages(),
      send: (message) => sendFrame(stream, encodeMessage(types.request, message)),
      end: () => stream.end(),
      [Symbol.dispose]: () => stream.destroy(),
    };
  }

  /** One request, one answer. */
  async call(path: string, request: Message, signal: AbortSignal): Promise<Message> {
    using stream = this.open(path, {}, signal);
    await stream.send(request);
    stream.end();
    let answer: Message | undefined;
    for await (const message of stream.messages) answer = message;
    if (answer === undefined) throw new GrpcError(code.internal, `${path} gave no answer`);
    return answer;
  }
}

/** Resolves when they have come, or will not. */
async function trailersOf(stream: ClientHttp2Stream): Promise<void> {
  // Those of a stream that is over may have come, and not been told yet.
  await giveWay();
  if (stream.closed || stream.destroyed) return;
  await new Promise<void>((resolve) => {
    stream.once('trailers', () => resolve());
    stream.once('close', () => resolve());
    stream.end();
  });
}

function errorOf(status: http2.IncomingHttpHeaders | undefined, failure: Error | undefined): Error {
  if (status?.['grpc-status'] === undefined)
    return new ApiError(
      'ServiceUnavailable',
      `the client went away${failure === undefined ? '' : `: ${failure.message}`}`,
    );
  const text = String(status['grpc-message'] ?? '');
  let message = text;
  try {
    message = decodeURIComponent(text);
  } catch {
    // As it was sent.
  }
  return new GrpcError(Number(status['grpc-status']), message, readDetails(status['grpc-status-details-bin']));
}
