/**
 * A client of other registries: OCI distribution 1.1 with docker's token authentication (Bearer) and Basic, redirects,
 * ranges, uploads.
 *
 * Invariants: credentials go to the registry that was asked and to the token service it names, never along a redirect
 * to another host; bodies are streams; what is read whole is bounded. The host's certificate store is trusted besides
 * Node's own. Proxies of the environment are used. Plain HTTP only for loopback names and for hosts that are configured
 * as insecure.
 *
 * Specification: distribution-spec v1.1 (opencontainers), "token" and "oauth" pages of docker's registry documentation.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { IncomingMessage, RequestOptions } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { getCACertificates } from 'node:tls';
import { ApiError } from '#base/errors.ts';
import { isTag } from '#base/reference.ts';
import { whenDrained } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import { mediaTypes } from './image-records.ts';
import { answerTimeoutMs, connectTimeoutMs, manifestBytesMax, redirectsMax, remoteTagsMax } from './limits.ts';

export interface RegistryCredential {
  username?: string;
  password?: string;
  identityToken?: string;
}

export interface Endpoint {
  /** `https://registry-1.docker.io` */
  url: string;
  credential?: RegistryCredential;
  /** This endpoint mirrors another registry: its name goes along as `ns`. */
  mirrorOf?: string;
  /** Certificates are not verified. */
  isInsecure?: boolean;
  /** What is fetched and sent, where it is no image: rights are for `repository(plugin)` (docker's token scopes). */
  artifact?: 'plugin';
  /** How the platform's own registry is reached; read for each request, as certificates are renewed. */
  tls?: () => ClientTls;
}

/** In PEM: the one authority that is trusted, and who the client is. */
export interface ClientTls {
  ca: string;
  certificatePem: string;
  keyPem: string;
}

export interface RemoteManifest {
  bytes: Buffer;
  mediaType: string;
  digest: string | undefined;
}
/** A registry's answer that is an error. */
export class RemoteError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.name = 'RemoteError';
    this.status = status;
    this.code = code;
  }
}
/** It did not answer at all. */
export class UnreachableError extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause });
    this.name = 'UnreachableError';
  }
}

const manifestAccept = [
  mediaTypes.ociIndex,
  mediaTypes.ociManifest,
  mediaTypes.dockerList,
  mediaTypes.dockerManifest,
  '*/*',
].join(', ');

/** `docker.io` is served elsewhere; loopback speaks plain HTTP. */
export function endpointUrlOf(domain: string): string {
  if (domain === 'docker.io') return 'https://registry-1.docker.io';
  return /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/.test(domain) ? `http://${domain}` : `https://${domain}`;
}

type Body = Uint8Array | AsyncIterable<Uint8Array>;
interface Call {
  method: string;
  url: URL;
  headers?: Record<string, string | number>;
  body?: Body;
  signal?: AbortSignal;
  isInsecure?: boolean;
  tls?: ClientTls;
}

export class HttpTransport {
  readonly #environment: Record<string, string | undefined>;
  #http: HttpAgent | undefined;
  #https: HttpsAgent | undefined;
  #insecure: HttpsAgent | undefined;
  #platform: { shown: string; agent: HttpsAgent } | undefined;
  constructor(environment: Record<string, string | undefined>) {
    this.#environment = environment;
  }

