/**
 * What answers on a simulated container's ports: requests by a function from `Request` to `Response` (the Fetch
 * standard's), or bare connections.
 */
import { whenDrained } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { duplexPair, type Duplex, Readable } from 'node:stream';
import type { ContainerContext, PortAnswer, PortScript } from './pod-script.ts';

function toRequest(request: IncomingMessage): Request {
  const headers = new Headers();
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    const [name = '', value = ''] = request.rawHeaders.slice(at, at + 2);
    headers.append(name, value);
  }
  const url = new URL(request.url ?? '/', `http://${request.headers.host ?? 'localhost'}`);
  const method = request.method ?? 'GET';
  if (method === 'GET' || method === 'HEAD') return new Request(url, { method, headers });
  return new Request(url, { method, headers, body: Readable.toWeb(request), duplex: 'half' });
}

async function sendAnswer(answer: PortAnswer, response: ServerResponse): Promise<void> {
  if (typeof answer === 'string') {
    response.end(answer);
    return;
  }
  response.statusCode = answer.status;
  if (answer.statusText !== '') response.statusMessage = answer.statusText;
  response.setHeaders(answer.headers);
  if (answer.body === null) {
    response.end();
    return;
  }
  for await (const chunk of answer.body) {
    if (response.destroyed) return;
    if (!response.write(chunk)) await whenDrained(response);
  }
  response.end();
}

async function answerRequest(
  handle: (request: Request) => PortAnswer | Promise<PortAnswer>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    await sendAnswer(await handle(toRequest(request)), response);
  } catch (error) {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(error)}\n`);
  }
}

function httpServer(handle: (request: Request) => PortAnswer | Promise<PortAnswer>): Server {
  const server = createServer((request, response) => {
    void answerRequest(handle, request, response);
  });
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  });
  return server;
}

/** The client's end of a connection to what listens on a port. `context` is asked anew for each request. */
export function connectTo(script: PortScript, context: () => ContainerContext): Duplex {
  const [client, server] = duplexPair();
  for (const end of [client, server]) end.on('error', () => undefined);
  // Whichever end breaks off, the other one learns it.
  client.once('close', () => {
    server.destroy();
  });
  server.once('close', () => {
    if (!client.readableEnded && !server.writableFinished) client.destroy();
  });
  if (typeof script === 'function') httpServer((request) => script(request, context())).emit('connection', server);
  else script.accept(server, context());
  return client;
}
