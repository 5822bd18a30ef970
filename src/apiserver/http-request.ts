/**
 * A message of HTTP/2 or 1.1 as an `ApiRequest`: who sent it, by its client certificate, its headers, and its body
 * within the bounds of what is held in memory.
 */
import { X509Certificate } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Http2Session, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { TLSSocket, type PeerCertificate } from 'node:tls';
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import { certificateBackdateMs } from '#base/x509.ts';
import type { Clock } from '#os/clock.ts';
import type { ProxyConfig } from './authn/request-header.ts';
import {
  chainLengthMax,
  requestBodiesBytesMax,
  requestBodiesOfUserBytesMax,
  requestBodyBytesMax,
  requestBodyMsMax,
} from './limits.ts';

export type HttpRequest = Http2Request | IncomingMessage;

/**
 * A stream of HTTP/2 that asks for something. Node's own class for it has the methods of HTTP/1.1, which cost a small
 * answer a fifth more.
 */
export class Http2Request {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: string[];

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, rawHeaders: string[]) {
    this.stream = stream;
    this.headers = headers;
    this.rawHeaders = rawHeaders;
  }

  get method(): string {
    return String(this.headers[':method']);
  }

  get url(): string {
    return this.headers[':path']?.toString() ?? '/';
  }

  get session(): Http2Session | undefined {
    return this.stream.session;
  }
}

/** Where the body is read from. */
export function bodyOf(request: HttpRequest): Readable {
  return request instanceof Http2Request ? request.stream : request;
}

/**
 * What a client asks by: the session of HTTP/2, since its `socket` is a proxy made anew at each access; else the
 * socket.
 */
export function connectionOf(request: HttpRequest): object | undefined {
  return request instanceof Http2Request ? request.session : request.socket;
}

function socketOf(request: HttpRequest): Socket | TLSSocket | undefined {
  return request instanceof Http2Request ? request.session?.socket : request.socket;
}

/** Who a client certificate is of, and since when. */
export interface Certified {
  user: UserInfo;
  certifiedAtMs: number;
}

/** Who a connection is of: a user, an authenticating proxy, or nobody that is known. */
type Peer = Certified | { isProxy: true } | Record<never, never>;
const nobody: Peer = {};

/**
 * Who connections are of, by their client certificates. Those of the cluster's authority are users; one of the proxies'
 * authority is never a user, whatever its subject says.
 */
export class Peers {
  /** By connection. */
  readonly #known = new WeakMap<object, Peer>();
  readonly #proxy: ProxyConfig | undefined;
  readonly #authority: string;

  constructor(clientCa: string, proxy: ProxyConfig | undefined) {
    this.#proxy = proxy;
    this.#authority = clientCa;
  }

  of(request: HttpRequest): Peer {
    const connection = connectionOf(request);
    if (connection === undefined) return nobody;
    const known = this.#known.get(connection);
    if (known !== undefined) return known;
    const socket = socketOf(request);
    const peer = socket instanceof TLSSocket ? this.ofSocket(socket) : nobody;
    this.#known.set(connection, peer);
    return peer;
  }

  /** Whom the certificate that was shown on a connection is of. */
  ofSocket(socket: TLSSocket): Peer {
    return socket.authorized ? this.#identify(socket) : nobody;
  }

  #identify(socket: TLSSocket): Peer {
    const proxy = this.#proxy;
    const client = certified(socket.getPeerCertificate());
    // With one authority there is nothing to tell apart: TLS has checked the chain.
    if (proxy === undefined) return client ?? nobody;
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return nobody;
    if (leadsTo(certificate, this.#authority)) return client ?? nobody;
    if (!leadsTo(certificate, proxy.ca)) return nobody;
    const { allowedNames } = proxy;
    const isAllowed = allowedNames.length === 0 || (client !== undefined && allowedNames.includes(client.user.name));
    return isAllowed ? { isProxy: true } : nobody;
  }
}

/** Whether one of the authorities in a PEM has signed the certificate, or who has signed it. */
function leadsTo(certificate: X509Certificate, pem: string): boolean {
  const authorities = (pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []).map(
    (each) => new X509Certificate(each),
  );
  let at: X509Certificate | undefined = certificate;
  for (let depth = 0; at !== undefined && depth < chainLengthMax; depth++) {
    const signed: X509Certificate = at;
    const { fingerprint256, issuerCertificate } = signed;
    if (
      authorities.some(
        (each) => each.fingerprint256 === fingerprint256 || (signed.checkIssued(each) && signed.verify(each.publicKey)),
      )
    )
      return true;
    at = issuerCertificate?.fingerprint256 === fingerprint256 ? undefined : issuerCertificate;
  }
  return false;
}

/** CN is the name, each O a group (Kubernetes, "X.509 client certificates"). */
function certified({ subject, valid_from: from = '' }: Partial<PeerCertificate>): Certified | undefined {
  const { CN, O } = subject ?? {};
  const name = Array.isArray(CN) ? CN[0] : CN;
  if (name === undefined || name === '') return undefined;
  const groups = O === undefined ? [] : [O].flat();
  return {
    user: { name, groups: [...groups, 'system:authenticated'] },
    certifiedAtMs: Date.parse(from) + certificateBackdateMs,
  };
}

function plainHeaders(request: HttpRequest, isFromProxy: boolean): Record<string, string | undefined> {
  const headers: IncomingHttpHeaders = request.headers;
  const out: Record<string, string | undefined> = {};
  let impersonates = false;
  for (const name in headers) {
    if (name.charCodeAt(0) === 58) continue; // HTTP/2 pseudo headers
    const value = headers[name];
    out[name] = Array.isArray(value) ? value.join(', ') : value;
    impersonates ||= name.startsWith('impersonate-');
  }
  if (impersonates || isFromProxy) Object.assign(out, headerLines(request.rawHeaders, isFromProxy));
  return out;
}

/** What was sent in several headers of one name is handed over as lines, since names of groups may hold commas. */
function headerLines(raw: readonly string[], all: boolean): Record<string, string> {
  const out: Record<string, string> = {};
  for (let i = 0; i < raw.length; i += 2) {
    const [header = '', value = ''] = raw.slice(i, i + 2);
    const name = header.toLowerCase();
    if (name.charCodeAt(0) !== 58 && (all || name.startsWith('impersonate-')))
      out[name] = out[name] === undefined ? value : `${out[name]}\n${value}`;
  }
  return out;
}

/** Bodies that are held in memory: by everybody, and by each user. */
export class BodyBudget {
  #held = 0;
  readonly #byUser = new Map<string, number>();

