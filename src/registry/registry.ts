/**
 * The registry's HTTP face: OCI distribution 1.1 on the engine's own blob store.
 *
 * Invariants: a digest is believed only after it was computed here; nothing is written without an identity that may write; bodies stream to
 * disk and manifests are bounded. Errors have the specification's codes. With `?ns=`, which only the platform's engines may use, names and
 * blobs of the engine itself are served, so that other nodes run what was built on this one.
 *
 * Specification: opencontainers/distribution-spec v1.1 ("end-1" … "end-13").
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ApiError } from '#base/errors.ts';
import { isRepositoryPath } from '#base/reference.ts';
import { DigestError } from '#content/blobs.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { manifestBytesMax } from '#content/limits.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import type { Access, Identity } from './access.ts';
import { handleBlob, handleUpload } from './blobs.ts';
import { RegistryError } from './errors.ts';
import { handleManifest, handleReferrers } from './manifests.ts';
import { pageItemsMax } from './limits.ts';
import { createRepositories } from './repositories.ts';
import type { Repositories } from './repositories.ts';

export interface RegistryOptions {
  content: Content;
  images: ImageRecords;
  access: Access;
  log: Logger;
  clock: Clock;
  /** Names under which clients know this registry: `127.0.0.1:5000`, `localhost:5000`, `10.0.0.5:5000`. */
  domains: string[];
  /** Brings a name that an engine of the platform asks for and that is not here, from where this node would take it; rejects when it cannot. */
  bring?: (canonicalName: string) => Promise<unknown>;
}

export interface Registry {
  /** For `http.createServer`. Never rejects. */
  handle(request: IncomingMessage, response: ServerResponse): void;
  readonly repositories: Repositories;
  /** The engine's side (engine/images.ts `LocalRegistry`). */
  readonly local: {
    owns(domain: string): boolean;
    resolve(path: string, tagOrDigest: string): string | undefined;
    holds(manifestDigest: string): boolean;
    publish(path: string, tag: string | undefined, manifestDigest: string): Promise<{ newBlobs: Set<string>; sizeBytes: number }>;
  };
}

export interface Call {
  request: IncomingMessage;
  response: ServerResponse;
  url: URL;
  method: string;
  path: string;
  identity: Identity | undefined;
  content: Content;
  images: ImageRecords;
  repositories: Repositories;
  /** Set for an engine of the platform that asks on behalf of another registry's name. */
  mirrorOf: string | undefined;
  bring: ((canonicalName: string) => Promise<unknown>) | undefined;
}

const route = /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests|tags|referrers)\/([^/]*)$/;

export function send(response: ServerResponse, status: number, headers: Record<string, string | number> = {}, body?: Uint8Array | string): void {
  response.writeHead(status, { 'docker-distribution-api-version': 'registry/2.0', ...(body === undefined && status !== 204 && headers['content-length'] === undefined ? { 'content-length': 0 } : {}), ...headers });
  response.end(body);
}

