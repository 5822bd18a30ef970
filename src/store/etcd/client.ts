/**
 * Asks an etcd: one connection at a time, to one of its members; when that fails or falls silent, the next one's.
 *
 * A read that a member did not answer is asked of another one, until its time is over. A write is asked again only
 * where it was surely not sent: who repeats one that may have been done finds its own compare failed. Its caller is
 * told `Timeout`, which says that nobody knows.
 *
 * A member that is cut off from the others answers pings and nothing else. So a connection on which a request took too
 * long is left for the next member's; what is still under way on it may end by itself. Source: etcd's gRPC
 * naming and client design documents.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { ApiError } from '#base/errors.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { GrpcClient, type ClientStream } from '#grpc/client.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import type { Message } from '#grpc/fields.ts';
import { Protocol } from '#grpc/protocol.ts';
import type { Logger } from '#observe/log.ts';
import { pause, type Clock, type Timer } from '#os/clock.ts';
import {
  attemptMsMax,
  connectMsMax,
  etcdMessageBytesMax,
  etcdSessionMemoryMbMax,
  etcdWindowBytes,
  pingIntervalMs,
  pingMsMax,
  requestMsMax,
  retryMs,
} from './limits.ts';
import { methods } from './requests.ts';

export interface EtcdAddress {
  /** `https://host:2379`, `http://…`; members of one cluster. */
  endpoints: readonly string[];
  /** PEM. `ca`: who signed the members' certificates; `cert` and `key`: who this client is. */
  tls?: { ca?: string; cert?: string; key?: string };
}

export interface EtcdClientOptions extends EtcdAddress {
  clock: Clock;
  log: Logger;
}

const protocol = new Protocol(join(import.meta.dirname, 'protocol.json'));

/** The connection failed before anything was sent on it. */
class NotSentError extends Error {}

interface Channel {
  endpoint: string;
  grpc: GrpcClient;
  pings: Timer;
}

export class EtcdClient {
  readonly #options: EtcdClientOptions;
  #endpoints: readonly URL[];
  readonly #closing = new AbortController();
  #at = 0;
  #channel: Promise<Channel> | undefined;
  /** Why members did not answer when they were last tried. */
  readonly #problems = new Map<string, string>();

  /** Throws BadRequest for endpoints that are none. */
  constructor(options: EtcdClientOptions) {
    this.#options = options;
    if (options.endpoints.length === 0) throw new ApiError('BadRequest', 'etcd needs an endpoint');
    this.#endpoints = options.endpoints.map(endpointOf);
  }