  /** Another one after the certificate was renewed; what is under way on the old one ends there. */
  #platformAgent({ ca, certificatePem, keyPem }: ClientTls): HttpsAgent {
    const shown = `${ca}${certificatePem}`;
    if (this.#platform?.shown !== shown) {
      const agent = new HttpsAgent({ keepAlive: true, maxSockets: 16, ca, cert: certificatePem, key: keyPem });
      this.#platform = { shown, agent };
    }
    return this.#platform.agent;
  }

  #agent({ url, isInsecure, tls }: Call): HttpAgent | HttpsAgent {
    if (tls !== undefined) return this.#platformAgent(tls);
    const common = { keepAlive: true, maxSockets: 16, proxyEnv: this.#environment };
    if (url.protocol === 'http:') return (this.#http ??= new HttpAgent(common));
    if (isInsecure === true) return (this.#insecure ??= new HttpsAgent({ ...common, rejectUnauthorized: false }));
    return (this.#https ??= new HttpsAgent({
      ...common,
      ca: [...new Set([...getCACertificates('default'), ...getCACertificates('system')])],
    }));
  }

  call(call: Call): Promise<IncomingMessage> {
    const options: RequestOptions = {
      method: call.method,
      headers: { 'user-agent': 'tiphys', ...call.headers },
      agent: this.#agent(call),
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    };
    return new Promise((resolve, reject) => {
      const request = (call.url.protocol === 'http:' ? httpRequest : httpsRequest)(call.url, options, resolve);
      request.once('error', (error) => {
        if (call.signal?.aborted === true) {
          reject(call.signal.reason);
          return;
        }
        const cause: unknown = error instanceof AggregateError ? error.errors[0] : error;
        reject(
          new UnreachableError(
            `${call.method === 'GET' ? 'Get' : call.method[0] + call.method.slice(1).toLowerCase()} "${call.url.href}": ${messageOf(cause ?? error)}`,
            error,
          ),
        );
      });
      let limitMs = connectTimeoutMs;
      request.setTimeout(limitMs, () => request.destroy(new Error(`no answer within ${limitMs / 1000} s`)));
      request.once('socket', (socket) => {
        const connected = (): void => {
          limitMs = answerTimeoutMs;
          request.setTimeout(limitMs);
        };
        if (socket.connecting) socket.once('connect', connected);
        else connected();
      });
      const { body } = call;
      if (body === undefined) request.end();
      else if (body instanceof Uint8Array) request.end(body);
      else {
        (async () => {
          for await (const chunk of body) {
            if (request.destroyed) return;
            if (!request.write(chunk)) await whenDrained(request);
          }
          request.end();
        })().catch((error: unknown) => request.destroy(error as Error));
      }
    });
  }

  close(): void {
    this.#http?.destroy();
    this.#https?.destroy();
    this.#insecure?.destroy();
    this.#platform?.agent.destroy();
  }
}

export async function readAll(message: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of message) {
    length += part.length;
    if (length > bytesMax) throw new ApiError('RequestEntityTooLarge', `an answer is larger than ${bytesMax} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** An address out of a registry's answer. */
export function parseUrl(text: string, base?: URL): URL {
  let url: URL | undefined;
  try {
    url = new URL(text, base);
  } catch {
    /* Told below. */
  }
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new RemoteError(0, '', `the registry's answer has an invalid address: ${JSON.stringify(text.slice(0, 200))}`);
  return url;
}

function parseAnswer(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    throw new RemoteError(0, '', "the registry's answer is not valid JSON");
  }
}

/** `Bearer realm="…",service="…"` → scheme and parameters. */
export function parseChallenge(header: string): { scheme: string; parameters: Record<string, string> } {
  const scheme = /^\s*([A-Za-z]+)/.exec(header)?.[1]?.toLowerCase() ?? '';
  const parameters: Record<string, string> = {};
  for (const match of header.matchAll(/(?<![A-Za-z_])([A-Za-z_]+)="([^"]*)"/g))
    parameters[match[1]!.toLowerCase()] = match[2]!;
  return { scheme, parameters };
}

export async function errorOf(message: IncomingMessage): Promise<RemoteError> {
  const text = (await readAll(message, 64 << 10).catch(() => Buffer.alloc(0))).toString('utf8');
  try {
    const first = (JSON.parse(text) as { errors?: { code?: string; message?: string }[] }).errors?.[0];
    if (first !== undefined)
      return new RemoteError(
        message.statusCode ?? 0,
        first.code ?? '',
        `${(first.code ?? '').toLowerCase().replaceAll('_', ' ')}: ${first.message ?? ''}`,
      );
  } catch {
    /* Not the specification's form. */
  }
  return new RemoteError(
    message.statusCode ?? 0,
    '',
    `received unexpected HTTP status: ${message.statusCode} ${message.statusMessage ?? ''}`.trim(),
  );
}

/** One repository of one registry. */
export class RemoteRepository {
  readonly #transport: HttpTransport;
  readonly #endpoint: Endpoint;
  readonly #path: string;
  readonly #scope: string;
  #authorization: string | undefined;

  constructor(transport: HttpTransport, endpoint: Endpoint, path: string, actions: 'pull' | 'pull,push') {
    this.#transport = transport;
    this.#endpoint = endpoint;
    this.#path = path;
    const kind = endpoint.artifact === undefined ? 'repository' : `repository(${endpoint.artifact})`;
    this.#scope = `${kind}:${path}:${actions}`;
  }

  #url(suffix: string): URL {
    const url = new URL(`${this.#endpoint.url.replace(/\/$/, '')}/v2/${this.#path}/${suffix}`);
    if (this.#endpoint.mirrorOf !== undefined) url.searchParams.set('ns', this.#endpoint.mirrorOf);
    return url;
  }

