/**
 * Calls of one plugin: POST of JSON, answered in JSON with `Err` where it failed. What comes back is bounded in size
 * and time; a plugin that is away is tried again for a while, with growing pauses.
 *
 * Source: Docker documentation, "Docker Plugin API"; docker 28.5, pkg/plugins/client.go.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { ApiError } from '#base/errors.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { fieldOf, isObject, textOf, type JsonObject } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import type { PluginAddress } from './discovery.ts';
import { pluginAnswerBytesMax, pluginCallMsMax, pluginRetryMs, pluginWaitMsMax } from './limits.ts';

const mediaType = 'application/vnd.docker.plugins.v1.2+json';
const awayCodes = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE']);

export interface CallOptions {
  timeoutMs?: number;
  /** One that is away is not waited for. */
  isOnce?: boolean;
}

/** Throws ApiError: what the plugin says, or why it says nothing. */
export async function callPlugin(
  address: PluginAddress,
  method: string,
  body: object,
  { clock, timeoutMs = address.timeoutMs ?? pluginCallMsMax, isOnce = false }: CallOptions & { clock: Clock },
): Promise<JsonObject> {
  const begunMs = clock.monotonic();
  for (let delayMs = pluginRetryMs; ; delayMs *= 2) {
    try {
      return await callOnce(address, method, body, timeoutMs);
    } catch (error) {
      const isAway = awayCodes.has(codeOf(error) ?? '');
      const leftMs = Math.min(pluginWaitMsMax, timeoutMs) - (clock.monotonic() - begunMs);
      if (!isAway || isOnce || leftMs <= delayMs) {
        if (error instanceof ApiError) throw error;
        throw new ApiError('InternalError', `plugin ${JSON.stringify(address.name)}: ${method}: ${messageOf(error)}`);
      }
      await clock.sleep(delayMs);
    }
  }
}

/** Sends a request; `hear` gets the answer, `reject` what prevents one. */
function post(
  address: PluginAddress,
  { method, body, signal }: { method: string; body: object; signal: AbortSignal | undefined },
  hear: (answer: IncomingMessage) => void,
  reject: (error: Error) => void,
): void {
  const bytes = Buffer.from(JSON.stringify(body));
  const { tls } = address;
  const call = (tls === undefined ? httpRequest : httpsRequest)(
    {
      ...address.target,
      ...(tls === undefined ? {} : { ca: tls.ca, cert: tls.cert, key: tls.key, rejectUnauthorized: !tls.isInsecure }),
      method: 'POST',
      path: `/${method}`,
      // A connection that is kept could be one of a plugin that was replaced.
      agent: false,
      ...(signal === undefined ? {} : { signal }),
      headers: { accept: mediaType, 'content-type': mediaType, 'content-length': bytes.length },
    },
    hear,
  );
  call.on('error', reject);
  call.end(bytes);
}

/** The bytes of an answer as they come. Throws ApiError where it is none, or breaks off. */
export async function* streamPlugin(
  address: PluginAddress,
  method: string,
  body: object,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  post(address, { method, body, signal }, resolve, reject);
  try {
    const answer = await promise;
    if (answer.statusCode !== 200) {
      answer.destroy();
      throw new Error(`status ${answer.statusCode}`);
    }
    for await (const part of answer) yield Buffer.from(part);
  } catch (error) {
    if (signal?.aborted === true) return;
    throw new ApiError('InternalError', `plugin ${JSON.stringify(address.name)}: ${method}: ${messageOf(error)}`);
  }
}

function callOnce(address: PluginAddress, method: string, body: object, timeoutMs: number): Promise<JsonObject> {
  const { promise, resolve, reject } = Promise.withResolvers<JsonObject>();
  post(
    address,
    { method, body, signal: AbortSignal.timeout(timeoutMs) },
    (answer) => {
      const parts: Buffer[] = [];
      let size = 0;
      answer.on('data', (part: Buffer) => {
        size += part.length;
        if (size > pluginAnswerBytesMax) answer.destroy(new Error('its answer is too long'));
        else parts.push(part);
      });
      answer.on('error', reject);
      answer.on('end', () => {
        try {
          resolve(readAnswer(address.name, method, answer.statusCode ?? 0, Buffer.concat(parts).toString()));
        } catch (error) {
          reject(error);
        }
      });
    },
    reject,
  );
  return promise;
}

function readAnswer(name: string, method: string, status: number, text: string): JsonObject {
  const failed = (reason: string): ApiError => new ApiError('InternalError', `${method}: ${reason}`);
  let body: unknown = {};
  try {
    if (text.trim() !== '') body = JSON.parse(text);
  } catch {
    if (status === 200) throw failed(`plugin ${JSON.stringify(name)} did not answer with JSON`);
  }
  if (status === 404 && !isObject(body)) throw new ApiError('NotFound', `${method}: not found`);
  const said = textOf(body, 'Err') ?? '';
  if (said !== '') throw failed(said);
  if (status !== 200) throw failed(text.trim().slice(0, 1000) || `status ${status}`);
  return isObject(body) ? body : { value: fieldOf(body) };
}
