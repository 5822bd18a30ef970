/**
 * Docker's Engine API on unix sockets, TCP (with TLS, where the engine has a certificate) and sockets that systemd
 * opened: finds the route, negotiates the version, renders errors, hands over raw connections. No resource's logic is
 * here; each has a file of its own with a table of routes (route.ts).
 *
 * Versions 1.24 to 1.56, as moby speaks them (its API's change log).
 */
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { ApiError, toApiError } from '#base/errors.ts';
import { describeSyntaxError } from '#base/json.ts';
import { onceClosed } from '#base/streams.ts';
import type { Logger } from '#observe/log.ts';
import { openSocketPath } from '#os/unix-socket.ts';
import { apiConnectionsMax, jsonBodyBytesMax } from './server-limits.ts';
import type { Authorizer } from './authz.ts';
import { compileRoutes, matchRoute } from './match.ts';
import { Reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';

const apiMinorMax = 56;
export const apiVersion = `1.${apiMinorMax}`;
/** The first Docker Engine that has this API: scripts and clients ask whether an engine is new enough. */
const dockerVersion = '29.9.0';
export const apiVersionMin = '1.24';

/** As a distribution marks its own build of docker: `29.9.0+tiphys0.1.0`. */
export function engineVersionOf(tiphysVersion: string): string {
  return `${dockerVersion}+tiphys${tiphysVersion}`;
}

/** Where it listens. */
export type Listen =
  /** For the group, root's where none is given. */
  | { type: 'unix'; path: string; groupId?: number }
  | { type: 'tcp'; address: string; port: number; tls?: ServerTls }
  /** Open already, as systemd hands it over. */
  | { type: 'fd'; descriptor: number; tls?: ServerTls };

/** In PEM. With an authority only those come in who have a certificate of it. */
export interface ServerTls {
  certificate: string;
  key: string;
  clientAuthority?: string;
}

export interface DockerServerOptions {
  listen: readonly Listen[];
  routes: Route[];
  log: Logger;
  serverVersion: string;
  /** As the answers' header tells it; absent: never. */
  isExperimental?: () => boolean;
  /** Takes over connections that speak HTTP/2 from the first byte: clients of BuildKit alone. */
  serveHttp2?: (socket: Duplex) => void;
  /** Absent: whoever reaches the socket may do everything. */
  authorizer?: Authorizer;
}
export interface DockerServer {
  readonly servers: readonly Server[];
  close(): Promise<void>;
}

export async function createDockerServer(options: DockerServerOptions): Promise<DockerServer> {
  const routes = compileRoutes(options.routes);
  const log = options.log.child('docker');
  const { serverVersion, isExperimental, authorizer, serveHttp2 } = options;
  const common = { routes, log, serverVersion, isExperimental, authorizer };
  const handle: Handle = (request, response, raw) => void serve({ request, response, raw, ...common });
  await using opened = new AsyncDisposableStack();
  const servers: Server[] = [];
  for (const listen of options.listen) {
    const { server, close } = makeServer(handle, listen.type === 'unix' ? undefined : listen.tls);
    opened.defer(close);
    // Over TLS a client of BuildKit would have to be told by ALPN; it upgrades, as docker does.
    const isPlain = listen.type === 'unix' || listen.tls === undefined;
    if (isPlain && serveHttp2 !== undefined)
      divertHttp2(server, (socket) => {
        // Its calls pass nobody who authorises: such a client has to upgrade, which is a request like any other.
        if (authorizer?.isNeeded() === true) socket.destroy();
        else serveHttp2(socket);
      });
    await startListening(server, listen);
    servers.push(server);
  }
  const owned = opened.move();
  return { servers, close: () => owned.disposeAsync() };
}

type Handle = (
  request: IncomingMessage,
  response: ServerResponse | undefined,
  raw: { socket: Duplex; head: Buffer } | undefined,
) => void;

const timeouts = { keepAliveTimeout: 60_000, requestTimeout: 0, headersTimeout: 60_000, highWaterMark: 64 * 1024 };

function makeServer(handle: Handle, tls: ServerTls | undefined): { server: Server; close(): Promise<void> } {
  const answer = (request: IncomingMessage, response: ServerResponse): void => handle(request, response, undefined);
  const server: Server =
    tls === undefined
      ? createServer(timeouts, answer)
      : createSecureServer(
          {
            ...timeouts,
            cert: tls.certificate,
            key: tls.key,
            minVersion: 'TLSv1.2',
            // A client that has said all its input still reads.
            allowHalfOpen: true,
            ...(tls.clientAuthority === undefined
              ? {}
              : { ca: tls.clientAuthority, requestCert: true, rejectUnauthorized: true }),
          },
          answer,
        );
  server.maxConnections = apiConnectionsMax;
  server.on('upgrade', (request, socket, head) => {
    // What asks for HTTP/2 over the plain connection only offers it: it is answered as HTTP/1.
    handle(request, undefined, { socket, head });
  });
  // Hijacked connections are no longer the server's own: they are ended by hand.
  const sockets = new Set<Duplex>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('clientError', (_error, socket) => {
    if (!socket.destroyed) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  });
  return {
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function startListening(server: Server, listen: Listen): Promise<void> {
  if (listen.type === 'unix') {
    const group = listen.groupId === undefined ? {} : { groupId: listen.groupId };
    return openSocketPath(server, listen.path, { mode: 0o660, ...group });
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    const done = (): void => {
      server.off('error', reject);
      resolve();
    };
    if (listen.type === 'fd') server.listen({ fd: listen.descriptor }, done);
    else server.listen(listen.port, listen.address, done);
  });
}

/** Looks at the first bytes of each connection before the server does: its parser gives no connection back. */
function divertHttp2(server: Server, serveHttp2: (socket: Duplex) => void): void {
  const preface = Buffer.from('PRI * HTTP/2.0\r\n');
  const serveHttp = server.listeners('connection');
  server.removeAllListeners('connection');
  server.on('connection', (socket) => {
    let head = Buffer.alloc(0);
    const onError = (): void => void socket.destroy();
    const look = (data: Buffer): void => {
      head = Buffer.concat([head, data]);
      const isHttp2 = preface.subarray(0, head.length).equals(head.subarray(0, preface.length));
      if (isHttp2 && head.length < preface.length) return;
      socket.off('data', look);
      socket.off('error', onError);
      socket.setTimeout(0);
      socket.off('timeout', onError);
      socket.pause();
      socket.unshift(head);
      if (isHttp2) serveHttp2(socket);
      else for (const listener of serveHttp) listener.call(server, socket);
      if (!isHttp2) socket.resume();
    };
    socket.on('error', onError);
    socket.on('data', look);
    socket.setTimeout(timeouts.headersTimeout);
    socket.on('timeout', onError);
  });
}

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse | undefined;
  raw: { socket: Duplex; head: Buffer } | undefined;
  routes: ReturnType<typeof compileRoutes>;
  log: Logger;
  serverVersion: string;
  isExperimental: (() => boolean) | undefined;
  authorizer: Authorizer | undefined;
}

// walk docker-run 1/7: the request is matched to a route, and whatever is thrown becomes docker's `{message}`.
async function serve(exchange: Exchange): Promise<void> {
  const { request, log } = exchange;
  let url = new URL('http://docker/');
  let context: ServedContext | undefined;
  try {
    url = parseTarget(request.url ?? '/');
    const { path, version } = splitVersion(decodePath(url.pathname));
    // No name and no path of the system has one; as a C string it would end there.
    if (path.includes('\0') || [...url.searchParams].some((pair) => pair.some((text) => text.includes('\0'))))
      throw new ApiError('BadRequest', "invalid character NUL in the request's path or query");
    const found = matchRoute(exchange.routes, request.method ?? 'GET', path);
    if (found === undefined) throw new ApiError('NotFound', 'page not found');
    context = makeContext(exchange, found.params, url.searchParams, version);
    const { authorizer } = exchange;
    const authorized = authorizer?.isNeeded() === true ? await authorizer.check(request, context.body) : undefined;
    const result = await found.route.handle(context);
    if (context.answered()) return;
    const { status, body } = result instanceof Reply ? result : { status: 200, body: result };
    await authorized?.checkAnswer(status, body === undefined ? undefined : JSON.stringify(body));
    sendResult(exchange, result);
  } catch (error) {
    const known = toApiError(error);
    // What is refused on purpose needs no stack; a fault of the program's own does.
    if (known.code >= 500)
      log.warn('a request failed', {
        method: request.method,
        path: url.pathname,
        error: error instanceof ApiError ? error.message : error,
      });
    if (context?.answered() === true) {
      abandon(exchange);
      return;
    }
    sendJson(exchange, known.code, known.toDocker());
  }
}

/** `//` at the beginning is a path here, not a host. */
function parseTarget(target: string): URL {
  try {
    return new URL(`http://docker${target.startsWith('/') ? '' : '/'}${target}`);
  } catch {
    throw new ApiError('BadRequest', 'invalid request target');
  }
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new ApiError('BadRequest', 'invalid URL escape');
  }
}

