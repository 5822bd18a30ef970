/**
 * Pushing. To the registry of this process nothing is copied: its repositories point at the blobs that are here. To any
 * other, blobs stream from disk, four at a time; what the registry has, or can mount from a sister repository, is not
 * sent. Of an index that is here whole all manifests are pushed, and the index last; of one that is not, the image that
 * is here. Lines are dockerd's.
 */
import { ApiError } from '#base/errors.ts';
import { bestFor, formatPlatform, hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, canonicalRepository, familiarRepository, parseReference } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import { platformOf } from '#content/image-file.ts';
import { mediaTypes, parseJson, parseManifest } from '#content/image-records.ts';
import type { ImageLayer, ImageRecord, ImageTarget } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import type { Hold } from '#content/content.ts';
import { compressLayer, isPlainLayer } from '#content/layer-compression.ts';
import { downloadConcurrencyMax, manifestBytesMax } from '#content/limits.ts';
import { RemoteError, RemoteRepository, UnreachableError } from '#content/remote.ts';
import type { RegistryCredential } from './engine.ts';
import { namesOfRepository, shortId } from './images-options.ts';
import type { ImagesOptions, Progress } from './images-options.ts';
import { isForPlatform } from './images-pull.ts';
import { reachableEndpoint } from './images-sources.ts';
import type { Descriptor, Index } from '#content/manifest.ts';

export interface PushOptions {
  credential?: RegistryCredential;
  onProgress?: Progress;
  signal?: AbortSignal;
  /** Of an index, only the image for it. */
  platform?: Platform;
  /** Layers that are not compressed stay so. */
  keepsLayers?: boolean;
  /** Other than an image: registries give rights to it by another name. */
  artifact?: 'plugin';
}

interface PushedName {
  reference: Reference;
  target: ImageTarget;
}

/** Names to push: one, or all tags of the repository when none is given. */
function namesToPush(options: ImagesOptions, text: string): PushedName[] {
  const reference = parseReference(text);
  if (reference.digest !== undefined) throw new ApiError('BadRequest', 'cannot push a digest reference');
  const repository = canonicalRepository(reference);
  const names = reference.tag !== undefined ? [canonicalName(reference)] : namesOfRepository(options, repository);
  const out = names.flatMap((name) => {
    const target = options.records.byName(name) === undefined ? undefined : options.records.findTarget(name);
    return target === undefined ? [] : [{ reference: parseReference(name), target }];
  });
  if (out.length === 0)
    throw new ApiError('NotFound', `An image does not exist locally with the tag: ${familiarRepository(reference)}`);
  return out;
}

/** The image with its layers compressed: another registry keeps, and sends, what it is given. */
async function compressLayers({ content }: ImagesOptions, record: ImageRecord, hold: Hold): Promise<ImageRecord> {
  if (record.layers.every((layer) => !isPlainLayer(layer))) return record;
  const layers: ImageLayer[] = [];
  for (const layer of record.layers) {
    const sent = isPlainLayer(layer) ? await compressLayer(content, layer, { kind: 'gzip' }) : layer;
    // The next ones may take longer than a blob is young.
    hold.addBlob(sent.digest);
    layers.push(sent);
  }
  return { ...record, layers, manifestDigest: '' };
}

async function withManifest(options: ImagesOptions, record: ImageRecord): Promise<ImageRecord> {
  if (record.manifestDigest !== '' && options.content.blobs.has(record.manifestDigest)) return record;
  const manifest = await writeManifest(options.content, record);
  const named: ImageRecord = { ...record, manifestDigest: manifest.digest, manifestMediaType: manifest.mediaType };
  await options.records.put(named);
  return named;
}

interface PushedBlob {
  digest: string;
  sizeBytes: number;
  /** By which progress names it; none of a configuration. */
  shownAs?: string;
}

/** What a push sends, in order: blobs, manifests by their digests, and the one that gets the tag. */
interface PushPlan {
  blobs: PushedBlob[];
  manifests: Descriptor[];
  top: Descriptor;
  /** The index in whose place an image of it is pushed. */
  insteadOf?: Descriptor;
}

