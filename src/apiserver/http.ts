/**
 * The API server on a socket: HTTP/2 and HTTP/1.1 over TLS on one port, client certificates as identities, and
 * connections that are passed on to a kubelet, node, Pod or Service. Turns messages into `ApiRequest`s
 * (`http-request.ts`) and answers into messages (`http-answer.ts`, `http-forward.ts`); decides nothing itself.
 */
import { IncomingMessage, ServerResponse } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { Http2SecureServer, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import type { UserInfo } from '#base/api-request.ts';
import type { KeyPair } from '#base/x509.ts';
import type { ProxyConfig } from './authn/request-header.ts';
import type { ApiServer } from './server.ts';
import { createRemoteCaller } from './aggregation-client.ts';
import { connectionOf as targetOf } from './connect.ts';
import type { HeldPort } from './held-port.ts';
import { fail, failUpgrade, send, writeHttp1, type HttpResponse } from './http-answer.ts';
import { Forwarder } from './http-forward.ts';
import {
  BodyBudget,
  connectionOf,
  Http2Request,
  Peers,
  toApiRequest,
  type Certified,
  type HttpRequest,
} from './http-request.ts';
import { Intake } from './intake.ts';
import { streamsMax } from './limits.ts';
import { StreamLimits } from './stream-limits.ts';
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

/** When a client goes; a signal of it is made for who asks. */
class Departure {
  #controller: AbortController | undefined;
  #hasGone = false;

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#hasGone) this.#controller.abort(clientGone);
    }
    return this.#controller.signal;
  }

  note(): void {
    this.#hasGone = true;
    this.#controller?.abort(clientGone);
  }
}

/** Who writes to a client that has gone is told so by `close` as well. */
const ignoreError = (): void => undefined;

/** Of a request that has come. */
interface Asked {
  client: Departure;
  /** Its answer begins. */
  onAnswer: (() => void) | undefined;
}

class Listener {
  readonly #options: HttpOptions;
  readonly #forwarder: Forwarder;
  readonly #sockets = new Set<Socket>();
  /** Those whose handshake is done. */
  readonly #secured = new Set<TLSSocket>();
  readonly #bodies = new BodyBudget();
  readonly #intake: Intake;
  readonly #streams: StreamLimits;
  readonly #peers: Peers;

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#peers = new Peers(options.clientCa, options.proxy);
    const { thread, clock } = options.api.server.options;
    this.#intake = new Intake(thread);
    this.#streams = new StreamLimits(clock);
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
      settings: { maxConcurrentStreams: streamsMax, initialWindowSize: 1 << 20 },
    });
    server.on('request', (request, response) => {
      // Streams do not come here, as what would make requests of them is taken away.
      if (request instanceof IncomingMessage && response instanceof ServerResponse) this.#take(request, response);
    });
    server.removeAllListeners('stream');
    server.on(
      'stream',
      (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, rawHeaders: string[]) => {
        const { session } = stream;
        const streams = session === undefined ? undefined : this.#streams.begin(session);
        if (streams !== undefined) stream.once('close', streams.ended);
        if (headers.expect === '100-continue') stream.additionalHeaders({ ':status': 100 });
        this.#take(new Http2Request(stream, headers, rawHeaders), stream, streams?.answered);
      },
    );
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

  #take(request: HttpRequest, response: HttpResponse, onAnswer?: () => void): void {
    const client = new Departure();
    response.once('close', () => client.note());
    response.on('error', ignoreError);
    this.#intake.take(connectionOf(request) ?? request, () => {
      if (!response.destroyed) void this.#serve(request, response, { client, onAnswer });
    });
  }

  async #serve(request: HttpRequest, response: HttpResponse, { client, onAnswer }: Asked): Promise<void> {
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
        signal: () => client.signal,
        peers: this.#peers,
      });
      const answer = await this.#options.api.handle(apiRequest);
      onAnswer?.();
      const target = targetOf(answer);
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
    const client = new Departure();
    socket.on('error', () => client.note()).once('close', () => client.note());
    try {
      const from = toApiRequest(request, { readBody: undefined, signal: () => client.signal, peers: this.#peers });
      const answer = await this.#options.api.handle(from);
      const target = targetOf(answer);
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
