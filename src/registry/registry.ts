/**
 * The registry's HTTP face: OCI distribution 1.1 on the engine's own blob store.
 *
 * Invariants: a digest is believed only after it was computed here; nothing is written without an identity that may
 * write there (`access.ts`); bodies stream to disk and manifests are bounded. `/v2/` itself always asks who is there,
 * also where pulls are open: most clients look only there whether a registry wants a credential, and send none
 * elsewhere. They are sent for a token, which is given without a password to those who may pull without one. Errors
 * have the specification's codes. With `?ns=`, which only the platform's engines may use, names and blobs of the engine
 * itself are served, so that other nodes run what was built on this one.
 *
 * Specification: opencontainers/distribution-spec v1.1 ("end-1" … "end-13").
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ApiError } from '#base/errors.ts';
import { isRepositoryPath } from '#base/reference.ts';
import type { NodeCertificate } from '#base/node-identity.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { DigestError, UploadGoneError } from '#content/blobs.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { manifestBytesMax } from '#content/limits.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { mayWrite } from './access.ts';
import type { Access, Identity } from './access.ts';
import { handleBlob, handleUpload } from './blobs.ts';
import { send, sendJson } from './call.ts';
import type { Call } from './call.ts';
import { RegistryError } from './errors.ts';
import { pageItemsMax } from './limits.ts';
import { handleManifest, handleReferrers } from './manifests.ts';
import { createRepositories } from './repositories.ts';
import type { Repositories } from './repositories.ts';
import { engineOf, isSecure } from './connection.ts';

export interface RegistryOptions {
  content: Content;
  images: ImageRecords;
  access: Access;
  log: Logger;
  clock: Clock;
  /** Names under which clients know this registry: `127.0.0.1:5000`, `localhost:5000`, `10.0.0.5:5000`. */
  domains: string[];
  /**
   * Brings a name that an engine of the platform asks for and that is not here, from where this node would take it;
   * rejects when it cannot.
   */
  bring?: (canonicalName: string) => Promise<unknown>;
  /** What engines of the platform may do, and nobody else then: read what this engine has. Absent: also write. */
  engines?: 'read';
  /** Whether a node's certificate is refused because the node was taken out of the cluster. */
  isRemoved?: (certificate: NodeCertificate) => boolean;
}

export interface Registry {
  /** For `http.createServer`. Never rejects. */
  handle(request: IncomingMessage, response: ServerResponse): void;
  readonly repositories: Repositories;
  /** The engine's side (engine/images.ts `LocalRegistry`). */
  readonly local: {
    owns(domain: string): boolean;
    resolve(path: string, tagOrDigest: string): string | undefined;
    tags(path: string): string[];
    mediaType(path: string, digest: string): string | undefined;
    holds(manifestDigest: string): boolean;
    publish(
      path: string,
      tag: string | undefined,
      manifest: { digest: string; mediaType: string },
    ): Promise<Set<string>>;
  };
}

/** One part of a path; what is not an escape is a wrong name. */
function decodePart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RegistryError('NAME_INVALID', 'invalid URL escape');
  }
}

const route = /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests|tags|referrers)\/([^/]*)$/;

/** A slice of a sorted list after `last`, with the link to the next one. */
function page(call: { url: URL }, items: string[]): { items: string[]; headers: Record<string, string> } {
  const last = call.url.searchParams.get('last');
  const wanted = call.url.searchParams.get('n');
  if (wanted !== null && !/^\d{1,9}$/.test(wanted)) throw new RegistryError('PAGINATION_NUMBER_INVALID');
  const count = Math.min(wanted === null ? pageItemsMax : Number(wanted), pageItemsMax);
  const lower = last?.toLowerCase();
  const rest =
    last === null
      ? items
      : items.filter((item) => {
          const own = item.toLowerCase();
          return own > lower! || (own === lower && item > last);
        });
  const shown = rest.slice(0, count);
  const isMore = rest.length > shown.length && shown.length > 0;
  return {
    items: shown,
    headers: isMore
      ? { link: `<${call.url.pathname}?last=${encodeURIComponent(shown.at(-1)!)}&n=${count}>; rel="next"` }
      : {},
  };
}

class HttpRegistry implements Registry {
  readonly repositories: Repositories;
  readonly #options: RegistryOptions;
  constructor(options: RegistryOptions) {
    this.#options = options;
    this.repositories = createRepositories(
      options.content,
      options.images,
      options.clock,
      options.log.child('registry'),
    );
  }