/** `/v1.41/containers/json`; without a version the newest is meant. */
function splitVersion(path: string): { path: string; version: [number, number] } {
  const match = /^\/v(\d+)\.(\d+)(\/.*)$/.exec(path);
  if (match === null) return { path, version: [1, apiMinorMax] };
  const version: [number, number] = [Number(match[1]), Number(match[2])];
  if (version[0] !== 1 || version[1] > apiMinorMax)
    throw new ApiError(
      'BadRequest',
      `client version ${version.join('.')} is too new. Maximum supported API version is ${apiVersion}`,
    );
  if (version[1] < 24)
    throw new ApiError(
      'BadRequest',
      `client version ${version.join('.')} is too old. Minimum supported API version is ${apiVersionMin}, please upgrade your client to a newer version`,
    );
  return { path: match[3]!, version };
}

function headersOf({ serverVersion, isExperimental }: Exchange): Record<string, string> {
  return {
    'Api-Version': apiVersion,
    'Docker-Experimental': String(isExperimental?.() ?? false),
    Ostype: 'linux',
    Server: `Docker/${serverVersion} (linux)`,
  };
}

interface ServedContext extends RouteContext {
  answered(): boolean;
  /** Read once; the handler reads it too. */
  body(): Promise<Buffer>;
}

function makeContext(
  exchange: Exchange,
  params: Record<string, string>,
  query: URLSearchParams,
  version: [number, number],
): ServedContext {
  const { request, raw } = exchange;
  const aborted = new AbortController();
  let hijacked = false;
  const connection = raw?.socket ?? request.socket;
  const abort = (): void => aborted.abort();
  const forget = onceClosed(connection, abort);
  connection.on('error', abort);
  // A connection outlives its requests: what listens for one of them goes with its answer. One that was handed over has
  // no answer.
  const { response } = exchange;
  if (response !== undefined)
    onceClosed(response, () => {
      if (!response.writableFinished) abort();
      forget();
      connection.off('error', abort);
    });
  // Node hands over the body of an upgraded request with the request, and only what follows with the connection.
  let body: Promise<Buffer> | undefined;
  const readOnce = (): Promise<Buffer> => (body ??= readBody(request));
  return {
    request,
    response: exchange.response ?? lazyResponse(exchange),
    params,
    query,
    version,
    signal: aborted.signal,
    body: readOnce,
    async json() {
      const body = parseJson(await readOnce(), request.headers);
      if (typeof body !== 'object' || body === null || Array.isArray(body))
        throw new ApiError(
          'BadRequest',
          body === null
            ? 'invalid JSON: got null'
            : `invalid JSON: json: cannot unmarshal ${Array.isArray(body) ? 'array' : typeof body} into Go value of type struct`,
        );
      return body;
    },
    async jsonList() {
      const bytes = await readOnce();
      const body = bytes.length === 0 ? [] : (parseJson(bytes, request.headers) ?? []);
      if (Array.isArray(body)) return body;
      throw new ApiError('BadRequest', 'invalid JSON: json: cannot unmarshal object into Go value of type []');
    },
    async hijack(contentType) {
      if (raw !== undefined) await readOnce();
      hijacked = true;
      return hijackConnection(exchange, contentType ?? 'application/vnd.docker.raw-stream');
    },
    upgrade() {
      if (raw === undefined) throw new ApiError('BadRequest', 'the client did not ask for another protocol');
      hijacked = true;
      return raw;
    },
    answered: () => hijacked || exchange.response?.headersSent === true,
  };
}