/** Which manifest a name's push gives to the registry. Throws NotFound, Conflict. */
function chooseTop({ image, index }: ImageTarget, here: ImageRecord[], platform: Platform | undefined): ImageRecord {
  if (platform !== undefined) {
    const chosen = bestFor(platform, here, ({ file }) => platformOf(file));
    if (chosen !== undefined) return chosen;
    throw new ApiError(
      'NotFound',
      `image with reference ${image.id} was found but does not provide the specified platform (${formatPlatform(platform)})`,
    );
  }
  if (index === undefined || here.length === 1 || isForPlatform(image, hostPlatform())) return image;
  throw new ApiError('Conflict', 'multiple matching manifests found but no specific platform requested');
}

async function planPush(
  options: ImagesOptions,
  { reference, target }: PushedName,
  { platform, keepsLayers = false }: PushOptions,
  hold: Hold,
): Promise<PushPlan> {
  const { content, records } = options;
  const { index } = target;
  const blobs = new Map<string, PushedBlob>();
  const addManifest = async (digest: string): Promise<void> => {
    const { config, layers } = parseManifest(await content.blobs.readBytes(digest, manifestBytesMax), digest);
    const diffIds = records.get(config.digest)?.layers.map((layer) => layer.diffId) ?? [];
    for (const [at, layer] of layers.entries())
      blobs.set(layer.digest, {
        digest: layer.digest,
        sizeBytes: layer.size,
        shownAs: shortId(diffIds[at] ?? layer.digest),
      });
    if (!blobs.has(config.digest)) blobs.set(config.digest, { digest: config.digest, sizeBytes: config.size });
  };
  const indexTop =
    index === undefined ? undefined : { mediaType: index.mediaType, digest: index.digest, size: index.sizeBytes };
  if (
    index !== undefined &&
    indexTop !== undefined &&
    platform === undefined &&
    index.manifests.every((entry) => entry.content !== undefined)
  ) {
    for (const { descriptor } of index.manifests) await addManifest(descriptor.digest);
    const inner = await Promise.all(
      // Those within come first.
      index.inner.toReversed().map(async (digest): Promise<Descriptor> => {
        const bytes = await content.blobs.readBytes(digest, manifestBytesMax);
        const { mediaType } = parseJson(bytes, 'index') as Partial<Index>;
        return { mediaType: mediaType ?? mediaTypes.ociIndex, digest, size: bytes.length };
      }),
    );
    const manifests = index.manifests.map(({ descriptor }) => descriptor);
    return { blobs: [...blobs.values()], manifests: [...manifests, ...inner], top: indexTop };
  }
  const here = index === undefined ? [target.image] : records.imagesOf(index);
  const chosen = chooseTop(target, here, platform);
  // What an index names stays as it is.
  const goesAsItIs = keepsLayers || index !== undefined || isLocal(options, reference);
  const record = await withManifest(options, goesAsItIs ? chosen : await compressLayers(options, chosen, hold));
  const { manifestDigest: digest, manifestMediaType: mediaType } = record;
  await addManifest(digest);
  return {
    blobs: [...blobs.values()],
    manifests: [],
    top: { mediaType, digest, size: content.blobs.size(digest) ?? 0 },
    ...(indexTop === undefined || platform !== undefined ? {} : { insteadOf: indexTop }),
  };
}

async function pushLocal(
  options: ImagesOptions,
  reference: Reference,
  { blobs, manifests, top }: PushPlan,
  progress: Progress,
): Promise<void> {
  const registry = options.localRegistry!;
  const fresh = new Set<string>();
  const publish = async (manifest: Descriptor, tag: string | undefined): Promise<void> => {
    for (const blob of await registry.publish(reference.path, tag, manifest)) fresh.add(blob);
  };
  for (const manifest of manifests) await publish(manifest, undefined);
  await publish(top, reference.tag);
  for (const { digest, shownAs } of blobs)
    if (shownAs !== undefined)
      progress({ status: fresh.has(digest) ? 'Pushed' : 'Layer already exists', progressDetail: {}, id: shownAs });
}

function isLocal({ localRegistry }: ImagesOptions, reference: Reference): boolean {
  return localRegistry?.owns(reference.domain) === true;
}

/** The repository of a registry that is not this process's own. */
export async function remoteOf(
  options: ImagesOptions,
  reference: Reference,
  { credential, signal, artifact }: PushOptions,
): Promise<RemoteRepository> {
  const platform = options.platformRegistry;
  const endpoint =
    platform?.domains.includes(reference.domain) === true
      ? { url: platform.url, tls: () => platform.tls() }
      : {
          ...(await reachableEndpoint(options, reference, signal)),
          ...(credential === undefined ? {} : { credential }),
          ...(artifact === undefined ? {} : { artifact }),
        };
  return new RemoteRepository(options.transport, endpoint, reference.path, 'pull,push');
}