  /**
   * Members have come or gone, or another one is to be asked first: the next request goes to the first of them. Throws
   * BadRequest for endpoints that are none.
   */
  useEndpoints(endpoints: readonly string[]): void {
    const now = endpoints.map(endpointOf);
    if (now.length === 0) throw new ApiError('BadRequest', 'etcd needs an endpoint');
    const before = this.#channel;
    this.#endpoints = now;
    this.#problems.clear();
    this.#at = 0;
    void before?.then(
      (channel) => {
        if (this.#channel !== before || channel.endpoint === now[0]?.host) return;
        this.#channel = undefined;
        this.#retire(channel);
      },
      () => undefined,
    );
  }

  /** Asks, and asks again elsewhere, until there is an answer or `requestMsMax` are over. */
  read(method: string, request: Message): Promise<Message> {
    return this.#ask(method, request, { attemptMs: attemptMsMax, mayRepeat: () => true });
  }

  /** Whether a majority of the members answers. Rejects with the reason why not. */
  async probe(): Promise<void> {
    await this.read(methods.range, { key: Buffer.of(0), count_only: true });
  }

  /** Asks once. Rejects with Timeout where it is not known whether the request was carried out. */
  write(method: string, request: Message): Promise<Message> {
    // One that is under way is waited for: the disk of etcd may be slow.
    return this.#ask(method, request, {
      attemptMs: requestMsMax,
      mayRepeat: (error) => error instanceof NotSentError,
    });
  }

  async #ask(
    method: string,
    request: Message,
    { attemptMs, mayRepeat }: { attemptMs: number; mayRepeat(error: unknown): boolean },
  ): Promise<Message> {
    const { clock } = this.#options;
    const untilMs = clock.monotonic() + requestMsMax;
    for (;;) {
      try {
        return await this.#attempt(method, request, Math.min(attemptMs, untilMs - clock.monotonic()));
      } catch (error) {
        if (!isTransient(error) || this.#closing.signal.aborted) throw apiErrorOf(error);
        const leftMs = untilMs - clock.monotonic() - retryMs;
        if (!mayRepeat(error)) throw apiErrorOf(error);
        if (leftMs <= 0) throw this.#endOf(error);
        await pause(clock, retryMs, this.#closing.signal);
      }
    }
  }

  /** What is told when time is over. */
  #endOf(error: unknown): Error {
    const isAnybodyThere = this.#problems.size < this.#endpoints.length;
    return apiErrorOf(isAnybodyThere ? error : new NotSentError(this.#unreachable()));
  }

  async #attempt(method: string, request: Message, timeoutMs: number): Promise<Message> {
    const over = new AbortController();
    const timer = this.#options.clock.setTimer(timeoutMs, () => over.abort(new DeadlineError()), { background: true });
    let channel: Channel | undefined;
    try {
      channel = await this.#connected(over.signal);
      const answer = await channel.grpc.call(method, request, over.signal);
      this.#problems.delete(channel.endpoint);
      return answer;
    } catch (error) {
      if (channel === undefined) throw error;
      if (isTransient(error)) this.#leave(channel);
      // A connection that its other side was about to end took no more requests.
      if (wasEnding(error)) throw new NotSentError(messageOf(error));
      throw over.signal.aborted ? new DeadlineError() : error;
    } finally {
      timer.cancel();
    }
  }

  /** Opens a stream, which ends when its member has no leader. */
  async open(method: string, signal: AbortSignal): Promise<ClientStream> {
    const channel = await this.#connected(signal);
    return channel.grpc.open(method, { hasleader: 'true' }, signal);
  }

  /** Rejects with NotSentError where no member can be reached, or the signal is aborted first. */
  async #connected(signal: AbortSignal): Promise<Channel> {
    this.#channel ??= this.#connectAny();
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(new NotSentError(this.#unreachable()));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await Promise.race([this.#channel, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  async #connectAny(): Promise<Channel> {
    const first = this.#at % this.#endpoints.length;
    for (const endpoint of [...this.#endpoints.slice(first), ...this.#endpoints.slice(0, first)]) {
      try {
        return await this.#connect(endpoint);
      } catch (error) {
        this.#problems.set(endpoint.host, oneLine(error));
        this.#at++;
      }
    }
    this.#channel = undefined;
    throw new NotSentError(this.#unreachable());
  }

  #unreachable(): string {
    const problems = [...this.#problems].map(([host, problem]) => `${host}: ${problem}`);
    return `no member of etcd can be reached${problems.length === 0 ? '' : ` (${problems.join('; ')})`}`;
  }

  async #connect(endpoint: URL): Promise<Channel> {
    const { clock, log } = this.#options;
    const socket = this.#dial(endpoint);
    const connected = Promise.withResolvers<void>();
    const timer = clock.setTimer(connectMsMax, () => socket.destroy(new Error('no answer to a connection')), {
      background: true,
    });
    socket.once(endpoint.protocol === 'https:' ? 'secureConnect' : 'connect', () => connected.resolve());
    socket.on('error', (error) => {
      this.#problems.set(endpoint.host, oneLine(error));
      connected.reject(error);
    });
    socket.once('close', () => connected.reject(new Error('the connection was closed')));
    try {
      await connected.promise;
    } finally {
      timer.cancel();
    }
    if (this.#closing.signal.aborted) socket.destroy();
    const grpc = new GrpcClient(socket, {
      protocol,
      messageBytesMax: etcdMessageBytesMax,
      sessionMemoryMbMax: etcdSessionMemoryMbMax,
      windowBytes: etcdWindowBytes,
    });
    const channel: Channel = { endpoint: endpoint.host, grpc, pings: { cancel: () => undefined } };
    this.#armPing(channel);
    log.debug('connected to etcd', { endpoint: channel.endpoint });
    void grpc.closed.then(() => {
      channel.pings.cancel();
      if (grpc.problem !== undefined) this.#problems.set(endpoint.host, oneLine(grpc.problem));
      this.#leave(channel);
    });
    return channel;
  }

  #dial(endpoint: URL): Socket {
    const { hostname, port } = endpoint;
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    const address = { host, port: Number(port === '' ? 2379 : port) };
    if (endpoint.protocol === 'http:') return connectTcp({ ...address, noDelay: true });
    const socket = connectTls({
      ...address,
      ...this.#options.tls,
      ALPNProtocols: ['h2'],
      ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
    });
    socket.setNoDelay(true);
    return socket;
  }

  /** Not more often than etcd allows, which ends connections that ping every few seconds. */
  #armPing(channel: Channel): void {
    const { clock } = this.#options;
    const ping = async (): Promise<void> => {
      const dead = clock.setTimer(pingMsMax, () => channel.grpc.close(), { background: true });
      await channel.grpc.ping();
      dead.cancel();
      this.#armPing(channel);
    };
    channel.pings = clock.setTimer(pingIntervalMs, () => void ping(), { background: true });
  }

  /** The next request goes to the next member. What is under way here has its own time. */
  #leave(channel: Channel): void {
    const current = this.#channel;
    void current?.then(
      (now) => {
        if (now !== channel || this.#channel !== current) return;
        this.#channel = undefined;
        this.#at++;
        this.#retire(channel);
      },
      () => undefined,
    );
  }

  #retire(channel: Channel): void {
    this.#options.log.debug('left a member of etcd', { endpoint: channel.endpoint });
    this.#options.clock.setTimer(requestMsMax, () => channel.grpc.close(), { background: true });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const current = this.#channel;
    this.#channel = undefined;
    // A connection that did not come about needs no closing.
    const channel = await current?.catch(() => undefined);
    channel?.pings.cancel();
    channel?.grpc.close();
  }
}

class DeadlineError extends Error {
  constructor() {
    super('request did not complete within requested timeout - context deadline exceeded');
  }
}

function endpointOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.hostname === '')
    throw new ApiError('BadRequest', `${JSON.stringify(text)} is no endpoint of etcd; one is https://host:2379`);
  return url;
}

