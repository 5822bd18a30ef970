/**
 * Blobs: pull with ranges, delete, and uploads - whole, in chunks, or mounted from another repository ("end-2", "end-4"
 * to "end-6", "end-10", "end-11").
 */
import { pipeline } from 'node:stream/promises';
import { isDigest, isRepositoryPath } from '#base/reference.ts';
import type { Upload, UploadOwner } from '#content/blobs.ts';
import { RegistryError } from './errors.ts';
import { blobBytesMax } from './limits.ts';
import { send } from './call.ts';
import type { Call } from './call.ts';

export function decodeDigest(text: string): string {
  let digest: string;
  try {
    digest = decodeURIComponent(text);
  } catch {
    throw new RegistryError('DIGEST_INVALID');
  }
  if (!isDigest(digest)) throw new RegistryError('DIGEST_INVALID', `invalid digest: ${digest}`);
  return digest;
}

/** `bytes=a-b`, `bytes=a-`, `bytes=-n`; undefined for what is to be ignored (RFC 9110, 14.2). */
function parseRange(header: string | undefined, sizeBytes: number): { start: number; end: number } | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '');
  if (match === null || (match[1] === '' && match[2] === '')) return undefined;
  const unsatisfiable = (): never => {
    throw new RegistryError('RANGE_INVALID', 'the requested range is not satisfiable', {
      headers: { 'content-range': `bytes */${sizeBytes}` },
    });
  };
  if (match[1] === '') {
    const count = Number(match[2]);
    return count === 0 || sizeBytes === 0
      ? unsatisfiable()
      : { start: Math.max(0, sizeBytes - count), end: sizeBytes - 1 };
  }
  const start = Number(match[1]);
  const end = match[2] === '' ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1);
  if (match[2] !== '' && Number(match[2]) < start) return unsatisfiable();
  return start >= sizeBytes ? unsatisfiable() : { start, end };
}

export async function handleBlob(call: Call, text: string): Promise<void> {
  const digest = decodeDigest(text);
  const { blobs } = call.content;
  const isThere = call.repositories.hasBlob(call.path, digest) || (call.mirrorOf !== undefined && blobs.has(digest));
  if (call.method === 'DELETE') {
    if (!isThere) throw new RegistryError('BLOB_UNKNOWN');
    await call.repositories.removeBlob(call.path, digest);
    send(call.response, 202);
    // The next collection takes what this one leaves.
    void call.content.collect().catch(() => {});
    return;
  }
  if (call.method !== 'GET' && call.method !== 'HEAD') throw new RegistryError('UNSUPPORTED');
  const sizeBytes = blobs.size(digest);
  if (!isThere || sizeBytes === undefined) throw new RegistryError('BLOB_UNKNOWN');
  const range = parseRange(call.request.headers.range, sizeBytes);
  const headers = {
    'content-type': 'application/octet-stream',
    'docker-content-digest': digest,
    etag: `"${digest}"`,
    'accept-ranges': 'bytes',
    'cache-control': 'max-age=31536000',
    'docker-distribution-api-version': 'registry/2.0',
    'content-length': range === undefined ? sizeBytes : range.end - range.start + 1,
    ...(range === undefined ? {} : { 'content-range': `bytes ${range.start}-${range.end}/${sizeBytes}` }),
  };
  if (range === undefined && call.request.headers['if-none-match'] === `"${digest}"`) {
    send(call.response, 304, { etag: `"${digest}"` });
    return;
  }
  call.response.writeHead(range === undefined ? 200 : 206, headers);
  if (call.method === 'HEAD' || sizeBytes === 0) {
    call.response.end();
    return;
  }
  using hold = call.content.hold();
  hold.addBlob(digest);
  await pipeline(blobs.read(digest, range), call.response);
}

const ownerOf = (call: Call): UploadOwner => ({ user: call.identity?.name ?? '', repository: call.path });

const location = (call: Call, upload: Upload): Record<string, string> => ({
  location: `/v2/${call.path}/blobs/uploads/${upload.id}`,
  'docker-upload-uuid': upload.id,
  range: `0-${Math.max(0, upload.offset - 1)}`,
});

