/**
 * Pushing. To the registry of this process nothing is copied: its repositories point at the blobs that are here. To any
 * other, blobs stream from disk, four at a time; what the registry has, or can mount from a sister repository, is not
 * sent. Lines are dockerd's.
 */
import { ApiError } from '#base/errors.ts';
import { canonicalName, canonicalRepository, familiarRepository, parseReference } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import { compressLayer, isPlainLayer } from '#content/layer-compression.ts';
import { downloadConcurrencyMax, manifestBytesMax } from '#content/limits.ts';
import { RemoteError, RemoteRepository, UnreachableError, endpointUrlOf } from '#content/remote.ts';
import type { RegistryCredential } from './engine.ts';
import { shortId } from './images-options.ts';
import type { ImagesOptions, Progress } from './images-options.ts';

interface PushOptions {
  credential?: RegistryCredential;
  onProgress?: Progress;
  signal?: AbortSignal;
}

/** Names to push: one, or all tags of the repository when none is given. */
function namesToPush(options: ImagesOptions, text: string): { reference: Reference; record: ImageRecord }[] {
  const reference = parseReference(text);
  if (reference.digest !== undefined) throw new ApiError('BadRequest', 'cannot push a digest reference');
  const repository = canonicalRepository(reference);
  const names =
    reference.tag !== undefined
      ? [canonicalName(reference)]
      : [...options.content.records.entries('names')]
          .map(([name]) => name)
          .filter((name) => name.startsWith(`${repository}:`) && !name.slice(repository.length + 1).includes('/'));
  const out = names.flatMap((name) => {
    const id = options.records.byName(name);
    const record = id === undefined ? undefined : options.records.get(id);
    return record === undefined ? [] : [{ reference: parseReference(name), record }];
  });
  if (out.length === 0)
    throw new ApiError('NotFound', `An image does not exist locally with the tag: ${familiarRepository(reference)}`);
  return out;
}

/** The image with its layers compressed: another registry keeps, and sends, what it is given. */
async function compressLayers(options: ImagesOptions, record: ImageRecord): Promise<ImageRecord> {
  if (record.layers.every((layer) => !isPlainLayer(layer))) return record;
  const layers: ImageLayer[] = [];
  for (const layer of record.layers)
    layers.push(isPlainLayer(layer) ? await compressLayer(options.content, layer, { kind: 'gzip' }) : layer);
  return { ...record, layers, manifestDigest: '' };
}

async function withManifest(options: ImagesOptions, record: ImageRecord): Promise<ImageRecord> {
  if (record.manifestDigest !== '' && options.content.blobs.has(record.manifestDigest)) return record;
  const manifest = await writeManifest(options.content, record);
  const named: ImageRecord = { ...record, manifestDigest: manifest.digest, manifestMediaType: manifest.mediaType };
  await options.records.put(named);
  return named;
}

async function pushLocal(
  options: ImagesOptions,
  reference: Reference,
  record: ImageRecord,
  progress: Progress,
): Promise<number> {
  const published = await options.localRegistry!.publish(reference.path, reference.tag, record.manifestDigest);
  for (const layer of record.layers) {
    progress({
      status: published.newBlobs.has(layer.digest) ? 'Pushed' : 'Layer already exists',
      progressDetail: {},
      id: shortId(layer.diffId),
    });
  }
  return published.sizeBytes;
}

interface PushedImage {
  reference: Reference;
  record: ImageRecord;
}

/** The repository of a registry that is not this process's own. */
export function pushRepository(
  options: ImagesOptions,
  reference: Reference,
  { credential }: Pick<PushOptions, 'credential'>,
): RemoteRepository {
  const platform = options.platformRegistry;
  const isPlatform = platform?.domains.includes(reference.domain) === true;
  const isInsecure = options.insecureRegistries?.includes(reference.domain) === true;
  const endpoint = isPlatform
    ? { url: platform.url, tls: () => platform.tls() }
    : {
        url: isInsecure ? `http://${reference.domain}` : endpointUrlOf(reference.domain),
        ...(credential === undefined ? {} : { credential }),
      };
  return new RemoteRepository(options.transport, endpoint, reference.path, 'pull,push');
}

