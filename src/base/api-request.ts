/**
 * One API request and its answer, independent of the transport: the HTTP server makes them from sockets, the in-process
 * client makes them directly. Both enter the same request chain (`apiserver/chain.ts`).
 */
import type { WatchEvent } from './objects.ts';

export interface UserInfo {
  name: string;
  uid?: string;
  groups: string[];
  extra?: Record<string, string[]>;
}

export interface ApiRequest {
  method: string;
  /** Path without the query: `/api/v1/namespaces/default/pods/a`. */
  path: string;
  query: URLSearchParams;
  /** Names in lower case. */
  headers: Record<string, string | undefined>;
  body?: Uint8Array;
  /**
   * Reads the body once the caller is known and allowed, for a transport that has not yet. Throws RequestEntityTooLarge
   * and TooManyRequests.
   */
  readBody?(user: UserInfo): Promise<Uint8Array>;
  /** In-process callers pass an already parsed body; the chain copies before it changes anything. */
  object?: unknown;
  /**
   * Set by the transport from a client certificate, or by an in-process caller. Absent: the chain authenticates by
   * headers.
   */
  user?: UserInfo;
  /** The transport has found that an authenticating proxy sends it: its headers may say who asks. */
  isFromProxy?: boolean;
  /** When the client certificate that `user` is of was issued, in milliseconds since 1970. */
  certifiedAtMs?: number;
  /** The client's address, for audit and `selfsubjectreviews`. */
  remoteAddress?: string;
  /** Aborted when the client goes away. */
  signal: AbortSignal;
  /** In-process callers: answer with `object` / `events` (shared and frozen) in place of bytes. */
  wantsObject?: boolean;
}

export interface ApiResponse {
  status: number;
  headers: Record<string, string>;
  /** Whole body, or a stream of chunks; each chunk of a watch holds whole events. */
  body?: Uint8Array | AsyncIterable<Uint8Array>;
  /** An object, a list, or what else the path answers with. */
  object?: object;
  /** Of a watch, those that are there together in one go. */
  events?: AsyncIterable<WatchEvent[]>;
}

export type ApiHandler = (request: ApiRequest) => Promise<ApiResponse>;