/** OpenSSL's words come with line breaks. */
function oneLine(error: unknown): string {
  return messageOf(error)
    .trim()
    .replaceAll(/\s*\n\s*/g, ' ');
}

function wasEnding(error: unknown): boolean {
  return ['ERR_HTTP2_INVALID_SESSION', 'ERR_HTTP2_GOAWAY_SESSION'].includes(codeOf(error) ?? '');
}

/** Another member, or a later moment, may answer. */
function isTransient(error: unknown): boolean {
  if (error instanceof GrpcError)
    return (
      error.status === code.unavailable || error.status === code.deadlineExceeded || error.status === code.canceled
    );
  // The store's own errors come later; here an ApiError is a connection that ended.
  return true;
}

/**
 * What clients of the API are told, where etcd says nothing of its own: ServiceUnavailable for what was surely not
 * done, Timeout otherwise, as kube-apiserver has it.
 */
function apiErrorOf(error: unknown): Error {
  if (error instanceof GrpcError) {
    if (error.status === code.unavailable) return new ApiError('Timeout', error.message);
    return isTransient(error) ? timeout() : error;
  }
  if (error instanceof NotSentError) {
    const unavailable = new ApiError('ServiceUnavailable', error.message);
    unavailable.cause = error;
    return unavailable;
  }
  return timeout();
}

const timeout = (): ApiError => new ApiError('Timeout', `Timeout: ${new DeadlineError().message}`);