  async #token(challenge: Record<string, string>, signal?: AbortSignal): Promise<string> {
    const { credential } = this.#endpoint;
    const realm = parseUrl(challenge['realm'] ?? '');
    const scope = challenge['scope'] ?? this.#scope;
    let answer: IncomingMessage;
    const common = {
      ...(signal === undefined ? {} : { signal }),
      ...(this.#endpoint.isInsecure === true ? { isInsecure: true } : {}),
    };
    if (credential?.identityToken !== undefined && credential.identityToken !== '') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        service: challenge['service'] ?? '',
        scope,
        client_id: 'tiphys',
        refresh_token: credential.identityToken,
      });
      answer = await this.#transport.call({
        method: 'POST',
        url: realm,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from(form.toString()),
        ...common,
      });
    } else {
      if (challenge['service'] !== undefined) realm.searchParams.set('service', challenge['service']);
      for (const each of scope.split(' ')) realm.searchParams.append('scope', each);
      const headers: Record<string, string> = credential?.username ? { authorization: basic(credential) } : {};
      if (credential?.username) realm.searchParams.set('account', credential.username);
      answer = await this.#transport.call({ method: 'GET', url: realm, headers, ...common });
    }
    if (answer.statusCode !== 200) throw await errorOf(answer);
    const body = parseAnswer(await readAll(answer, 1 << 20)) as { token?: unknown; access_token?: unknown } | null;
    const token = body?.token ?? body?.access_token;
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
      throw new RemoteError(0, '', `no token in the answer of ${realm.host}`);
    return token;
  }

  /** Calls, signs in when asked to, follows redirects. `body` makes a new body for each attempt. */
  async #call(
    method: string,
    url: URL,
    options: { headers?: Record<string, string | number>; body?: () => Body; signal?: AbortSignal; accept: number[] },
  ): Promise<IncomingMessage> {
    let target = url;
    let challenged = false;
    for (let hops = 0; hops <= redirectsMax; hops++) {
      const isOwn = target.host === url.host;
      const headers = {
        ...options.headers,
        ...(isOwn && this.#authorization !== undefined ? { authorization: this.#authorization } : {}),
      };
      const answer = await this.#transport.call({
        method,
        url: target,
        headers,
        ...(options.body === undefined ? {} : { body: options.body() }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...(this.#endpoint.isInsecure === true ? { isInsecure: true } : {}),
        ...(isOwn && this.#endpoint.tls !== undefined ? { tls: this.#endpoint.tls() } : {}),
      });
      const status = answer.statusCode ?? 0;
      if (options.accept.includes(status)) return answer;
      if (
        [301, 302, 303, 307, 308].includes(status) &&
        answer.headers.location !== undefined &&
        (method === 'GET' || method === 'HEAD')
      ) {
        answer.resume();
        target = parseUrl(answer.headers.location, target);
        continue;
      }
      if (status === 401 && isOwn && !challenged && answer.headers['www-authenticate'] !== undefined) {
        challenged = true;
        answer.resume();
        const { scheme, parameters } = parseChallenge(answer.headers['www-authenticate']);
        if (scheme === 'bearer') this.#authorization = `Bearer ${await this.#token(parameters, options.signal)}`;
        else if (this.#endpoint.credential?.username) this.#authorization = basic(this.#endpoint.credential);
        else throw new RemoteError(401, 'UNAUTHORIZED', 'no basic auth credentials');
        continue;
      }
      if (method === 'HEAD') {
        answer.resume();
        throw new RemoteError(
          status,
          '',
          `received unexpected HTTP status: ${status} ${answer.statusMessage ?? ''}`.trim(),
        );
      }
      throw await errorOf(answer);
    }
    throw new RemoteError(0, '', `stopped after ${redirectsMax} redirects`);
  }

  async manifest(reference: string, signal?: AbortSignal): Promise<RemoteManifest> {
    const answer = await this.#call('GET', this.#url(`manifests/${reference}`), {
      headers: { accept: manifestAccept },
      accept: [200],
      ...(signal === undefined ? {} : { signal }),
    });
    const digest = answer.headers['docker-content-digest'];
    return {
      bytes: await readAll(answer, manifestBytesMax),
      mediaType: (answer.headers['content-type'] ?? '').split(';')[0]!.trim(),
      digest: typeof digest === 'string' ? digest : undefined,
    };
  }

  /** All of its tags, page by page. */
  async tags(signal?: AbortSignal): Promise<string[]> {
    const out: string[] = [];
    let pages = 0;
    for (let url: URL | undefined = this.#url('tags/list'); url !== undefined && pages < remoteTagsMax; pages++) {
      const answer: IncomingMessage = await this.#call('GET', url, {
        accept: [200],
        ...(signal === undefined ? {} : { signal }),
      });
      const body = parseAnswer(await readAll(answer, manifestBytesMax)) as { tags?: unknown } | null;
      if (Array.isArray(body?.tags))
        out.push(...body.tags.filter((tag): tag is string => typeof tag === 'string' && isTag(tag)));
      if (out.length > remoteTagsMax)
        throw new RemoteError(0, '', `the repository has more than ${remoteTagsMax} tags`);
      const next: string | undefined = /^\s*<([^>]*)>\s*;\s*rel="?next"?/.exec(
        String(answer.headers['link'] ?? ''),
      )?.[1];
      const following: URL | undefined = next === undefined ? undefined : parseUrl(next, url);
      url = following?.href === url.href || following?.host !== url.host ? undefined : following;
    }
    return out;
  }

  async hasManifest(reference: string, signal?: AbortSignal): Promise<string | undefined> {
    try {
      const answer = await this.#call('HEAD', this.#url(`manifests/${reference}`), {
        headers: { accept: manifestAccept },
        accept: [200],
        ...(signal === undefined ? {} : { signal }),
      });
      answer.resume();
      const digest = answer.headers['docker-content-digest'];
      return typeof digest === 'string' ? digest : '';
    } catch (error) {
      if (error instanceof RemoteError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Bytes from `offset` on; `offset` says where the answer really begins. */
  async blob(
    digest: string,
    offset = 0,
    signal?: AbortSignal,
  ): Promise<{ offset: number; sizeBytes: number | undefined; source: AsyncIterable<Uint8Array> }> {
    const answer = await this.#call('GET', this.#url(`blobs/${digest}`), {
      headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
      accept: [200, 206],
      ...(signal === undefined ? {} : { signal }),
    });
    const length = Number(answer.headers['content-length']);
    return {
      offset: answer.statusCode === 206 ? offset : 0,
      sizeBytes: Number.isFinite(length) ? length : undefined,
      source: answer,
    };
  }

  async hasBlob(digest: string, signal?: AbortSignal): Promise<boolean> {
    try {
      (
        await this.#call('HEAD', this.#url(`blobs/${digest}`), {
          accept: [200],
          ...(signal === undefined ? {} : { signal }),
        })
      ).resume();
      return true;
    } catch (error) {
      if (error instanceof RemoteError && error.status === 404) return false;
      throw error;
    }
  }

  /** Uploads, or mounts from another repository of the same registry. True when nothing had to be sent. */
  async putBlob(
    digest: string,
    sizeBytes: number,
    body: () => AsyncIterable<Uint8Array>,
    options: { mountFrom?: string; signal?: AbortSignal } = {},
  ): Promise<boolean> {
    const start = this.#url('blobs/uploads/');
    if (options.mountFrom !== undefined) {
      start.searchParams.set('mount', digest);
      start.searchParams.set('from', options.mountFrom);
    }
    const signal = options.signal === undefined ? {} : { signal: options.signal };
    const opened = await this.#call('POST', start, { headers: { 'content-length': 0 }, accept: [201, 202], ...signal });
    opened.resume();
    if (opened.statusCode === 201) return true;
    const location = parseUrl(opened.headers.location ?? '', start);
    location.searchParams.set('digest', digest);
    const done = await this.#call('PUT', location, {
      headers: { 'content-type': 'application/octet-stream', 'content-length': sizeBytes },
      body,
      accept: [201],
      ...signal,
    });
    done.resume();
    return false;
  }

  async putManifest(reference: string, bytes: Uint8Array, mediaType: string, signal?: AbortSignal): Promise<void> {
    const answer = await this.#call('PUT', this.#url(`manifests/${reference}`), {
      headers: { 'content-type': mediaType, 'content-length': bytes.length },
      body: () => bytes,
      accept: [201, 202],
      ...(signal === undefined ? {} : { signal }),
    });
    answer.resume();
  }
}

export function basic(credential: RegistryCredential): string {
  return `Basic ${Buffer.from(`${credential.username ?? ''}:${credential.password ?? ''}`).toString('base64')}`;
}