/** A route that never hijacks may be asked with an upgrade header: its answer is an ordinary one. */
function lazyResponse(exchange: Exchange): ServerResponse {
  return new Proxy({} as ServerResponse, {
    get: () => {
      throw new ApiError('BadRequest', `cannot upgrade ${exchange.request.url ?? ''}`);
    },
  });
}

function readBody(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let size = 0;
    request.on('data', (part: Buffer) => {
      size += part.length;
      if (size > jsonBodyBytesMax) {
        parts.length = 0;
        reject(new ApiError('RequestEntityTooLarge', 'http: request body too large'));
        return;
      }
      parts.push(part);
    });
    request.once('end', () => resolve(Buffer.concat(parts)));
    // A client that goes away in the middle of its body.
    onceClosed(request, () => {
      if (!request.readableEnded) reject(new ApiError('BadRequest', 'unexpected EOF'));
    });
    request.once('error', reject);
  });
}

/**
 * Objects without a prototype: a name that a client chose (`constructor`) finds what the client sent, or nothing. An
 * integer beyond 64 bits becomes one that no field takes, where a double would have hidden how far beyond it is.
 */
const readValue = ((key: string, value: unknown, context?: { source?: string }): unknown => {
  if (key === '__proto__') return undefined;
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return Object.setPrototypeOf(value, null) as object;
  if (
    typeof value === 'number' &&
    !Number.isSafeInteger(value) &&
    Number.isInteger(value) &&
    !isInt64(context?.source ?? '')
  )
    return value < 0 ? -Infinity : Infinity;
  return value;
}) as (key: string, value: unknown) => unknown;

