/**
 * A message of HTTP/2 or 1.1 as an `ApiRequest`: who sent it, by its client certificate, its headers, and its body
 * within the bounds of what is held in memory.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { TLSSocket, type PeerCertificate } from 'node:tls';
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import { certificateBackdateMs } from '#base/x509.ts';
import type { Clock } from '#os/clock.ts';
import { requestBodiesBytesMax, requestBodiesOfUserBytesMax, requestBodyBytesMax, requestBodyMsMax } from './limits.ts';

export type HttpRequest = Http2ServerRequest | IncomingMessage;

/** Who a client certificate is of, and since when. */
export interface Certified {
  user: UserInfo;
  certifiedAtMs: number;
}

/** By connection: the session of HTTP/2, since its `socket` is a proxy made anew at each access; else the socket. */
const users = new WeakMap<object, Certified | null>();

/** Who a connection is of, by its client certificate. */
function clientOf(request: HttpRequest): Certified | undefined {
  const session = 'stream' in request ? request.stream?.session : undefined;
  const connection = session ?? request.socket;
  if (connection === undefined || connection === null) return undefined;
  const known = users.get(connection);
  if (known !== undefined) return known ?? undefined;
  const socket = session?.socket ?? request.socket;
  const client = socket instanceof TLSSocket ? certifiedBy(socket) : undefined;
  users.set(connection, client ?? null);
  return client;
}

/** Whom the certificate that was shown on a connection is of; undefined where none was that holds. */
export function certifiedBy(socket: TLSSocket): Certified | undefined {
  return socket.authorized ? certified(socket.getPeerCertificate()) : undefined;
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

function plainHeaders(request: HttpRequest): Record<string, string | undefined> {
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
    const [header = '', value = ''] = raw.slice(i, i + 2);
    const name = header.toLowerCase();
    if (name.startsWith('impersonate-')) out[name] = out[name] === undefined ? value : `${out[name]}\n${value}`;
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
      // Nobody has set an encoding: pieces are bytes.
      const pieces: AsyncIterable<Buffer> = request;
      for await (const part of pieces) {
        taken += part.length;
        this.#add(user, part.length);
        if (taken > requestBodyBytesMax) throw tooLarge();
        if (this.#held > requestBodiesBytesMax || (this.#byUser.get(user) ?? 0) > requestBodiesOfUserBytesMax)
          throw new ApiError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 });
        parts.push(part);
      }
    } finally {
      late.cancel();
    }
    const [only] = parts;
    return only !== undefined && parts.length === 1 ? only : Buffer.concat(parts);
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
export function toApiRequest(request: HttpRequest, readBody: ApiRequest['readBody'], signal: AbortSignal): ApiRequest {
  const url = request.url ?? '/';
  const cut = url.indexOf('?');
  const client = clientOf(request);
  return {
    method: request.method ?? 'GET',
    path: cut < 0 ? url : url.slice(0, cut),
    query: new URLSearchParams(cut < 0 ? '' : url.slice(cut + 1)),
    headers: plainHeaders(request),
    ...(readBody === undefined ? {} : { readBody }),
    ...client,
    remoteAddress: request.socket?.remoteAddress ?? '',
    signal,
  };
}