async function created(call: Call, digest: string): Promise<void> {
  await call.repositories.addBlob(call.path, digest);
  send(call.response, 201, { location: `/v2/${call.path}/blobs/${digest}`, 'docker-content-digest': digest });
}

/** Content-Length, when it is there, must be what came. */
async function append(call: Call, upload: Upload): Promise<void> {
  const announced = call.request.headers['content-length'];
  const before = upload.offset;
  await upload.append(call.request as AsyncIterable<Uint8Array>, blobBytesMax - before);
  if (announced !== undefined && upload.offset - before !== Number(announced)) throw new RegistryError('SIZE_INVALID');
}

async function startUpload(call: Call): Promise<void> {
  const query = call.url.searchParams;
  const mount = query.get('mount');
  if (mount !== null) {
    const digest = decodeDigest(mount);
    const from = query.get('from');
    // Without `from` any repository will do ("automatic content discovery" of 1.1).
    const isMountable =
      from === null
        ? call.repositories.hasBlobAnywhere(digest)
        : isRepositoryPath(from) && call.repositories.hasBlob(from, digest);
    if (isMountable) {
      await created(call, digest);
      return;
    }
  }
  const algorithm = query.get('digest-algorithm');
  if (algorithm !== null && !['sha256', 'sha512'].includes(algorithm))
    throw new RegistryError('DIGEST_INVALID', `unsupported digest algorithm: ${algorithm}`);
  const wanted = query.get('digest');
  const digest = wanted === null ? undefined : decodeDigest(wanted);
  const upload = await call.content.blobs.startUpload(ownerOf(call));
  if (digest === undefined) {
    send(call.response, 202, location(call, upload));
    return;
  }
  await finishUpload(call, upload, digest, true);
}

async function finishUpload(call: Call, upload: Upload, digest: string, dropOnError = false): Promise<void> {
  using hold = call.content.hold();
  hold.addBlob(digest);
  try {
    await append(call, upload);
    await upload.finish({ digest });
  } catch (error) {
    if (dropOnError) await upload.cancel();
    throw error;
  }
  await created(call, digest);
}

/** A chunk must begin where the last one ended ("Pushing a blob in chunks"). */
function checkChunk(call: Call, upload: Upload): void {
  const header = call.request.headers['content-range'];
  if (header === undefined) return;
  const match = /^(?:bytes )?(\d+)-(\d+)(?:\/.*)?$/.exec(header);
  const length = call.request.headers['content-length'];
  const isWrong =
    match === null ||
    Number(match[1]) !== upload.offset ||
    (length !== undefined && Number(length) > 0 && Number(match[2]) - Number(match[1]) + 1 !== Number(length));
  if (isWrong)
    throw new RegistryError('RANGE_INVALID', 'the chunk does not begin at the end of the upload', {
      headers: location(call, upload),
    });
}

export async function handleUpload(call: Call, id: string): Promise<void> {
  if (id === '') {
    if (call.method !== 'POST') throw new RegistryError('UNSUPPORTED');
    await startUpload(call);
    return;
  }
  const upload = call.content.blobs.upload(id, ownerOf(call));
  if (upload === undefined) throw new RegistryError('BLOB_UPLOAD_UNKNOWN');
  switch (call.method) {
    case 'GET':
    case 'HEAD':
      send(call.response, 204, location(call, upload));
      return;
    case 'DELETE':
      await upload.cancel();
      send(call.response, 204);
      return;
    case 'PATCH':
      checkChunk(call, upload);
      await append(call, upload);
      send(call.response, 202, location(call, upload));
      return;
    case 'PUT': {
      const digest = call.url.searchParams.get('digest');
      if (digest === null) throw new RegistryError('DIGEST_INVALID', 'digest is missing');
      checkChunk(call, upload);
      await finishUpload(call, upload, decodeDigest(digest));
      return;
    }
    default:
      throw new RegistryError('UNSUPPORTED');
  }
}
