/**
 * The API server on a socket: HTTP/2 and HTTP/1.1 over TLS on one port, client certificates as identities, and
 * connections that are passed on to a kubelet, node, Pod or Service. Turns messages into `ApiRequest`s and answers into
 * messages; decides nothing itself.
 */
import { request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { Http2SecureServer, Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Agent, request as httpsRequest } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import type { KeyPair } from '#base/x509.ts';
import { messageOf } from '#base/thrown.ts';
import type { Clock } from '#os/clock.ts';
import type { ApiServer } from './server.ts';
import type { ConnectResponse, ConnectTarget } from './connect.ts';
import {
  kubeletErrorCharsMax,
  requestBodiesBytesMax,
  requestBodiesOfUserBytesMax,
  requestBodyBytesMax,
  requestBodyMsMax,
  upgradeConnectTimeoutMs,
} from './limits.ts';
import { createWebhookCaller } from './webhook-client.ts';

export interface HttpOptions {
  api: ApiServer;
  /** The server's certificate and key. */
  serving: KeyPair;
  /** Client certificates of this authority are identities. */
  clientCa: string;
  /** Shown to kubelets. */
  kubeletClient: KeyPair;
  host: string;
  port: number;
  /** Further addresses with the same port. */
  alsoListen?: readonly string[];
}

export interface HttpServer extends AsyncDisposable {
  address: string;
  port: number;
  /** For connections from now on; those that are there go on with the certificate that they began with. */
  setServing(pair: KeyPair): void;
  /** Shown to kubelets from now on. */
  setKubeletClient(pair: KeyPair): void;
}

type Request = Http2ServerRequest | IncomingMessage;
type Response = Http2ServerResponse | ServerResponse;

const users = new WeakMap<object, UserInfo | null>();

/** CN is the name, each O a group (Kubernetes, "X.509 client certificates"). */
function userOf(socket: Socket | undefined): UserInfo | undefined {
  if (socket === undefined) return undefined;
  const known = users.get(socket);
  if (known !== undefined) return known ?? undefined;
  const tls = socket as TLSSocket;
  let user: UserInfo | null = null;
  if (tls.authorized) {
    const subject = tls.getPeerCertificate()?.subject as { CN?: string | string[]; O?: string | string[] } | undefined;
    const name = Array.isArray(subject?.CN) ? subject.CN[0] : subject?.CN;
    if (name !== undefined && name !== '')
      user = {
        name,
        groups: [
          ...(subject?.O === undefined ? [] : Array.isArray(subject.O) ? subject.O : [subject.O]),
          'system:authenticated',
        ],
      };
  }
  users.set(socket, user);
  return user ?? undefined;
}

function plainHeaders(request: Request): Record<string, string | undefined> {
  const headers: IncomingHttpHeaders = request.headers;
  const out: Record<string, string | undefined> = {};
  let impersonates = false;
  for (const name in headers) {
    if (name.charCodeAt(0) === 58) continue; // HTTP/2 pseudo headers
    const value = headers[name];
    out[name] = Array.isArray(value) ? value.join(', ') : value;
    impersonates ||= name.startsWith('impersonate-');
  }
  if (impersonates) Object.assign(out, impersonationLines(request.rawHeaders));
  return out;
}

/** What was sent in several headers of one name is handed over as lines, since names of groups may hold commas. */
function impersonationLines(raw: readonly string[]): Record<string, string> {
  const out: Record<string, string> = {};
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    if (name.startsWith('impersonate-'))
      out[name] = out[name] === undefined ? raw[i + 1]! : `${out[name]}\n${raw[i + 1]}`;
  }
  return out;
}

/** Bodies that are held in memory: by everybody, and by each user. */
class BodyBudget {
  #held = 0;
  readonly #byUser = new Map<string, number>();

  /**
   * Reads a body, piece by piece against the bounds; `release` gives back what it took. Throws RequestEntityTooLarge,
   * TooManyRequests, Timeout.
   */
  async read(request: Request, user: string, clock: Clock, release: (give: () => void) => void): Promise<Uint8Array> {
    let taken = 0;
    release(() => {
      this.#add(user, -taken);
      taken = 0;
    });
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > requestBodyBytesMax) throw tooLarge();
    const late = clock.setTimer(
      requestBodyMsMax,
      () => {
        request.destroy(
          new ApiError('Timeout', `the request's body did not arrive within ${requestBodyMsMax / 1000} s`),
        );
      },
      { background: true },
    );
    const parts: Buffer[] = [];
    try {
      for await (const part of request as AsyncIterable<Buffer>) {
        taken += part.length;
        this.#add(user, part.length);
        if (taken > requestBodyBytesMax) throw tooLarge();
        if (this.#held > requestBodiesBytesMax || this.#byUser.get(user)! > requestBodiesOfUserBytesMax)
          throw new ApiError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 });
        parts.push(part);
      }
    } finally {
      late.cancel();
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  #add(user: string, bytes: number): void {
    this.#held += bytes;
    const now = (this.#byUser.get(user) ?? 0) + bytes;
    if (now === 0) this.#byUser.delete(user);
    else this.#byUser.set(user, now);
  }
}

