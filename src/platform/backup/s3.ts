/**
 * An S3 store: objects that are written in parts and appear whole or not at all (multipart upload), and read again from
 * where the connection broke. Requests are signed by `aws4fetch` (Signature Version 4), payload included. Buckets are
 * named in the path, which every store knows.
 */
import { createHash } from 'node:crypto';
import { AwsClient } from 'aws4fetch';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { realClock } from '#os/clock.real.ts';
import { s3AttemptsMax, s3AnswerBytesMax, s3PartBytes, s3PartsPerSize, s3RetryMs } from '../limits.ts';
import type { S3Access } from './s3-access.ts';

interface S3Request {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  key: string;
  query?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
}

const unescapeXml = (text: string): string =>
  text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&#39;', "'")
    .replaceAll('&#34;', '"')
    .replaceAll('&amp;', '&');

/** Texts of the elements of this name. */
function elements(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map(([, text = '']) => unescapeXml(text));
}

const encodeKey = (key: string): string =>
  key
    .split('/')
    .map((part) =>
      encodeURIComponent(part).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`),
    )
    .join('/');

export class S3Bucket {
  readonly #client: AwsClient;
  readonly #url: string;
  readonly #bucket: string;

  constructor(access: S3Access, bucket: string) {
    const { endpoint, ...rest } = access;
    this.#bucket = bucket;
    this.#client = new AwsClient({ ...rest, service: 's3', retries: 0 });
    this.#url = `${endpoint}/${bucket}`;
  }

  /** The answer, whatever it says; what may pass is tried again. */
  async #send({ method, key, query = {}, body, headers = {} }: S3Request): Promise<Response> {
    const search = new URLSearchParams(query).toString().replaceAll('+', '%20');
    const url = `${this.#url}/${encodeKey(key)}${search === '' ? '' : `?${search}`}`;
    const hash = createHash('sha256')
      .update(body ?? '')
      .digest('hex');
    for (let attempt = 1; ; attempt++) {
      let why: string;
      try {
        const response = await this.#client.fetch(url, {
          method,
          redirect: 'manual',
          headers: { ...headers, 'x-amz-content-sha256': hash },
          ...(body === undefined ? {} : { body }),
        });
        if (response.status < 500 && response.status !== 429) return response;
        why = await this.#problem(response);
      } catch (error) {
        const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : '';
        why = `${messageOf(error)}${cause}`;
      }
      if (attempt === s3AttemptsMax) throw new ApiError('ServiceUnavailable', `${this.#url} does not answer: ${why}`);
      await realClock.sleep(s3RetryMs * 2 ** (attempt - 1));
    }
  }

  /** What the store says in words. */
  async #problem(response: Response): Promise<string> {
    const text = (await response.text()).slice(0, s3AnswerBytesMax);
    const [code] = elements(text, 'Code');
    const [message] = elements(text, 'Message');
    return code === undefined ? `status ${response.status}` : `${code}${message === undefined ? '' : `: ${message}`}`;
  }

  /** Rejects with what the store says. */
  async #ask(request: S3Request, isRead = false): Promise<Response> {
    const response = await this.#send(request);
    if (response.ok) return response;
    const isMissing = response.status === 404;
    throw new ApiError(
      isMissing ? 'NotFound' : response.status === 403 ? 'Forbidden' : 'BadRequest',
      `s3://${this.#bucket}/${request.key}: ${await this.#problem(response)}${isMissing || isRead ? '' : ' (it was not written)'}`,
    );
  }

  /** All of it is there when it resolves, and nothing where it rejects. */
  async write(key: string, bytes: AsyncIterable<Uint8Array>): Promise<number> {
    const begun = await (await this.#ask({ method: 'POST', key, query: { uploads: '' } })).text();
    const [uploadId] = elements(begun, 'UploadId');
    if (uploadId === undefined) throw new ApiError('BadRequest', `${this.#url} does not begin uploads as S3 does`);
    try {
      const { parts, length } = await this.#writeParts(key, uploadId, bytes);
      const list = parts.map((tag, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>${tag}</ETag></Part>`);
      const body = Buffer.from(`<CompleteMultipartUpload>${list.join('')}</CompleteMultipartUpload>`);
      const done = await (await this.#ask({ method: 'POST', key, query: { uploadId }, body })).text();
      // An error may come after the head of a good answer.
      if (elements(done, 'ETag').length === 0)
        throw new ApiError(
          'BadRequest',
          `s3://${this.#bucket}/${key}: ${elements(done, 'Message')[0] ?? 'it was not completed'}`,
        );
      return length;
    } catch (error) {
      // What is left of it costs room there, and is nothing else.
      await this.#send({ method: 'DELETE', key, query: { uploadId } }).catch(() => undefined);
      throw error;
    }
  }

  /** Parts grow with their number: a store takes ten thousand of them. */
  async #writeParts(
    key: string,
    uploadId: string,
    bytes: AsyncIterable<Uint8Array>,
  ): Promise<{ parts: string[]; length: number }> {
    const parts: string[] = [];
    let held: Uint8Array[] = [];
    let count = 0;
    let length = 0;
    const put = async (): Promise<void> => {
      const body = Buffer.concat(held);
      const query = { partNumber: String(parts.length + 1), uploadId };
      const tag = (await this.#ask({ method: 'PUT', key, query, body })).headers.get('etag');
      if (tag === null) throw new ApiError('BadRequest', `${this.#url} does not name the parts of an upload`);
      parts.push(tag.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;'));
      length += body.length;
      held = [];
      count = 0;
    };
    for await (const chunk of bytes) {
      held.push(chunk);
      count += chunk.length;
      if (count >= s3PartBytes * 2 ** Math.floor(parts.length / s3PartsPerSize)) await put();
    }
    if (count > 0 || parts.length === 0) await put();
    return { parts, length };
  }

  /** A connection that breaks is begun anew where it broke, while the object is the same. */
  async *read(key: string): AsyncGenerator<Uint8Array> {
    let at = 0;
    let tag: string | null = null;
    for (let attempt = 1; ; attempt++) {
      const headers: Record<string, string> = {
        ...(at === 0 ? {} : { range: `bytes=${at}-` }),
        ...(tag === null ? {} : { 'if-match': tag }),
      };
      const response = await this.#ask({ method: 'GET', key, headers }, true);
      if (at > 0 && response.status !== 206)
        throw new ApiError('ServiceUnavailable', `${this.#url} does not go on with an object where it was left`);
      tag ??= response.headers.get('etag');
      const body: AsyncIterable<Uint8Array> | null = response.body;
      try {
        if (body === null) return;
        for await (const chunk of body) {
          at += chunk.length;
          attempt = 1;
          yield chunk;
        }
        return;
      } catch (cause) {
        if (attempt < s3AttemptsMax) continue;
        const error = new ApiError('ServiceUnavailable', `${this.#url} breaks off: ${messageOf(cause)}`);
        error.cause = cause;
        throw error;
      }
    }
  }

  /** Keys that begin so, in order. */
  async list(prefix: string): Promise<string[]> {
    const keys: string[] = [];
    let token: string | undefined;
    do {
      const query = { 'list-type': '2', prefix, ...(token === undefined ? {} : { 'continuation-token': token }) };
      const answer = await (await this.#ask({ method: 'GET', key: '', query }, true)).text();
      keys.push(...elements(answer, 'Key'));
      [token] = elements(answer, 'NextContinuationToken');
    } while (token !== undefined);
    return keys.sort();
  }

  async remove(key: string): Promise<void> {
    await this.#ask({ method: 'DELETE', key }, true);
  }
}
