/** Manifests, tags and referrers ("end-3", "end-7", "end-9", "end-12", "end-13"). */
import { createHash } from 'node:crypto';
import { canonicalName, isDigest, isTag } from '#base/reference.ts';
import { mediaTypes } from '#content/image-records.ts';
import type { ImageTarget } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import { manifestBytesMax } from '#content/limits.ts';
import { decodeDigest } from './blobs.ts';
import { RegistryError } from './errors.ts';
import { tagsPerPutMax } from './limits.ts';
import { send } from './call.ts';
import type { Call } from './call.ts';

async function readBody(call: Call): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of call.request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > manifestBytesMax)
      throw new RegistryError('MANIFEST_INVALID', `manifest is larger than ${manifestBytesMax} bytes`, { status: 413 });
    parts.push(chunk);
  }
  return Buffer.concat(parts);
}

/** Names that the engine itself holds, for the platform's other engines. */
async function resolveMirror(
  call: Call,
  reference: string,
): Promise<{ digest: string; mediaType: string } | undefined> {
  if (call.mirrorOf === undefined) return undefined;
  const { images, content } = call;
  const name = canonicalName({
    domain: call.mirrorOf,
    path: call.path,
    ...(isDigest(reference) ? { digest: reference } : { tag: reference }),
  });
  const look = (): ImageTarget | undefined => {
    const target = images.findTarget(name);
    const found = isDigest(reference) ? images.findTarget(reference) : undefined;
    return target ?? found;
  };
  // What could not be brought is not here: the answer below says so.
  if (look() === undefined) await call.bring?.(name).catch(() => {});
  const target = look();
  if (target === undefined) return undefined;
  const { image: record, index } = target;
  // The asker's own credential is for the registry that the name says to judge.
  if (record.isCredentialed === true) return undefined;
  // A manifest of an index by its own digest; by the name all of it, of which the asker takes what it needs.
  if (isDigest(reference) && reference !== record.id && content.blobs.has(reference)) {
    const entry = images
      .indexesOf(record.id)
      .flatMap(({ manifests }) => manifests)
      .find(({ descriptor }) => descriptor.digest === reference);
    const own = index?.digest === reference ? index.mediaType : record.manifestMediaType;
    return { digest: reference, mediaType: entry?.descriptor.mediaType ?? own };
  }
  if (index !== undefined) return { digest: index.digest, mediaType: index.mediaType };
  if (record.manifestDigest !== '') return { digest: record.manifestDigest, mediaType: record.manifestMediaType };
  const made = await writeManifest(content, record);
  await images.put({ ...record, manifestDigest: made.digest, manifestMediaType: made.mediaType });
  return made;
}

async function getManifest(call: Call, reference: string): Promise<void> {
  const digest = call.repositories.resolve(call.path, reference);
  const record = digest === undefined ? undefined : call.repositories.manifest(call.path, digest);
  const found =
    call.mirrorOf !== undefined
      ? await resolveMirror(call, reference)
      : digest === undefined || record === undefined
        ? undefined
        : { digest, mediaType: record.mediaType };
  if (found === undefined || !call.content.blobs.has(found.digest)) throw new RegistryError('MANIFEST_UNKNOWN');
  const headers = {
    'content-type': found.mediaType,
    'docker-content-digest': found.digest,
    etag: `"${found.digest}"`,
    'content-length': call.content.blobs.size(found.digest) ?? 0,
  };
  if (call.request.headers['if-none-match'] === `"${found.digest}"`) {
    send(call.response, 304, { etag: headers.etag });
    return;
  }
  send(
    call.response,
    200,
    headers,
    call.method === 'HEAD' ? undefined : await call.content.blobs.readBytes(found.digest, manifestBytesMax),
  );
}

async function putManifest(call: Call, reference: string): Promise<void> {
  const isByDigest = reference.includes(':');
  if (isByDigest && !isDigest(reference)) throw new RegistryError('DIGEST_INVALID');
  if (!isByDigest && !isTag(reference)) throw new RegistryError('TAG_INVALID', `invalid tag: ${reference}`);
  const extraTags = isByDigest ? call.url.searchParams.getAll('tag') : [];
  if (extraTags.length > tagsPerPutMax || !extraTags.every(isTag))
    throw new RegistryError('TAG_INVALID', 'invalid tag', extraTags.length > tagsPerPutMax ? { status: 414 } : {});
  const bytes = await readBody(call);
  const wanted = isByDigest ? reference : call.url.searchParams.get('digest');
  const algorithm = wanted?.split(':')[0] ?? 'sha256';
  if (wanted !== null && !isDigest(wanted)) throw new RegistryError('DIGEST_INVALID');
  const digest = `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
  if (wanted !== null && wanted !== digest) throw new RegistryError('DIGEST_INVALID');
  using hold = call.content.hold();
  hold.addBlob(digest);
  if (!call.content.blobs.has(digest))
    await call.content.blobs.write(
      (async function* () {
        yield bytes;
      })(),
      { digest },
    );
  const tags = isByDigest ? extraTags : [reference];
  const { record } = await call.repositories.putManifest(call.path, {
    tags,
    digest,
    bytes,
    mediaType: call.request.headers['content-type'],
  });
  send(call.response, 201, {
    location: `/v2/${call.path}/manifests/${digest}`,
    'docker-content-digest': digest,
    ...(record.subject === undefined ? {} : { 'oci-subject': record.subject }),
    ...(extraTags.length === 0 ? {} : { 'oci-tag': extraTags.join(', ') }),
  });
}

export async function handleManifest(call: Call, reference: string): Promise<void> {
  if (call.method === 'PUT') {
    await putManifest(call, reference);
    return;
  }
  if (call.method === 'DELETE') {
    const isGone = reference.includes(':')
      ? await call.repositories.removeManifest(call.path, decodeDigest(reference))
      : await call.repositories.removeTag(call.path, reference);
    if (!isGone) throw new RegistryError('MANIFEST_UNKNOWN');
    send(call.response, 202);
    // The next collection takes what this one leaves.
    void call.content.collect().catch(() => {});
    return;
  }
  if (call.method !== 'GET' && call.method !== 'HEAD') throw new RegistryError('UNSUPPORTED');
  if (reference.includes(':') && !isDigest(reference)) throw new RegistryError('DIGEST_INVALID');
  await getManifest(call, reference);
}

export function handleReferrers(call: Call, text: string): void {
  if (call.method !== 'GET' && call.method !== 'HEAD') throw new RegistryError('UNSUPPORTED');
  const digest = decodeDigest(text);
  const wanted = call.url.searchParams.get('artifactType');
  const all = call.repositories.referrers(call.path, digest);
  const shown = wanted === null ? all : all.filter(({ record }) => record.artifactType === wanted);
  const body = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: shown.map(({ digest: own, record }) => ({
        mediaType: record.mediaType,
        digest: own,
        size: record.sizeBytes,
        ...(record.artifactType === undefined ? {} : { artifactType: record.artifactType }),
        ...(record.annotations === undefined ? {} : { annotations: record.annotations }),
      })),
    }),
  );
  send(
    call.response,
    200,
    {
      'content-type': mediaTypes.ociIndex,
      'content-length': body.length,
      ...(wanted === null ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
    call.method === 'HEAD' ? undefined : body,
  );
}