function tooLarge(): ApiError {
  return new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${requestBodyBytesMax}`);
}

// walk kubectl-apply 1/8: a message of HTTP/2 or 1.1 becomes an `ApiRequest`, with the client certificate as its user.
function toApiRequest(request: Request, readBody: ApiRequest['readBody'], signal: AbortSignal): ApiRequest {
  const url = request.url ?? '/';
  const cut = url.indexOf('?');
  const socket = (request as Http2ServerRequest).stream?.session?.socket ?? request.socket;
  const user = userOf(rawSocket(request));
  return {
    method: request.method ?? 'GET',
    path: cut < 0 ? url : url.slice(0, cut),
    query: new URLSearchParams(cut < 0 ? '' : url.slice(cut + 1)),
    headers: plainHeaders(request),
    ...(readBody === undefined ? {} : { readBody }),
    ...(user === undefined ? {} : { user }),
    remoteAddress: socket?.remoteAddress ?? '',
    signal,
  };
}

/** A session's `socket` is a proxy made anew at each access: the session itself is the key for what is remembered. */
function rawSocket(request: Request): Socket | undefined {
  const session = (request as Http2ServerRequest).stream?.session;
  if (session === undefined) return request.socket;
  if (!users.has(session)) {
    const user = userOf({
      authorized: (session.socket as TLSSocket).authorized,
      getPeerCertificate: () => (session.socket as TLSSocket).getPeerCertificate(),
    } as unknown as Socket);
    users.set(session, user ?? null);
  }
  return session as unknown as Socket;
}

async function send(
  either: Response,
  answer: { status: number; headers: Record<string, string>; body?: Uint8Array | AsyncIterable<Uint8Array> },
  head: boolean,
): Promise<void> {
  const response = either as ServerResponse; // the HTTP/2 compatibility response has the same methods
  const body = answer.body;
  if (body === undefined || body instanceof Uint8Array) {
    response.writeHead(
      answer.status,
      body === undefined ? answer.headers : { ...answer.headers, 'content-length': String(body.length) },
    );
    response.end(head ? undefined : body);
    return;
  }
  response.writeHead(answer.status, answer.headers);
  response.flushHeaders?.();
  for await (const chunk of body) {
    if (response.destroyed || response.closed) break;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
}

/**
 * Resolves when the response takes more, or never will; nothing goes on listening. Those of HTTP/2 do not say that they
 * wait (base/streams.ts: whenDrained).
 */
function drained(response: ServerResponse | Http2ServerResponse): Promise<void> {
  if (response.destroyed || response.closed) return Promise.resolve();
  return new Promise((resolve) => {
    const go = (): void => {
      response.off('drain', go);
      response.off('close', go);
      resolve();
    };
    response.on('drain', go);
    response.on('close', go);
  });
}

const hopHeaders = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'te',
  'host',
  'authorization',
  'proxy-connection',
]);

function forwardHeaders(headers: Record<string, string | undefined>): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !hopHeaders.has(name) && !name.startsWith('impersonate-')) out[name] = value;
  return out;
}

class Listener {
  readonly #options: HttpOptions;
  #kubeletAgent: Agent;
  readonly #plainAgent = new Agent({ rejectUnauthorized: false });
  readonly #sockets = new Set<Socket>();
  readonly #bodies = new BodyBudget();

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#kubeletAgent = this.#agentOf(options.kubeletClient);
  }

  /** The agent before it holds no connection that nobody uses: what runs over it runs on. */
  setKubeletClient(pair: KeyPair): void {
    this.#kubeletAgent = this.#agentOf(pair);
  }

  #agentOf({ certificatePem, keyPem }: KeyPair): Agent {
    return new Agent({
      cert: certificatePem,
      key: keyPem,
      ca: this.#options.clientCa,
      checkServerIdentity: () => undefined,
      keepAlive: false,
    });
  }

  secureContext({ certificatePem, keyPem }: KeyPair): SecureContextOptions {
    return { cert: certificatePem, key: keyPem, ca: this.#options.clientCa, minVersion: 'TLSv1.2' };
  }

  create(): Http2SecureServer {
    const server = createSecureServer({
      ...this.secureContext(this.#options.serving),
      allowHTTP1: true,
      requestCert: true,
      rejectUnauthorized: false,
      settings: { maxConcurrentStreams: 1000, initialWindowSize: 1 << 20 },
    });
    server.on('request', (request, response) => {
      void this.#serve(request, response);
    });
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      void this.#upgrade(request, socket, head);
    });
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('sessionError', () => undefined);
    return server;
  }

  async #serve(request: Request, response: Response): Promise<void> {
    const abort = new AbortController();
    response.once('close', () => abort.abort());
    response.on('error', () => undefined);
    let release = (): void => undefined;
    try {
      const method = request.method ?? 'GET';
      const hasBody = method !== 'GET' && method !== 'HEAD';
      const readBody = (user: UserInfo): Promise<Uint8Array> =>
        this.#bodies.read(request, user.name, this.#options.api.server.clock, (give) => {
          release = give;
        });
      const apiRequest = toApiRequest(request, hasBody ? readBody : undefined, abort.signal);
      const answer = (await this.#options.api.handle(apiRequest)) as ConnectResponse;
      if (answer.connect !== undefined) {
        this.#forward(answer.connect, apiRequest, request, response);
        return;
      }
      await send(response, answer, method === 'HEAD');
    } catch (error) {
      this.#fail(response, error);
    } finally {
      release();
    }
  }

  #fail(either: Response, error: unknown): void {
    const response = either as ServerResponse;
    if (response.headersSent || response.destroyed) {
      response.destroy?.();
      return;
    }
    const known = error instanceof ApiError ? error : new ApiError('InternalError', messageOf(error));
    const body = Buffer.from(JSON.stringify(known.toStatus()));
    response.writeHead(known.code, { 'content-type': 'application/json', 'content-length': String(body.length) });
    response.end(body);
  }

  /** A plain request to a kubelet, Pod or Service; the answer is piped back as it comes. */
  #forward(target: ConnectTarget, from: ApiRequest, request: Request, either: Response): void {
    const response = either as ServerResponse;
    const make = target.scheme === 'https' ? httpsRequest : httpRequest;
    const out = make({
      host: target.host,
      port: target.port,
      path: target.path,
      method: from.method,
      headers: { ...forwardHeaders(from.headers), host: `${target.host}:${target.port}` },
      ...(target.scheme === 'https' ? { agent: target.kubelet ? this.#kubeletAgent : this.#plainAgent } : {}),
      signal: from.signal,
    });
    out.on('response', (answer) => {
      if (target.kubelet && target.path.startsWith('/containerLogs/') && (answer.statusCode ?? 500) >= 400) {
        void this.#failAsKubelet(response, answer);
        return;
      }
      const headers: Record<string, string> = {};
      for (const [name, value] of Object.entries(answer.headers))
        if (value !== undefined && !hopHeaders.has(name))
          headers[name] = Array.isArray(value) ? value.join(', ') : value;
      response.writeHead(answer.statusCode ?? 502, headers);
      response.flushHeaders?.();
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    out.on('error', (error) => {
      if (!from.signal.aborted)
        this.#fail(
          response,
          new ApiError(
            target.kubelet ? 'Unknown' : 'ServiceUnavailable',
            target.kubelet
              ? `Get "https://${target.host}:${target.port}${target.path}": ${error.message}`
              : `error trying to reach service: ${error.message}`,
          ),
        );
    });
    if (from.method === 'GET' || from.method === 'HEAD') out.end();
    else request.pipe(out);
  }

  /** A kubelet refuses logs in plain words; clients get them as a Status. */
  async #failAsKubelet(response: ServerResponse, answer: IncomingMessage): Promise<void> {
    let text = '';
    try {
      for await (const chunk of answer as AsyncIterable<Buffer>)
        if (text.length < kubeletErrorCharsMax) text += chunk.toString('utf8');
    } catch {
      /* what came is enough */
    }
    const reason =
      answer.statusCode === 400
        ? 'BadRequest'
        : answer.statusCode === 404
          ? 'NotFound'
          : answer.statusCode === 403
            ? 'Forbidden'
            : 'InternalError';
    this.#fail(response, new ApiError(reason, text.trim().slice(0, kubeletErrorCharsMax)));
  }

  /** An upgrade: the target's answer and everything after it goes through untouched, in both directions. */
  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const abort = new AbortController();
    socket.on('error', () => abort.abort());
    try {
      const from = toApiRequest(request, undefined, abort.signal);
      const answer = (await this.#options.api.handle(from)) as ConnectResponse;
      if (answer.connect === undefined) {
        writeHttp1(socket, answer.status, answer.headers, answer.body instanceof Uint8Array ? answer.body : undefined);
        return;
      }
      this.#passUpgrade(answer.connect, from, request, socket, head);
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError('InternalError', String(error));
      writeHttp1(
        socket,
        known.code,
        { 'content-type': 'application/json' },
        Buffer.from(JSON.stringify(known.toStatus())),
      );
    }
  }

  #passUpgrade(target: ConnectTarget, from: ApiRequest, request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const make = target.scheme === 'https' ? httpsRequest : httpRequest;
    const headers = {
      ...forwardHeaders(from.headers),
      host: `${target.host}:${target.port}`,
      connection: 'Upgrade',
      upgrade: request.headers.upgrade ?? '',
    };
    const out = make({
      host: target.host,
      port: target.port,
      path: target.path,
      method: from.method,
      headers,
      timeout: upgradeConnectTimeoutMs,
      ...(target.scheme === 'https' ? { agent: target.kubelet ? this.#kubeletAgent : this.#plainAgent } : {}),
    });
    out.on('timeout', () => out.destroy(new Error('i/o timeout')));
    socket.once('close', () => out.destroy());
    out.on('upgrade', (answer, peer, peerHead) => {
      writeHead(socket, 101, answer.rawHeaders);
      peer.setTimeout?.(0);
      peer.setNoDelay?.(true);
      if (peerHead.length > 0) socket.write(peerHead);
      if (head.length > 0) peer.write(head);
      peer.pipe(socket);
      socket.pipe(peer);
      const end = (): void => {
        peer.destroy();
        socket.destroy();
      };
      peer.on('error', end).on('close', end);
      socket.on('error', end).on('close', end);
    });
    out.on('response', (answer) => {
      writeHead(socket, answer.statusCode ?? 502, withoutHop(answer.rawHeaders));
      answer.pipe(socket);
    });
    out.on('error', (error) => {
      if (!socket.destroyed)
        writeHttp1(
          socket,
          500,
          { 'content-type': 'application/json' },
          Buffer.from(
            JSON.stringify(new ApiError('InternalError', `error dialing backend: ${error.message}`).toStatus()),
          ),
        );
    });
    out.end();
  }

  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#kubeletAgent.destroy();
    this.#plainAgent.destroy();
  }
}

function withoutHop(raw: string[]): string[] {
  const out: string[] = [];
  for (let i = 0; i < raw.length; i += 2)
    if (!['transfer-encoding', 'connection', 'keep-alive'].includes(raw[i]!.toLowerCase()))
      out.push(raw[i]!, raw[i + 1]!);
  out.push('Connection', 'close');
  return out;
}

// walk exec-stream 2/5: the upgraded connection is passed on as bytes, both ways.
function writeHead(socket: Duplex, status: number, raw: readonly string[]): void {
  let text = `HTTP/1.1 ${status} ${status === 101 ? 'Switching Protocols' : 'Answer'}\r\n`;
  for (let i = 0; i < raw.length; i += 2) text += `${raw[i]}: ${raw[i + 1]}\r\n`;
  socket.write(`${text}\r\n`);
}

function writeHttp1(
  socket: Duplex,
  status: number,
  headers: Record<string, string>,
  body: Uint8Array | undefined,
): void {
  writeHead(socket, status, [
    ...Object.entries(headers).flat(),
    'Content-Length',
    String(body?.length ?? 0),
    'Connection',
    'close',
  ]);
  socket.end(body);
}

/** Listens; resolves when connections are taken. */
export async function serveHttp(options: HttpOptions): Promise<HttpServer> {
  options.api.server.callWebhook ??= createWebhookCaller(options.api.server);
  const listener = new Listener(options);
  const servers: Http2SecureServer[] = [];
  let port = options.port;
  for (const host of [options.host, ...(options.alsoListen ?? [])]) {
    const server = listener.create();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
    port = (server.address() as AddressInfo).port;
    servers.push(server);
  }
  return {
    address: options.host,
    port,
    setServing(pair) {
      for (const server of servers) server.setSecureContext(listener.secureContext(pair));
    },
    setKubeletClient: (pair) => listener.setKubeletClient(pair),
    async [Symbol.asyncDispose]() {
      const closed = servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
          }),
      );
      listener.destroy();
      await Promise.all(closed);
    },
  };
}
