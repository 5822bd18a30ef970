/**
 * Files from the web: fetched into the store, redirects followed, a checksum held to. What a server said of a file that
 * was fetched before is remembered, in table `downloads`: whoever wants it again asks whether it is still the same.
 *
 * Source: RFC 9110, "ETag" and "If-None-Match"; RFC 6266 for the name that an answer gives; BuildKit's http source.
 */
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import type { HttpTransport } from '#content/remote.ts';
import type { Clock } from '#os/clock.ts';
import { digestOf } from '../cache-keys.ts';
import { addedUrlBytesMax, downloadsKnownMax } from '../limits.ts';

export interface Downloaded {
  digest: string;
  /** undefined: the server does not say it. */
  modifiedAtMs: number | undefined;
  /** What the server calls it; undefined: it does not say it. */
  name: string | undefined;
}

type Answer = Awaited<ReturnType<HttpTransport['call']>>;

interface Known {
  digest: string;
  etag: string;
  modifiedAtMs: number | null;
  name: string | null;
  atMs: number;
}

export interface DownloadParts {
  content: Content;
  transport: HttpTransport;
  clock: Pick<Clock, 'now'>;
}

export interface DownloadOptions {
  checksum: string | undefined;
  /** The file itself, not only what it is. */
  needsFile: boolean;
  signal: AbortSignal;
}

/** A file that is not to be had. `classic`: as the classic builder says it. */
export class FetchError extends ApiError {
  readonly classic: string;
  constructor(why: string, classic: string) {
    super('BadRequest', `failed to load cache key: ${why}`);
    this.name = 'FetchError';
    this.classic = `ADD failed: ${classic}`;
  }
}

const table = 'downloads';
const redirectsMax = 10;
/** Servers know clients of builds by it. */
const userAgent = 'tiphys (compatible; buildkit/v0.34)';

function parseUrl(text: string, base?: URL): URL {
  const target = URL.parse(text, base);
  const shown = JSON.stringify(text.slice(0, 200));
  if (target === null) throw new FetchError(`parse ${shown}: invalid URL`, `invalid URL ${shown}`);
  return target;
}

/** An address without who asks for it, and with which password. */
export function redactUrl(url: string): string {
  return url.replace(
    /^([a-z+]+:\/\/)([^/@:]*)(:[^/@]*)?@/i,
    (_whole, scheme: string, user: string, password?: string) =>
      `${scheme}${user === '' ? '' : 'xxxxx'}${password === undefined ? '' : ':xxxxx'}@`,
  );
}

/** The last part of the name in a Content-Disposition; undefined: there is none, or it could be no file. */
export function dispositionName(header: string | undefined): string | undefined {
  const [, encoded] = /;\s*filename\*\s*=\s*UTF-8'[^']*'([^;\s]+)/i.exec(header ?? '') ?? [];
  const [, quoted, plain] = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))/i.exec(header ?? '') ?? [];
  let name = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
  try {
    if (encoded !== undefined) name = decodeURIComponent(encoded);
  } catch {
    // What is badly escaped says nothing.
  }
  if (name === '' || name.endsWith('/')) return undefined;
  const base = posix.basename(name);
  return base === '' || base === '.' || base === '..' || base.includes('\0') ? undefined : base;
}

export class Downloads {
  readonly #parts: DownloadParts;

  constructor(parts: DownloadParts) {
    this.#parts = parts;
  }

  /** Throws FetchError. */
  async fetch(url: string, options: DownloadOptions): Promise<Downloaded> {
    const { checksum, needsFile } = options;
    const { content } = this.#parts;
    const key = digestOf('download', url);
    const known = content.records.get<Known>(table, key);
    if (known !== undefined && (!needsFile || content.blobs.has(known.digest))) {
      const isSame = checksum === undefined ? await this.#isUnchanged(url, known, options) : known.digest === checksum;
      if (isSame)
        return { digest: known.digest, modifiedAtMs: known.modifiedAtMs ?? undefined, name: known.name ?? undefined };
    }
    return this.#get(url, key, options);
  }

  async #call(
    method: 'GET' | 'HEAD',
    url: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Answer> {
    let target = parseUrl(url);
    for (let hops = 0; ; hops++) {
      const call = { method, url: target, headers: { ...headers, 'user-agent': userAgent }, signal };
      const answer = await this.#parts.transport.call(call);
      const status = answer.statusCode ?? 0;
      const { location } = answer.headers;
      // Not modified is no place to go to.
      if (status < 300 || status >= 400 || status === 304 || location === undefined || hops >= redirectsMax)
        return answer;
      answer.resume();
      target = parseUrl(location, target);
    }
  }

  async #isUnchanged(url: string, { etag }: Known, { signal }: DownloadOptions): Promise<boolean> {
    if (etag === '') return false;
    try {
      const answer = await this.#call('HEAD', url, { 'if-none-match': etag }, signal);
      answer.resume();
      return answer.statusCode === 304 || (answer.statusCode === 200 && answer.headers.etag === etag);
    } catch {
      // A server that does not know the question is asked for the file, and what is wrong is told then.
      signal.throwIfAborted();
      return false;
    }
  }

  async #get(url: string, key: string, { checksum, signal }: DownloadOptions): Promise<Downloaded> {
    const { content, clock } = this.#parts;
    const answer = await this.#call('GET', url, {}, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      throw error instanceof FetchError ? error : new FetchError(messageOf(error), messageOf(error));
    });
    if (answer.statusCode !== 200) {
      answer.resume();
      const { statusCode = 0, statusMessage = '' } = answer;
      throw new FetchError(
        `invalid response status ${statusCode}`,
        `failed to GET ${url} with status ${statusCode} ${statusMessage}`.trim(),
      );
    }
    const body: AsyncIterable<Uint8Array> = answer;
    const { digest } = await content.blobs.write(body, {}, addedUrlBytesMax);
    if (checksum !== undefined && digest !== checksum) {
      const why = `digest mismatch for ${redactUrl(url)}: ${digest} (expected: ${checksum})`;
      throw new FetchError(why, why);
    }
    const modified = Date.parse(answer.headers['last-modified'] ?? '');
    const modifiedAtMs = Number.isFinite(modified) ? modified : undefined;
    const name = dispositionName(answer.headers['content-disposition']);
    const value: Known = {
      digest,
      etag: answer.headers.etag ?? '',
      modifiedAtMs: modifiedAtMs ?? null,
      name: name ?? null,
      atMs: clock.now(),
    };
    await content.records.commit([{ table, key, value }, ...this.#surplus()]);
    return { digest, modifiedAtMs, name };
  }

  /** The oldest go when there are too many. */
  #surplus(): { table: string; key: string; value: undefined }[] {
    const { records } = this.#parts.content;
    if (records.count(table) < downloadsKnownMax) return [];
    return [...records.entries<Known>(table)]
      .sort(([, a], [, b]) => a.atMs - b.atMs)
      .slice(0, downloadsKnownMax / 10)
      .map(([key]) => ({ table, key, value: undefined }));
  }
}
