/**
 * The API server on a socket: HTTP/2 and HTTP/1.1 over TLS on one port, client certificates as identities, and
 * connections that are passed on to a kubelet, node, Pod or Service. Turns messages into `ApiRequest`s
 * (`http-request.ts`) and answers into messages (`http-answer.ts`, `http-forward.ts`); decides nothing itself.
 */
import type { IncomingMessage } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { Http2SecureServer } from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import type { UserInfo } from '#base/api-request.ts';
import type { KeyPair } from '#base/x509.ts';
import type { ProxyConfig } from './authn/request-header.ts';
import type { ApiServer } from './server.ts';
import { createRemoteCaller } from './aggregation-client.ts';
import { connectionOf } from './connect.ts';
import type { HeldPort } from './held-port.ts';
import { fail, failUpgrade, send, writeHttp1, type HttpResponse } from './http-answer.ts';
import { Forwarder } from './http-forward.ts';
import { BodyBudget, Peers, toApiRequest, type Certified, type HttpRequest } from './http-request.ts';
import { createWebhookCaller } from './webhook-client.ts';

export interface HttpOptions {
  api: ApiServer;
  /** The server's certificate and key. */
  serving: KeyPair;
  /** Client certificates of this authority are identities. */
  clientCa: string;
  /** Authenticating proxies, by the authority of their certificates. */
  proxy?: ProxyConfig;
  /** Shown to kubelets. */
  kubeletClient: KeyPair;
  /** What is shown to aggregated API servers, as it is now; without it none is asked. */
  frontProxy?: () => KeyPair;
  /** Where connections come from; closed with the server. */
  ports: readonly HeldPort[];
}

export interface HttpServer extends AsyncDisposable {
  port: number;
  /** For connections from now on; those that are there go on with the certificate that they began with. */
  setServing(pair: KeyPair): void;
  /** Shown to kubelets from now on. */
  setKubeletClient(pair: KeyPair): void;
  /** Ends the connections of clients whose certificates are not to hold any more, and what is under way on them. */
  endClients(is: (client: Certified) => boolean): void;
}

/** One for all: making one for each request is the dearest part of a small answer. */
const clientGone = Object.assign(new Error('the client has gone'), { name: 'AbortError' });

class Listener {
  readonly #options: HttpOptions;
  readonly #forwarder: Forwarder;
  readonly #sockets = new Set<Socket>();
  /** Those whose handshake is done. */
  readonly #secured = new Set<TLSSocket>();
  readonly #bodies = new BodyBudget();
  readonly #peers: Peers;

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#peers = new Peers(options.clientCa, options.proxy);
    this.#forwarder = new Forwarder(options.clientCa, options.kubeletClient, options.frontProxy);
  }

  endClients(is: (client: Certified) => boolean): void {
    for (const socket of this.#secured) {
      const client = this.#peers.ofSocket(socket);
      if ('user' in client && is(client)) socket.destroy();
    }
  }

  setKubeletClient(pair: KeyPair): void {
    this.#forwarder.setKubeletClient(pair);
  }

  secureContext({ certificatePem, keyPem }: KeyPair): SecureContextOptions {
    const { clientCa, proxy } = this.#options;
    const ca = proxy === undefined ? clientCa : [clientCa, proxy.ca];
    return { cert: certificatePem, key: keyPem, ca, minVersion: 'TLSv1.2' };
  }

  create(): Http2SecureServer {
    const server = createSecureServer({
      ...this.secureContext(this.#options.serving),
      allowHTTP1: true,
      requestCert: true,
      rejectUnauthorized: false,
      settings: { maxConcurrentStreams: 1000, initialWindowSize: 1 << 20 },
    });
    server.on('request', (request, response) => {
      void this.#serve(request, response);
    });
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      void this.#upgrade(request, socket, head);
    });
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('secureConnection', (socket: TLSSocket) => {
      this.#secured.add(socket);
      socket.once('close', () => this.#secured.delete(socket));
    });
    server.on('sessionError', () => undefined);
    return server;
  }

  async #serve(request: HttpRequest, response: HttpResponse): Promise<void> {
    const abort = new AbortController();
    response.once('close', () => abort.abort(clientGone));
    response.on('error', () => undefined);
    let release = (): void => undefined;
    try {
      const method = request.method ?? 'GET';
      const hasBody = method !== 'GET' && method !== 'HEAD';
      const readBody = (user: UserInfo): Promise<Uint8Array> =>
        this.#bodies.read(request, user.name, this.#options.api.server.clock, (give) => {
          release = give;
        });
      const apiRequest = toApiRequest(request, {
        readBody: hasBody ? readBody : undefined,
        signal: abort.signal,
        peers: this.#peers,
      });
      const answer = await this.#options.api.handle(apiRequest);
      const target = connectionOf(answer);
      if (target !== undefined) {
        this.#forwarder.forward(target, apiRequest, request, response);
        return;
      }
      await send(response, answer, method === 'HEAD');
    } catch (error) {
      fail(response, error);
    } finally {
      release();
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const abort = new AbortController();
    socket.on('error', () => abort.abort(clientGone)).once('close', () => abort.abort(clientGone));
    try {
      const from = toApiRequest(request, { readBody: undefined, signal: abort.signal, peers: this.#peers });
      const answer = await this.#options.api.handle(from);
      const target = connectionOf(answer);
      if (target === undefined) {
        writeHttp1(socket, answer.status, answer.headers, answer.body instanceof Uint8Array ? answer.body : undefined);
        return;
      }
      this.#forwarder.upgrade(target, from, { request, socket, head });
    } catch (error) {
      failUpgrade(socket, error);
    }
  }

  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#forwarder.destroy();
  }
}

/** Takes connections; resolves when all are taken, those that waited too. */
export async function serveHttp(options: HttpOptions): Promise<HttpServer> {
  options.api.server.callWebhook ??= createWebhookCaller(options.api.server);
  if (options.frontProxy !== undefined) options.api.server.callRemote ??= createRemoteCaller(options.frontProxy);
  const listener = new Listener(options);
  const servers: Http2SecureServer[] = [];
  for (const port of options.ports) {
    const server = listener.create();
    await port.handTo(server);
    servers.push(server);
  }
  const bound = servers[0]?.address();
  return {
    port: typeof bound === 'object' ? (bound?.port ?? 0) : 0,
    setServing(pair) {
      for (const server of servers) server.setSecureContext(listener.secureContext(pair));
    },
    setKubeletClient: (pair) => listener.setKubeletClient(pair),
    endClients: (is) => listener.endClients(is),
    async [Symbol.asyncDispose]() {
      const closed = servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
          }),
      );
      listener.destroy();
      await Promise.all(closed);
    },
  };
}