  /**
   * Reads a body, piece by piece against the bounds; `release` gives back what it took. Throws RequestEntityTooLarge,
   * TooManyRequests, Timeout.
   */
  async read(
    request: HttpRequest,
    user: string,
    clock: Clock,
    release: (give: () => void) => void,
  ): Promise<Uint8Array> {
    let taken = 0;
    const body = bodyOf(request);
    release(() => {
      this.#add(user, -taken);
      taken = 0;
    });
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > requestBodyBytesMax) throw tooLarge();
    const late = clock.setTimer(
      requestBodyMsMax,
      () => {
        body.destroy(new ApiError('Timeout', `the request's body did not arrive within ${requestBodyMsMax / 1000} s`));
      },
      { background: true },
    );
    try {
      const parts = await partsOf(body, (part) => {
        taken += part.length;
        this.#add(user, part.length);
        if (taken > requestBodyBytesMax) throw tooLarge();
        if (this.#held > requestBodiesBytesMax || (this.#byUser.get(user) ?? 0) > requestBodiesOfUserBytesMax)
          throw new ApiError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 });
      });
      const [only] = parts;
      return only !== undefined && parts.length === 1 ? only : Buffer.concat(parts);
    } finally {
      late.cancel();
    }
  }

  #add(user: string, bytes: number): void {
    this.#held += bytes;
    const now = (this.#byUser.get(user) ?? 0) + bytes;
    if (now === 0) this.#byUser.delete(user);
    else this.#byUser.set(user, now);
  }
}

/**
 * The pieces of a body, each of which `take` may refuse by throwing: no more is read then. By events, since an iterator
 * costs a small body twice as much.
 */
function partsOf(body: Readable, take: (part: Buffer) => void): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const fail = (error: unknown): void => {
      body.off('data', onData).pause();
      reject(error);
    };
    const onData = (part: Buffer): void => {
      try {
        take(part);
        parts.push(part);
      } catch (error) {
        fail(error);
      }
    };
    const close = (): void => {
      if (!body.readableEnded) fail(new ApiError('BadRequest', 'the request ended before its body did'));
    };
    body
      .on('data', onData)
      .once('end', () => resolve(parts))
      .once('error', fail)
      .once('close', close);
    // The client has gone while it waited for its turn: nothing will be told any more.
    if (body.destroyed) close();
  });
}

function tooLarge(): ApiError {
  return new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${requestBodyBytesMax}`);
}

/** What the transport knows beside the message. */
interface Received {
  readBody: ApiRequest['readBody'];
  /** Aborted when the client goes. Asked for only where somebody listens: making one is dear. */
  signal: () => AbortSignal;
  peers: Peers;
}

// walk kubectl-apply 1/8: a message of HTTP/2 or 1.1 becomes an `ApiRequest`, with the client certificate as its user.
export function toApiRequest(request: HttpRequest, { readBody, signal, peers }: Received): ApiRequest {
  const url = request.url ?? '/';
  const cut = url.indexOf('?');
  const peer = peers.of(request);
  const isFromProxy = 'isProxy' in peer;
  return {
    method: request.method ?? 'GET',
    path: cut < 0 ? url : url.slice(0, cut),
    query: new URLSearchParams(cut < 0 ? '' : url.slice(cut + 1)),
    headers: plainHeaders(request, isFromProxy),
    ...(readBody === undefined ? {} : { readBody }),
    ...('user' in peer ? peer : {}),
    ...(isFromProxy ? { isFromProxy } : {}),
    get remoteAddress() {
      return socketOf(request)?.remoteAddress ?? '';
    },
    get signal() {
      return signal();
    },
  };
}
