/**
 * gRPC over a connection that is there already: BuildKit's clients hijack `/grpc`, on which we serve, and `/session`,
 * on which they serve and we ask (`src/grpc`).
 */
import * as http2 from 'node:http2';
import type { ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { toApiError } from '#base/errors.ts';
import type { Reason } from '#base/errors.ts';
import { GrpcClient } from '#grpc/client.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import type { Message } from '#grpc/fields.ts';
import { readFrames, sendFrame } from '#grpc/frames.ts';
import { detailsOf, detailsTrailer, readDetails } from './error-details.ts';
import { messageBytesMax, sessionMemoryMbMax, streamsMax, windowBytes } from './limits.ts';
import { buildkit, decodeMessage, encodeMessage, methodOf } from './messages.ts';

const codeOfReason: Partial<Record<Reason, number>> = {
  NotFound: code.notFound,
  Forbidden: code.permissionDenied,
  TooManyRequests: code.resourceExhausted,
  RequestEntityTooLarge: code.resourceExhausted,
  ServiceUnavailable: code.unavailable,
};

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
    const frames = readFrames(stream.iterator({ destroyOnReturn: false }), messageBytesMax);
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
    trailers = trailersOf(error);
  }
  if (!stream.destroyed) stream.end();
}

/** `google.rpc.Status` of an error. */
export function statusMessage(error: unknown): { code: number; message: string; details: readonly Message[] } {
  const { message } = error instanceof GrpcError ? error : toApiError(error);
  const status = error instanceof GrpcError ? error.status : (codeOfReason[toApiError(error).reason] ?? code.unknown);
  const details = error instanceof GrpcError ? error.details : detailsOf(error);
  return { code: status, message: message.toWellFormed(), details };
}

function trailersOf(error: unknown): Record<string, string> {
  const { code: status, message, details } = statusMessage(error);
  return {
    'grpc-status': String(status),
    'grpc-message': encodeURI(message),
    ...detailsTrailer(status, message, details),
  };
}

/** Asks BuildKit's services that the other side of a connection serves. */
export function connectGrpc(socket: Duplex): GrpcClient {
  return new GrpcClient(socket, { protocol: buildkit, messageBytesMax, sessionMemoryMbMax, windowBytes, readDetails });
}