  readonly local = {
    owns: (domain: string): boolean => this.#options.domains.includes(domain),
    resolve: (path: string, tagOrDigest: string): string | undefined => this.repositories.resolve(path, tagOrDigest),
    tags: (path: string): string[] => this.repositories.tags(path),
    mediaType: (path: string, digest: string): string | undefined =>
      this.repositories.manifest(path, digest)?.mediaType,
    holds: (manifestDigest: string): boolean => this.repositories.holds(manifestDigest),
    publish: async (
      path: string,
      tag: string | undefined,
      { digest, mediaType }: { digest: string; mediaType: string },
    ): Promise<Set<string>> => {
      const bytes = await this.#options.content.blobs.readBytes(digest, manifestBytesMax);
      const tags = tag === undefined ? [] : [tag];
      const options = { linkBlobs: true };
      return (await this.repositories.putManifest(path, { tags, digest, bytes, mediaType }, options)).newBlobs;
    },
  };

  handle(request: IncomingMessage, response: ServerResponse): void {
    this.#handle(request, response).catch((error: unknown) => this.#fail(request, response, error));
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const made = this.#toRegistryError(error);
    if (made.code === 'UNKNOWN') this.#options.log.error('a registry request failed', { url: request.url, error });
    const body = made.toBody();
    // What is left of the body is not read: the connection cannot be used again.
    const isUnread = !request.readableEnded && (request.headers['content-length'] ?? '0') !== '0';
    send(
      response,
      made.status,
      {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        ...(isUnread ? { connection: 'close' } : {}),
        ...made.headers,
      },
      request.method === 'HEAD' ? undefined : body,
    );
    request.resume();
  }

