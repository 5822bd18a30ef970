/**
 * Answers as messages of HTTP/2 or 1.1: whole, or in pieces as the connection takes them; errors as a Status; and what
 * is written on an upgraded connection by itself.
 */
import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';

export type HttpResponse = Http2ServerResponse | ServerResponse;

/** The compatibility response of HTTP/2 has the methods of HTTP/1.1. */
export function responseOf(either: HttpResponse): ServerResponse {
  return either as ServerResponse;
}

/** `head`: the body is told of and left out. */
export async function send(
  either: HttpResponse,
  answer: Pick<ApiResponse, 'status' | 'headers' | 'body'>,
  head: boolean,
): Promise<void> {
  const response = responseOf(either);
  const body = answer.body;
  if (body === undefined || body instanceof Uint8Array) {
    response.writeHead(
      answer.status,
      body === undefined ? answer.headers : { ...answer.headers, 'content-length': String(body.length) },
    );
    response.end(head ? undefined : body);
    return;
  }
  response.writeHead(answer.status, answer.headers);
  response.flushHeaders?.();
  for await (const chunk of body) {
    if (response.destroyed || response.closed) break;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
}

/**
 * Resolves when the response takes more, or never will; nothing goes on listening. Those of HTTP/2 do not say that they
 * wait (base/streams.ts: whenDrained).
 */
function drained(response: HttpResponse): Promise<void> {
  if (response.destroyed || response.closed) return Promise.resolve();
  return new Promise((resolve) => {
    const go = (): void => {
      response.off('drain', go);
      response.off('close', go);
      resolve();
    };
    response.on('drain', go);
    response.on('close', go);
  });
}

/** Says what went wrong; where the answer has begun, it breaks off. */
export function fail(either: HttpResponse, error: unknown): void {
  const response = responseOf(either);
  if (response.headersSent || response.destroyed) {
    response.destroy?.();
    return;
  }
  const { code, body } = asStatus(error);
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': String(body.length) });
  response.end(body);
}

/** An error as the Status that clients read. */
function asStatus(error: unknown): { code: number; body: Buffer } {
  const known = error instanceof ApiError ? error : new ApiError('InternalError', messageOf(error));
  return { code: known.code, body: Buffer.from(JSON.stringify(known.toStatus())) };
}

/** The same on the bare socket of an upgrade. */
export function failUpgrade(socket: Duplex, error: unknown): void {
  const { code, body } = asStatus(error);
  writeHttp1(socket, code, { 'content-type': 'application/json' }, body);
}

/** Headers of an answer (`rawHeaders`) whose connection ends with it. */
export function withoutHop(raw: string[]): string[] {
  const out: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const [name = '', value = ''] = raw.slice(i, i + 2);
    if (!['transfer-encoding', 'connection', 'keep-alive'].includes(name.toLowerCase())) out.push(name, value);
  }
  out.push('Connection', 'close');
  return out;
}

// walk exec-stream 2/5: the upgraded connection is passed on as bytes, both ways.
export function writeHead(socket: Duplex, status: number, raw: readonly string[]): void {
  let text = `HTTP/1.1 ${status} ${status === 101 ? 'Switching Protocols' : 'Answer'}\r\n`;
  for (let i = 0; i < raw.length; i += 2) text += `${raw[i]}: ${raw[i + 1]}\r\n`;
  socket.write(`${text}\r\n`);
}

export function writeHttp1(
  socket: Duplex,
  status: number,
  headers: Record<string, string>,
  body: Uint8Array | undefined,
): void {
  writeHead(socket, status, [
    ...Object.entries(headers).flat(),
    'Content-Length',
    String(body?.length ?? 0),
    'Connection',
    'close',
  ]);
  socket.end(body);
}
