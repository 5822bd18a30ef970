/**
 * Connections that are passed on to a kubelet, node, Pod or Service: plain requests, and upgrades. Of an upgrade, the
 * target's answer and everything after it goes through untouched, in both directions.
 */
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { pipeline, type Duplex, type Transform } from 'node:stream';
import { createDeflate, createGunzip, createGzip, createInflate } from 'node:zlib';
import type { ApiRequest } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import type { KeyPair } from '#base/x509.ts';
import { remoteAgent } from './aggregation-client.ts';
import type { ConnectTarget } from './connect.ts';
import { fail, failUpgrade, withoutHop, writeAnswerHead, writeHead, type HttpResponse } from './http-answer.ts';
import { bodyOf, type HttpRequest } from './http-request.ts';
import { LinkRewriter, proxiedUrl, type ProxiedPage } from './proxy-links.ts';
import { kubeletErrorCharsMax, upgradeConnectTimeoutMs } from './limits.ts';

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

/** What a target is told: who asks only where it is an aggregated API server, and from nobody but us. */
function headersTo(
  { host, port, path, prefix, remote }: ConnectTarget,
  from: ApiRequest,
): Record<string, string | string[]> {
  const headers = forwardHeaders(from.headers);
  for (const name of Object.keys(headers)) if (name.startsWith('x-remote-')) delete headers[name];
  if (prefix !== undefined) headers['x-forwarded-uri'] = `${prefix}${path.split('?')[0]}`;
  if (remote === undefined) return { ...headers, host: `${host}:${port}` };
  return { ...headers, ...remote.headers, host: remote.target.servername };
}

/** A connection that asks for another protocol: what came behind its head is `head`. */
export interface Upgrade {
  request: IncomingMessage;
  socket: Duplex;
  head: Buffer;
}

function pageOf(target: ConnectTarget, { headers }: ApiRequest): ProxiedPage | undefined {
  if (target.prefix === undefined) return undefined;
  const host = headers['host'];
  return { prefix: target.prefix, hosts: [`${target.host}:${target.port}`, ...(host === undefined ? [] : [host])] };
}

/** What a page goes through on its way; nothing for what is no page, or packed in a way that is not known. */
function linkStages(headers: Readonly<Record<string, string>>, page: ProxiedPage): Transform[] {
  const type = (headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase();
  if (type !== 'text/html') return [];
  const rewriter = new LinkRewriter(page);
  switch (headers['content-encoding'] ?? '') {
    case '':
      return [rewriter];
    case 'gzip':
      return [createGunzip(), rewriter, createGzip()];
    case 'deflate':
      return [createInflate(), rewriter, createDeflate()];
    default:
      return [];
  }
}

export class Forwarder {
  readonly #clientCa: string;
  readonly #frontProxy: (() => KeyPair) | undefined;
  #kubeletAgent: Agent;
  readonly #plainAgent = new Agent({ rejectUnauthorized: false });

  /**
   * `kubeletClient` is shown to kubelets, whose certificates are of `clientCa`; `frontProxy` gives what is shown to
   * aggregated API servers.
   */
  constructor(clientCa: string, kubeletClient: KeyPair, frontProxy?: () => KeyPair) {
    this.#clientCa = clientCa;
    this.#frontProxy = frontProxy;
    this.#kubeletAgent = this.#agentOf(kubeletClient);
  }

  /** The agent before it holds no connection that nobody uses: what runs over it runs on. */
  setKubeletClient(pair: KeyPair): void {
    this.#kubeletAgent = this.#agentOf(pair);
  }

  #agentOf({ certificatePem, keyPem }: KeyPair): Agent {
    return new Agent({
      cert: certificatePem,
      key: keyPem,
      ca: this.#clientCa,
      checkServerIdentity: () => undefined,
      keepAlive: false,
    });
  }

  #agentFor(target: ConnectTarget): { agent?: Agent } {
    if (target.scheme !== 'https') return {};
    if (target.remote !== undefined && this.#frontProxy !== undefined)
      return { agent: remoteAgent(target.remote.target, this.#frontProxy()) };
    return { agent: target.kubelet ? this.#kubeletAgent : this.#plainAgent };
  }

  /** A plain request to a kubelet, Pod or Service; the answer is piped back as it comes. */
  forward(target: ConnectTarget, from: ApiRequest, request: HttpRequest, response: HttpResponse): void {
    const make = target.scheme === 'https' ? httpsRequest : httpRequest;
    const out = make({
      host: target.host,
      port: target.port,
      path: target.path,
      method: from.method,
      headers: headersTo(target, from),
      ...this.#agentFor(target),
      signal: from.signal,
    });
    out.on('response', (answer) => {
      if (target.kubelet && target.path.startsWith('/containerLogs/') && (answer.statusCode ?? 500) >= 400) {
        void failAsKubelet(response, answer);
        return;
      }
      const headers: Record<string, string> = {};
      for (const [name, value] of Object.entries(answer.headers))
        if (value !== undefined && !hopHeaders.has(name))
          headers[name] = Array.isArray(value) ? value.join(', ') : value;
      const page = pageOf(target, from);
      if (page !== undefined && headers['location'] !== undefined)
        headers['location'] = proxiedUrl(headers['location'], page);
      const stages = page === undefined || from.method === 'HEAD' ? [] : linkStages(headers, page);
      if (stages.length > 0) delete headers['content-length'];
      const status = answer.statusCode ?? 502;
      const isWhole = from.method === 'HEAD' || status === 204 || status === 304;
      if (response.destroyed || response.closed) return void answer.destroy();
      writeAnswerHead(response, { status, headers }, isWhole ? 'nothing' : 'pieces');
      if (isWhole) return void answer.resume();
      pipeline([answer, ...stages, response], (error) => {
        if (error) response.destroy();
      });
    });
    out.on('error', (error) => {
      if (!from.signal.aborted)
        fail(
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
    else bodyOf(request).pipe(out);
  }

  upgrade(target: ConnectTarget, from: ApiRequest, { request, socket, head }: Upgrade): void {
    const make = target.scheme === 'https' ? httpsRequest : httpRequest;
    const headers = {
      ...headersTo(target, from),
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
      ...this.#agentFor(target),
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
        failUpgrade(socket, new ApiError('InternalError', `error dialing backend: ${error.message}`));
    });
    out.end();
  }

  destroy(): void {
    this.#kubeletAgent.destroy();
    this.#plainAgent.destroy();
  }
}

/** A kubelet refuses logs in plain words; clients get them as a Status. */
async function failAsKubelet(response: HttpResponse, answer: IncomingMessage): Promise<void> {
  let text = '';
  try {
    for await (const chunk of answer) if (text.length < kubeletErrorCharsMax) text += String(chunk);
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
  fail(response, new ApiError(reason, text.trim().slice(0, kubeletErrorCharsMax)));
}
