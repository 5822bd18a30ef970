/**
 * Asks services on a connection that is there already: a client's session of BuildKit, an etcd. Node's HTTP/2 does the
 * rest. Source: gRPC's documentation, "gRPC over HTTP2": the status stands in the trailers.
 */
import * as http2 from 'node:http2';
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { giveWay } from '#os/turn.ts';
import { GrpcError, code } from './errors.ts';
import type { Message } from './fields.ts';
import { readFrames, sendFrame } from './frames.ts';
import type { Protocol } from './protocol.ts';

/** A stream to the other side. */
export interface ClientStream {
  messages: AsyncGenerator<Message>;
  send(message: Message): Promise<void>;
  end(): void;
  [Symbol.dispose](): void;
}

export interface GrpcClientOptions {
  protocol: Protocol;
  /** Of one message that comes. */
  messageBytesMax: number;
  /** What Node's HTTP/2 may hold of the connection, in MB. */
  sessionMemoryMbMax: number;
  /** What the other side may send ahead, on a stream and on the connection. */
  windowBytes: number;
  /** Reads the trailer that carries details of an error. */
  readDetails?(trailer: string | string[] | undefined): Message[];
}

/** Asks services on a connection. */
export class GrpcClient {
  readonly #session: ClientHttp2Session;
  readonly #options: GrpcClientOptions;
  readonly closed: Promise<void>;
  /** Why the connection failed, where it did not end in order. */
  problem: Error | undefined;

  constructor(socket: Duplex, options: GrpcClientOptions) {
    const { windowBytes, sessionMemoryMbMax } = options;
    this.#options = options;
    this.#session = http2.connect('http://localhost', {
      createConnection: () => socket,
      settings: { initialWindowSize: windowBytes, enablePush: false },
      maxSessionMemory: sessionMemoryMbMax,
    });
    this.#session.on('error', (error: Error) => {
      this.problem ??= error;
      socket.destroy();
    });
    this.closed = new Promise((resolve) => {
      this.#session.once('close', () => resolve());
      socket.once('close', () => resolve());
    });
    this.#session.once('connect', () => {
      // The other side may have ended it before it is told of.
      if (!this.#session.destroyed) this.#session.setLocalWindowSize(windowBytes);
    });
  }

  close(): void {
    this.#session.destroy();
  }

  /** Resolves when the other side has answered a ping; never, where the connection is lost. */
  ping(): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#session.destroyed) this.#session.ping(() => resolve());
    });
  }

  /**
   * Opens a stream. Its messages end with the status: an ApiError where it is not OK. `types`: of messages other than
   * the protocol says, as some methods carry.
   */
  open(
    path: string,
    metadata: Record<string, string | string[]>,
    signal: AbortSignal,
    types = this.#options.protocol.methodOf(path),
  ): ClientStream {
    const { protocol, messageBytesMax, readDetails } = this.#options;
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
        for await (const frame of readFrames(stream, messageBytesMax)) yield protocol.decode(types.response, frame);
      } catch (error) {
        // Who has said all, and wants to hear no more, closes a stream that is open on our side: the status counts.
        if (status === undefined) throw error;
      }
      // Data may end a moment before the trailers that say why.
      if (status === undefined) await trailersOf(stream);
      if (status?.['grpc-status'] !== '0') throw errorOf(status, failure, readDetails);
    };
    return {
      messages: messages(),
      send: (message) => sendFrame(stream, protocol.encode(types.request, message)),
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

function errorOf(
  status: http2.IncomingHttpHeaders | undefined,
  failure: Error | undefined,
  readDetails: GrpcClientOptions['readDetails'] = () => [],
): Error {
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
