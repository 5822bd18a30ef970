/**
 * Answers as messages of HTTP/2 or 1.1: whole, or in pieces as the connection takes them; errors as a Status; and what
 * is written on an upgraded connection by itself.
 */
import type { ServerResponse } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';

/** What an answer is written to: a stream of HTTP/2, or a response of HTTP/1.1. */
export type HttpResponse = ServerHttp2Stream | ServerResponse;

/** The head of an answer, and what comes behind it: nothing, the whole body at once, or pieces some time. */
export function writeAnswerHead(
  response: HttpResponse,
  { status, headers }: Pick<ApiResponse, 'status' | 'headers'>,
  then: 'nothing' | 'body' | 'pieces',
): void {
  if ('respond' in response) {
    response.respond({ ':status': status, ...headers }, then === 'nothing' ? { endStream: true } : {});
    return;
  }
  response.writeHead(status, headers);
  if (then === 'nothing') response.end();
  else if (then === 'pieces') response.flushHeaders();
}

/** `head`: the body is told of and left out. */
export async function send(
  response: HttpResponse,
  { status, headers, body }: Pick<ApiResponse, 'status' | 'headers' | 'body'>,
  head: boolean,
): Promise<void> {
  if (response.destroyed || response.closed) return;
  const told = body instanceof Uint8Array ? { ...headers, 'content-length': String(body.length) } : headers;
  if (head || body === undefined) return writeAnswerHead(response, { status, headers: told }, 'nothing');
  if (body instanceof Uint8Array) {
    writeAnswerHead(response, { status, headers: told }, 'body');
    response.end(body);
    return;
  }
  writeAnswerHead(response, { status, headers }, 'pieces');
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
export function fail(response: HttpResponse, error: unknown): void {
  if (response.headersSent || response.destroyed || response.closed) {
    response.destroy();
    return;
  }
  const { code, body } = asStatus(error);
  const headers = { 'content-type': 'application/json', 'content-length': String(body.length) };
  writeAnswerHead(response, { status: code, headers }, 'body');
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