function isInt64(text: string): boolean {
  return /^-?\d{1,20}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text);
}

/** As dockerd reads a body (httputils.ReadJSON): one that is not there is an empty request. */
function parseJson(bytes: Buffer, headers: IncomingMessage['headers']): unknown {
  const type = headers['content-type'] ?? '';
  const isThere = bytes.length > 0 || headers['transfer-encoding'] !== undefined;
  if (!isThere && type === '') return {};
  const media = /^\s*([\w.+-]+\/[\w.+-]+)\s*(?:;|$)/.exec(type)?.[1];
  if (media === undefined)
    throw new ApiError(
      'BadRequest',
      `malformed Content-Type header (${type}): mime: ${type === '' ? 'no media type' : 'expected slash after first token'}`,
    );
  if (media.toLowerCase() !== 'application/json')
    throw new ApiError('BadRequest', `unsupported Content-Type header (${type}): must be 'application/json'`);
  if (!isThere) return {};
  const text = bytes.toString('utf8').trim();
  if (text === '') throw new ApiError('BadRequest', 'invalid JSON: got EOF while reading request body');
  try {
    return JSON.parse(text, readValue);
  } catch (error) {
    const wrong = describeSyntaxError(text, error);
    throw new ApiError('BadRequest', wrong.startsWith('unexpected content') ? wrong : `invalid JSON: ${wrong}`);
  }
}

function hijackConnection(exchange: Exchange, contentType: string): Duplex {
  const { request, raw, response } = exchange;
  const socket = raw?.socket ?? request.socket;
  const upgraded = raw !== undefined;
  if (raw !== undefined && raw.head.length > 0) socket.unshift(raw.head);
  if (!upgraded) {
    response!.detachSocket(request.socket);
    request.socket.removeAllListeners('timeout');
  }
  const lines = upgraded
    ? [
        'HTTP/1.1 101 UPGRADED',
        `Content-Type: ${contentType}`,
        'Connection: Upgrade',
        `Upgrade: ${request.headers.upgrade ?? 'tcp'}`,
      ]
    : ['HTTP/1.1 200 OK', `Content-Type: ${contentType}`];
  socket.write(
    `${[...lines, `Api-Version: ${apiVersion}`, 'Ostype: linux', `Server: Docker/${exchange.serverVersion} (linux)`].join('\r\n')}\r\n\r\n`,
  );
  return socket;
}

function abandon(exchange: Exchange): void {
  exchange.response?.destroy();
  exchange.raw?.socket.destroy();
}

function sendResult(exchange: Exchange, result: unknown): void {
  if (result instanceof Reply) {
    if (typeof result.body === 'string')
      return sendText(exchange, result.status, result.body, {
        'Content-Type': 'text/plain; charset=utf-8',
        ...result.headers,
      });
    return sendJson(exchange, result.status, result.body, result.headers);
  }
  if (result === undefined && exchange.response !== undefined) {
    if (!exchange.response.writableEnded) exchange.response.end();
    return;
  }
  sendJson(exchange, 200, result === undefined ? {} : result);
}

function sendJson(exchange: Exchange, status: number, body: unknown, headers: Record<string, string> = {}): void {
  if (body === undefined || status === 204 || status === 304) return sendText(exchange, status, '', headers);
  sendText(exchange, status, `${JSON.stringify(body)}\n`, { 'Content-Type': 'application/json', ...headers });
}

function sendText(exchange: Exchange, status: number, text: string, headers: Record<string, string>): void {
  const all: Record<string, string> = { ...headersOf(exchange), ...headers };
  if (exchange.response !== undefined) {
    if (exchange.response.destroyed) return;
    const bytes = Buffer.from(text);
    // What is still to come of the body is not read: the connection ends with the answer.
    const rest = status === 413 ? { Connection: 'close' } : {};
    exchange.response.writeHead(status, {
      ...all,
      ...rest,
      ...(status === 204 || status === 304 ? {} : { 'Content-Length': bytes.length }),
    });
    exchange.response.end(exchange.request.method === 'HEAD' ? undefined : bytes);
    return;
  }
  const head = [
    `HTTP/1.1 ${status} ${status === 404 ? 'Not Found' : status === 409 ? 'Conflict' : status >= 500 ? 'Internal Server Error' : status >= 400 ? 'Bad Request' : 'OK'}`,
    ...Object.entries(all).map(([name, value]) => `${name}: ${value}`),
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
  ];
  exchange.raw!.socket.end(`${head.join('\r\n')}\r\n\r\n${text}`);
}