  #toRegistryError(error: unknown): RegistryError {
    if (error instanceof RegistryError) return error;
    if (error instanceof UploadGoneError) return new RegistryError('BLOB_UPLOAD_UNKNOWN');
    if (error instanceof DigestError)
      return new RegistryError(
        error.message.includes('size') || error.message.includes('longer') ? 'SIZE_INVALID' : 'DIGEST_INVALID',
      );
    if (error instanceof ApiError) {
      if (error.reason === 'TooManyRequests')
        return new RegistryError('TOOMANYREQUESTS', error.message, { headers: { 'retry-after': '1' } });
      if (error.reason === 'RequestEntityTooLarge')
        return new RegistryError('MANIFEST_INVALID', error.message, { status: 413 });
      if (error.reason === 'NotFound') return new RegistryError('BLOB_UNKNOWN', error.message);
      if (error.reason === 'BadRequest') return new RegistryError('DIGEST_INVALID', error.message);
    }
    if (codeOf(error) === 'ENOSPC') return new RegistryError('UNKNOWN', 'no space left on device', { status: 507 });
    return new RegistryError('UNKNOWN', messageOf(error));
  }

  #challenge(request: IncomingMessage, scope: string): Record<string, string> {
    const host =
      request.headers.host ?? `${request.socket.localAddress ?? 'localhost'}:${request.socket.localPort ?? 0}`;
    const isEncrypted = isSecure(request.socket) || request.headers['x-forwarded-proto'] === 'https';
    const scheme = isEncrypted ? 'https' : 'http';
    const quoted = (text: string): string => `"${text.replace(/["\\]/g, '')}"`;
    return {
      'www-authenticate': `Bearer realm=${quoted(`${scheme}://${host}/v2/token`)},service=${quoted(host)}${scope === '' ? '' : `,scope=${quoted(scope)}`}`,
    };
  }

  /** Who asks; undefined for somebody who may pull without a name. */
  async #authorize(
    request: IncomingMessage,
    path: string | undefined,
    isUpload = false,
  ): Promise<Identity | undefined> {
    const engine = engineOf(request.socket, this.#options.isRemoved ?? (() => false));
    const isReadOnly = this.#options.engines === 'read';
    if (engine !== undefined) return isReadOnly ? { ...engine, canWrite: false, isAdministrator: false } : engine;
    if (isReadOnly) throw new RegistryError('UNAUTHORIZED', 'authentication required');
    const header = request.headers.authorization;
    const address = request.socket.remoteAddress;
    const identity = await this.#options.access.identify(header, address);
    if (identity !== undefined && identity !== 'anonymous') return identity;
    // How far an upload is, is its user's business.
    const isRead = !isUpload && (request.method === 'GET' || request.method === 'HEAD');
    // Who has asked `/v2/` and was told to get a token has one, if only that of nobody.
    const isTold = path !== undefined || identity === 'anonymous';
    if (
      (header === undefined || identity === 'anonymous') &&
      isRead &&
      isTold &&
      this.#options.access.mayPullAnonymously(address)
    )
      return undefined;
    const isWrong = header !== undefined && identity === undefined;
    const scope = path === undefined || path === '' ? '' : `repository:${path}:${isRead ? 'pull' : 'pull,push'}`;
    throw new RegistryError('UNAUTHORIZED', isWrong ? 'invalid username or password' : 'authentication required', {
      headers: this.#challenge(request, scope),
    });
  }

  /**
   * The distribution project's token protocol ("Docker Registry v2 authentication via central service"): a password for
   * a token.
   */
  async #token(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET') throw new RegistryError('UNSUPPORTED');
    const { access } = this.#options;
    const header = request.headers.authorization;
    const identity = header === undefined ? 'anonymous' : await access.identify(header, request.socket.remoteAddress);
    const isAllowed =
      identity !== undefined && (identity !== 'anonymous' || access.mayPullAnonymously(request.socket.remoteAddress));
    if (!isAllowed) {
      throw new RegistryError(
        'UNAUTHORIZED',
        header === undefined ? 'authentication required' : 'invalid username or password',
        { headers: { 'www-authenticate': 'Basic realm="Tiphys registry", charset="UTF-8"' } },
      );
    }
    const { token, validMs } = access.issueToken(identity);
    sendJson(
      response,
      200,
      {
        token,
        access_token: token,
        expires_in: Math.floor(validMs / 1000),
        issued_at: new Date(this.#options.clock.now()).toISOString(),
      },
      { 'cache-control': 'no-store' },
    );
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Joined as text: `//x` is a path here and no host.
    const url = new URL(`http://registry${request.url?.startsWith('/') === true ? request.url : '/'}`);
    const method = request.method ?? 'GET';
    if (!url.pathname.startsWith('/v2')) {
      send(response, url.pathname === '/' ? 200 : 404);
      return;
    }
    if (url.pathname === '/v2/token') {
      await this.#token(request, response);
      return;
    }
    const isRead = method === 'GET' || method === 'HEAD';
    if (url.pathname === '/v2/' || url.pathname === '/v2') {
      await this.#authorize(request, undefined);
      if (!isRead) throw new RegistryError('UNSUPPORTED');
      sendJson(response, 200, {});
      return;
    }
    const match = route.exec(url.pathname);
    const identity = await this.#authorize(request, match?.[1] ?? '', match?.[2] === 'blobs/uploads');
    if (url.pathname === '/v2/_catalog') {
      if (!isRead) throw new RegistryError('UNSUPPORTED');
      const { items, headers } = page({ url }, this.repositories.names());
      sendJson(response, 200, { repositories: items }, headers);
      return;
    }
    if (match === null) throw new RegistryError('NAME_UNKNOWN', 'no such endpoint');
    const [, path, kind, rest] = match as unknown as [string, string, string, string];
    if (!isRepositoryPath(path)) throw new RegistryError('NAME_INVALID');
    if (!isRead && (identity === undefined || !mayWrite(identity, path))) {
      throw new RegistryError(
        'DENIED',
        identity?.canWrite === true
          ? `requested access to the resource is denied: ${identity.name} writes to ${identity.name} and ${identity.name}/... only`
          : undefined,
      );
    }
    const mirrorOf = identity?.isInternal === true ? (url.searchParams.get('ns') ?? undefined) : undefined;
    const call: Call = {
      request,
      response,
      url,
      method,
      path,
      identity,
      content: this.#options.content,
      images: this.#options.images,
      repositories: this.repositories,
      mirrorOf,
      bring: this.#options.bring,
    };
    switch (kind) {
      case 'manifests':
        await handleManifest(call, decodePart(rest));
        break;
      case 'blobs':
        if (rest === 'uploads') await handleUpload(call, '');
        else await handleBlob(call, rest);
        break;
      case 'blobs/uploads':
        await handleUpload(call, rest);
        break;
      case 'referrers':
        handleReferrers(call, rest);
        break;
      default:
        this.#tags(call, rest);
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

export function createRegistry(options: RegistryOptions): Registry {
  return new HttpRegistry(options);
}