async function pushRemote(
  options: ImagesOptions,
  { reference, record }: PushedImage,
  push: PushOptions,
  progress: Progress,
): Promise<number> {
  const { content } = options;
  const repository = pushRepository(options, reference, push);
  const sisters = options.records
    .repoDigestsOf(record.id)
    .map((each) => parseReference(each))
    .filter((each) => each.domain === reference.domain && each.path !== reference.path);
  const signal = push.signal === undefined ? {} : { signal: push.signal };
  const queue = [...new Map(record.layers.map((layer) => [layer.digest, layer])).values()].values();
  await Promise.all(
    Array.from({ length: downloadConcurrencyMax }, async () => {
      for (const layer of queue) {
        const id = shortId(layer.diffId);
        if (await repository.hasBlob(layer.digest, push.signal)) {
          progress({ status: 'Layer already exists', progressDetail: {}, id });
          continue;
        }
        const body = async function* (): AsyncGenerator<Uint8Array> {
          let current = 0;
          let shownAtMs = 0;
          for await (const chunk of content.blobs.read(layer.digest) as AsyncIterable<Buffer>) {
            yield chunk;
            current += chunk.length;
            if (options.clock.monotonic() - shownAtMs < 100) continue;
            shownAtMs = options.clock.monotonic();
            progress({ status: 'Pushing', progressDetail: { current, total: layer.sizeBytes }, id });
          }
        };
        const mounted = await repository.putBlob(layer.digest, layer.sizeBytes, body, {
          ...signal,
          ...(sisters[0] === undefined ? {} : { mountFrom: sisters[0].path }),
        });
        progress({ status: mounted ? `Mounted from ${sisters[0]?.path ?? ''}` : 'Pushed', progressDetail: {}, id });
      }
    }),
  );
  const configSize = content.blobs.size(record.id) ?? 0;
  if (!(await repository.hasBlob(record.id, push.signal)))
    await repository.putBlob(
      record.id,
      configSize,
      () => content.blobs.read(record.id) as AsyncIterable<Buffer>,
      signal,
    );
  const bytes = await content.blobs.readBytes(record.manifestDigest, manifestBytesMax);
  await repository.putManifest(reference.tag ?? record.manifestDigest, bytes, record.manifestMediaType, push.signal);
  return bytes.length;
}

function dockerError(error: unknown): unknown {
  if (error instanceof RemoteError) {
    if (error.status === 401 || error.status === 403)
      return new ApiError(
        'Unauthorized',
        error.message === '' ? 'unauthorized: authentication required' : error.message,
      );
    return new ApiError('InternalError', error.message);
  }
  if (error instanceof UnreachableError) return new ApiError('InternalError', error.message);
  return error;
}

export async function pushImage(options: ImagesOptions, text: string, push: PushOptions): Promise<void> {
  const progress = push.onProgress ?? ((): void => {});
  for (const { reference, record: found } of namesToPush(options, text)) {
    using hold = options.content.hold();
    for (const { digest, diffId } of found.layers) {
      hold.addBlob(digest);
      hold.addLayer(diffId);
    }
    const isLocal = options.localRegistry?.owns(reference.domain) === true;
    const record = await withManifest(options, isLocal ? found : await compressLayers(options, found));
    for (const layer of record.layers) hold.addBlob(layer.digest);
    progress({ status: `The push refers to repository [${canonicalRepository(reference)}]` });
    for (const layer of [...record.layers].reverse())
      progress({ status: 'Preparing', progressDetail: {}, id: shortId(layer.diffId) });
    try {
      const size = isLocal
        ? await pushLocal(options, reference, record, progress)
        : await pushRemote(options, { reference, record }, push, progress);
      await options.records.commit([
        options.records.repoDigestChange(`${canonicalRepository(reference)}@${record.manifestDigest}`, record.id),
      ]);
      progress({ status: `${reference.tag}: digest: ${record.manifestDigest} size: ${size}` });
      progress({ progressDetail: {}, aux: { Tag: reference.tag, Digest: record.manifestDigest, Size: size } });
    } catch (error) {
      push.signal?.throwIfAborted();
      throw dockerError(error);
    }
  }
}
