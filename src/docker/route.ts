/**
 * What a resource of Docker's Engine API is made of: a table of routes. A route is a method, a path with `{name}`
 * parameters (without the `/v1.NN` prefix; a parameter that ends in `*` takes slashes, as image names have them) and a
 * handler.
 *
 * The server (server.ts) finds the route, negotiates the version and renders thrown errors: an ApiError becomes its
 * code and
 * `{message}`, anything else a 500. A handler that writes to `response` itself returns undefined.
 */
import { ApiError } from '#base/errors.ts';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

export interface RouteContext {
  request: IncomingMessage;
  /** Not there on a route with `upgrade` once the client asked for an upgrade: use `hijack`. */
  response: ServerResponse;
  params: Record<string, string>;
  query: URLSearchParams;
  /** Negotiated API version, `[1, 47]`. */
  version: [number, number];
  /** Aborted when the client goes away before the answer is complete. */
  signal: AbortSignal;
  /**
   * The request body as JSON, bounded (`jsonBodyBytesMax`); an ApiError BadRequest when it is malformed; `{}` when
   * empty.
   */
  json(): Promise<unknown>;
  /** As `json`, of a body that is a list; null and none are an empty one. */
  jsonList(): Promise<unknown[]>;
  /**
   * The raw connection, after `101 UPGRADED` (or 200 where the client did not ask). What the client sent after its body
   * is read from it.
   */
  hijack(contentType?: string): Promise<Duplex>;
  /**
   * The connection as it is, of a client that asked for another protocol, with what it sent already; who takes it also
   * answers. Throws ApiError BadRequest where the client did not ask.
   */
  upgrade(): { socket: Duplex; head: Buffer };
}

export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE' | 'HEAD';
  /** e.g. `/containers/{id}/json`, `/images/{name*}/json`. */
  path: string;
  /**
   * What is returned is sent as JSON with 200; `{status, body}` from `reply` chooses the code; undefined: the handler
   * answered.
   */
  handle(context: RouteContext): Promise<unknown>;
}

/** An answer with a status of its own; without a body for 204 and 304. */
export class Reply {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Record<string, string>;
  constructor(status: number, body?: unknown, headers: Record<string, string> = {}) {
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

export function reply(status: number, body?: unknown, headers?: Record<string, string>): Reply {
  return new Reply(status, body, headers);
}

/** Docker's booleans in queries: absent, empty, `0`, `false`, `no` and `none` are false. */
export function queryFlag(query: URLSearchParams, name: string): boolean {
  const value = (query.get(name) ?? '').trim().toLowerCase();
  return !(value === '' || value === '0' || value === 'no' || value === 'false' || value === 'none');
}

/** Docker's numbers in queries: 0 when absent. */
export function queryNumber(query: URLSearchParams, name: string): number {
  const text = query.get(name) ?? '';
  if (text === '') return 0;
  if (!/^[+-]?\d+$/.test(text))
    throw new ApiError('BadRequest', `strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  return Number(text);
}

/** `h` and `w` of a terminal, in characters. Throws BadRequest, as docker words it. */
export function terminalSize(query: URLSearchParams): { width: number; height: number } {
  const side = (name: 'height' | 'width'): number => {
    const text = query.get(name.slice(0, 1)) ?? '';
    const fail = (reason: string): never => {
      throw new ApiError('BadRequest', `invalid resize ${name} ${JSON.stringify(text)}: ${reason}`);
    };
    if (!/^-?\d+$/.test(text)) return fail('invalid syntax');
    const value = Number(text);
    return value >= 0 && value < 2 ** 32 ? value : fail('value out of range');
  };
  return { height: side('height'), width: side('width') };
}

/**
 * `filters=`: JSON of `{name: [values]}` or, from old clients, `{name: {value: true}}`.
 * Throws ApiError BadRequest on anything else.
 */
export type Filters = Map<string, string[]>;
