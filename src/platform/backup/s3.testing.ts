/**
 * A store that speaks the part of S3's protocol that backups use, and checks signatures by itself (Amazon S3 API
 * reference, "Signature Calculations for the Authorization Header"), with faults that a test asks for.
 */
import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

export interface TestS3 extends AsyncDisposable {
  endpoint: string;
  objects: Map<string, Buffer>;
  uploads: Map<string, Buffer[]>;
  /** So many of the next requests are answered 503; so many of the next readings break off in the middle. */
  faults: { busy: number; broken: number };
  requests: string[];
}

export const testAccess = { accessKeyId: 'AKID', secretAccessKey: 'secret/key', region: 'eu-test-1' };

const hex = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

function isSigned(request: IncomingMessage, url: URL, body: Buffer): boolean {
  const [, date = '', region = '', signed = '', signature = ''] =
    /^AWS4-HMAC-SHA256 Credential=AKID\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)$/.exec(
      request.headers.authorization ?? '',
    ) ?? [];
  if (region !== testAccess.region || request.headers['x-amz-content-sha256'] !== hex(body)) return false;
  const encode = (text: string): string =>
    encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...url.searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort();
  const headers = signed.split(';').map((name) => `${name}:${String(request.headers[name]).trim()}\n`);
  const canonical = [request.method, url.pathname, query.join('&'), headers.join(''), signed, hex(body)].join('\n');
  const scope = `${date}/${region}/s3/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, hex(canonical)].join('\n');
  const key = [region, 's3', 'aws4_request'].reduce(hmac, hmac(`AWS4${testAccess.secretAccessKey}`, date));
  return hmac(key, text).toString('hex') === signature;
}

class Store {
  readonly objects = new Map<string, Buffer>();
  readonly uploads = new Map<string, Buffer[]>();
  readonly faults = { busy: 0, broken: 0 };
  readonly requests: string[] = [];

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const chunk of request) parts.push(Buffer.from(chunk));
    const body = Buffer.concat(parts);
    const url = new URL(request.url ?? '/', 'http://s3');
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    if (this.faults.busy > 0) {
      this.faults.busy--;
      fail(response, 503, 'SlowDown');
    } else if (!isSigned(request, url, body)) fail(response, 403, 'SignatureDoesNotMatch');
    else this.#answer({ request, response, url, body });
  }

  #answer(call: { request: IncomingMessage; response: ServerResponse; url: URL; body: Buffer }): void {
    const { request, response, url } = call;
    const [, bucket, ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const key = rest.join('/');
    const uploadId = url.searchParams.get('uploadId');
    if (bucket !== 'backups') fail(response, 404, 'NoSuchBucket');
    else if (request.method === 'GET') this.#get(request, response, url, key);
    else if (url.searchParams.has('uploads')) {
      const id = `upload+${this.uploads.size}/1`;
      this.uploads.set(id, []);
      response.end(`<R><UploadId>${id}</UploadId></R>`);
    } else if (uploadId !== null) this.#upload(call, key, uploadId);
    else {
      this.objects.delete(key);
      response.writeHead(204).end();
    }
  }

  #upload(
    { request, response, url, body }: { request: IncomingMessage; response: ServerResponse; url: URL; body: Buffer },
    key: string,
    id: string,
  ): void {
    const parts = this.uploads.get(id);
    if (parts === undefined) fail(response, 404, 'NoSuchUpload');
    else if (request.method === 'PUT') {
      parts[Number(url.searchParams.get('partNumber')) - 1] = body;
      response.setHeader('etag', `"${hex(body)}"`).end();
    } else {
      this.uploads.delete(id);
      if (request.method === 'DELETE') response.writeHead(204).end();
      else if (parts.every((part) => body.includes(hex(part)))) {
        this.objects.set(key, Buffer.concat(parts));
        response.end('<R><ETag>"whole"</ETag></R>');
      } else fail(response, 400, 'InvalidPart');
    }
  }

  #get(request: IncomingMessage, response: ServerResponse, url: URL, key: string): void {
    const prefix = url.searchParams.get('prefix');
    if (prefix !== null) {
      // Two on a page, as a store may.
      const keys = [...this.objects.keys()].filter((each) => each.startsWith(prefix)).sort();
      const from = Number(url.searchParams.get('continuation-token') ?? 0);
      const more = from + 2 < keys.length ? `<NextContinuationToken>${from + 2}</NextContinuationToken>` : '';
      const page = keys.slice(from, from + 2).map((each) => `<Key>${each.replaceAll('&', '&amp;')}</Key>`);
      response.end(`<R>${page.join('')}${more}</R>`);
      return;
    }
    const object = this.objects.get(key);
    if (object === undefined) {
      fail(response, 404, 'NoSuchKey');
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const rest = object.subarray(from);
    response.writeHead(from === 0 ? 200 : 206, { etag: `"${hex(object)}"`, 'content-length': rest.length });
    if (this.faults.broken === 0) response.end(rest);
    else {
      this.faults.broken--;
      response.write(rest.subarray(0, rest.length >> 1), () => response.destroy());
    }
  }
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status).end(`<Error><Code>${code}</Code><Message>so it is</Message></Error>`);
}

export async function startS3(): Promise<TestS3> {
  const store = new Store();
  const server = createServer((request, response) => void store.handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens nowhere');
  return Object.assign(store, {
    endpoint: `http://127.0.0.1:${address.port}`,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  });
}