async function pushRemote(
  options: ImagesOptions,
  { reference, target }: PushedName,
  { blobs, manifests, top }: PushPlan,
  push: PushOptions,
): Promise<void> {
  const { content } = options;
  const { signal, onProgress: progress = () => {} } = push;
  const repository = await remoteOf(options, reference, push);
  const sister = options.records
    .repoDigestsOf(target.image.id)
    .map((each) => parseReference(each))
    .find((each) => each.domain === reference.domain && each.path !== reference.path)?.path;
  const queue = blobs.values();
  const send = async ({ digest, sizeBytes, shownAs: id }: PushedBlob): Promise<void> => {
    const tell = (status: string, progressDetail: object = {}): void => {
      if (id !== undefined) progress({ status, progressDetail, id });
    };
    if (await repository.hasBlob(digest, signal)) {
      tell('Layer already exists');
      return;
    }
    const body = async function* (): AsyncGenerator<Uint8Array> {
      let current = 0;
      let shownAtMs = 0;
      for await (const chunk of content.blobs.read(digest) as AsyncIterable<Buffer>) {
        yield chunk;
        current += chunk.length;
        if (options.clock.monotonic() - shownAtMs < 100) continue;
        shownAtMs = options.clock.monotonic();
        tell('Pushing', { current, total: sizeBytes });
      }
    };
    const mounted = await repository.putBlob(digest, sizeBytes, body, {
      ...(signal === undefined ? {} : { signal }),
      ...(sister === undefined ? {} : { mountFrom: sister }),
    });
    tell(mounted ? `Mounted from ${sister ?? ''}` : 'Pushed');
  };
  await Promise.all(
    Array.from({ length: options.transfers?.uploads ?? downloadConcurrencyMax }, async () => {
      for (const blob of queue) await send(blob);
    }),
  );
  const put = async (name: string, { digest, mediaType }: Descriptor): Promise<void> => {
    const bytes = await content.blobs.readBytes(digest, manifestBytesMax);
    await repository.putManifest(name, bytes, mediaType, signal);
  };
  for (const manifest of manifests) await put(manifest.digest, manifest);
  await put(reference.tag ?? top.digest, top);
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

/** Throws ApiError, in docker's words. */
export async function sendTo(
  options: ImagesOptions,
  name: PushedName,
  plan: PushPlan,
  push: PushOptions,
): Promise<void> {
  try {
    if (isLocal(options, name.reference)) await pushLocal(options, name.reference, plan, push.onProgress ?? (() => {}));
    else await pushRemote(options, name, plan, push);
  } catch (error) {
    push.signal?.throwIfAborted();
    throw dockerError(error);
  }
}

export async function pushImage(options: ImagesOptions, text: string, push: PushOptions): Promise<void> {
  const progress = push.onProgress ?? ((): void => {});
  const { records, content } = options;
  for (const name of namesToPush(options, text)) {
    const { reference, target } = name;
    using hold = content.hold();
    for (const { digest, diffId } of target.image.layers) {
      hold.addBlob(digest);
      hold.addLayer(diffId);
    }
    const plan = await planPush(options, name, push, hold);
    const { top, insteadOf } = plan;
    for (const { digest } of [...plan.blobs, ...plan.manifests, top]) hold.addBlob(digest);
    progress({ status: `The push refers to repository [${canonicalRepository(reference)}]` });
    for (const { shownAs } of plan.blobs.toReversed())
      if (shownAs !== undefined) progress({ status: 'Preparing', progressDetail: {}, id: shownAs });
    await sendTo(options, name, plan, push);
    const isIndex = top.digest === target.index?.digest;
    const named = records.findTarget(top.digest)?.image ?? target.image;
    await records.commit([
      records.repoDigestChange(`${canonicalRepository(reference)}@${top.digest}`, {
        imageId: named.id,
        ...(isIndex ? { index: top.digest } : {}),
      }),
    ]);
    progress({ status: `${reference.tag}: digest: ${top.digest} size: ${top.size}` });
    progress({ progressDetail: {}, aux: { Tag: reference.tag, Digest: top.digest, Size: top.size } });
    if (insteadOf !== undefined)
      progress({
        progressDetail: {},
        aux: { manifestPushedInsteadOfIndex: true, originalIndex: insteadOf, selectedManifest: top },
      });
  }
}