export function sendJson(response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void {
  const body = Buffer.from(JSON.stringify(value));
  send(response, status, { 'content-type': 'application/json', 'content-length': body.length, ...headers }, body);
}

/** A slice of a sorted list after `last`, with the link to the next one. */
export function page(call: { url: URL }, items: string[]): { items: string[]; headers: Record<string, string> } {
  const last = call.url.searchParams.get('last');
  const wanted = call.url.searchParams.get('n');
  if (wanted !== null && !/^\d{1,9}$/.test(wanted)) throw new RegistryError('PAGINATION_NUMBER_INVALID');
  const count = Math.min(wanted === null ? pageItemsMax : Number(wanted), pageItemsMax);
  const lower = last?.toLowerCase();
  const rest = last === null ? items : items.filter((item) => { const own = item.toLowerCase(); return own > lower! || (own === lower && item > last); });
  const shown = rest.slice(0, count);
  const isMore = rest.length > shown.length && shown.length > 0;
  return { items: shown, headers: isMore ? { link: `<${call.url.pathname}?last=${encodeURIComponent(shown.at(-1)!)}&n=${count}>; rel="next"` } : {} };
}

class HttpRegistry implements Registry {
  readonly repositories: Repositories;
  readonly #options: RegistryOptions;
  constructor(options: RegistryOptions) {
    this.#options = options;
    this.repositories = createRepositories(options.content, options.images, options.clock, options.log.child('registry'));
  }

  readonly local = {
    owns: (domain: string): boolean => this.#options.domains.includes(domain),
    resolve: (path: string, tagOrDigest: string): string | undefined => this.repositories.resolve(path, tagOrDigest),
    holds: (manifestDigest: string): boolean => this.repositories.holds(manifestDigest),
    publish: async (path: string, tag: string | undefined, manifestDigest: string): Promise<{ newBlobs: Set<string>; sizeBytes: number }> => {
      const bytes = await this.#options.content.blobs.readBytes(manifestDigest, manifestBytesMax);
      const { newBlobs, record } = await this.repositories.putManifest(path, tag === undefined ? [] : [tag], manifestDigest, bytes, undefined, { linkBlobs: true });
      return { newBlobs, sizeBytes: record.sizeBytes };
    },
  };

  handle(request: IncomingMessage, response: ServerResponse): void {
    this.#handle(request, response).catch((error: unknown) => this.#fail(request, response, error));
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) { response.destroy(); return; }
    const made = this.#toRegistryError(error);
    if (made.code === 'UNKNOWN') this.#options.log.error('a registry request failed', { url: request.url, error });
    const body = made.toBody();
    // What is left of the body is not read: the connection cannot be used again.
    const isUnread = !request.readableEnded && (request.headers['content-length'] ?? '0') !== '0';
    send(response, made.status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...(isUnread ? { connection: 'close' } : {}), ...made.headers }, request.method === 'HEAD' ? undefined : body);
    request.resume();
  }

  #toRegistryError(error: unknown): RegistryError {
    if (error instanceof RegistryError) return error;
    if (error instanceof DigestError) return new RegistryError(error.message.includes('size') || error.message.includes('longer') ? 'SIZE_INVALID' : 'DIGEST_INVALID');
    if (error instanceof ApiError) {
      if (error.reason === 'TooManyRequests') return new RegistryError('TOOMANYREQUESTS', error.message);
      if (error.reason === 'RequestEntityTooLarge') return new RegistryError('MANIFEST_INVALID', error.message, { status: 413 });
      if (error.reason === 'NotFound') return new RegistryError('BLOB_UNKNOWN', error.message);
      if (error.reason === 'BadRequest') return new RegistryError('DIGEST_INVALID', error.message);
    }
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return new RegistryError('UNKNOWN', 'no space left on device', { status: 507 });
    return new RegistryError('UNKNOWN', error instanceof Error ? error.message : String(error));
  }

  async #authorize(request: IncomingMessage): Promise<Identity | undefined> {
    const header = request.headers.authorization;
    const identity = await this.#options.access.identify(header);
    if (identity !== undefined) return identity;
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    if (header === undefined && isRead && this.#options.access.mayPullAnonymously(request.socket.remoteAddress)) return undefined;
    throw new RegistryError('UNAUTHORIZED', header === undefined ? 'authentication required' : 'invalid username or password', { headers: { 'www-authenticate': 'Basic realm="Tiphys registry", charset="UTF-8"' } });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://registry');
    const method = request.method ?? 'GET';
    if (!url.pathname.startsWith('/v2')) { send(response, url.pathname === '/' ? 200 : 404); return; }
    const identity = await this.#authorize(request);
    if (url.pathname === '/v2/' || url.pathname === '/v2') {
      // `docker login` has to be told that a name is needed where pulls are open.
      if (method !== 'GET' && method !== 'HEAD') throw new RegistryError('UNSUPPORTED');
      sendJson(response, 200, {});
      return;
    }
    if (method !== 'GET' && method !== 'HEAD' && identity?.canWrite !== true) throw new RegistryError('DENIED');
    if (url.pathname === '/v2/_catalog') { const { items, headers } = page({ url }, this.repositories.names()); sendJson(response, 200, { repositories: items }, headers); return; }
    const match = route.exec(url.pathname);
    if (match === null) throw new RegistryError('NAME_UNKNOWN', 'no such endpoint');
    const [, path, kind, rest] = match as unknown as [string, string, string, string];
    if (!isRepositoryPath(path)) throw new RegistryError('NAME_INVALID');
    const mirrorOf = identity?.isInternal === true ? (url.searchParams.get('ns') ?? undefined) : undefined;
    const call: Call = { request, response, url, method, path, identity, content: this.#options.content, images: this.#options.images, repositories: this.repositories, mirrorOf, bring: this.#options.bring };
    switch (kind) {
      case 'manifests': await handleManifest(call, decodeURIComponent(rest)); break;
      case 'blobs': if (rest === 'uploads') await handleUpload(call, ''); else await handleBlob(call, rest); break;
      case 'blobs/uploads': await handleUpload(call, rest); break;
      case 'referrers': handleReferrers(call, rest); break;
      default: this.#tags(call, rest);
    }
  }

  #tags(call: Call, rest: string): void {
    if (rest !== 'list') throw new RegistryError('NAME_UNKNOWN');
    if (call.method !== 'GET') throw new RegistryError('UNSUPPORTED');
    if (!this.repositories.exists(call.path)) throw new RegistryError('NAME_UNKNOWN');
    const { items, headers } = page(call, this.repositories.tags(call.path));
    sendJson(call.response, 200, { name: call.path, tags: items }, headers);
  }
}

export function createRegistry(options: RegistryOptions): Registry { return new HttpRegistry(options); }
