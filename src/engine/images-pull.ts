/**
 * Pulling: find who has the name (`images-sources.ts`), choose the manifest for this machine, fetch what is missing in
 * parallel, unpack, record. What is fetched is verified against its digest while it streams; a broken transfer goes on
 * where it stopped. Progress lines are dockerd's.
 */
import { ApiError } from '#base/errors.ts';
import { bestFor, formatPlatform, hostPlatform, platformFit } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, canonicalRepository, familiarName, familiarRepository } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { DigestError } from '#content/blobs.ts';
import type { Upload } from '#content/blobs.ts';
import type { Hold } from '#content/content.ts';
import { isImageFile, platformOf } from '#content/image-file.ts';
import { kindOf, linkIndex, manifestsOf } from '#content/image-indexes.ts';
import { mediaTypes, parseJson, parseManifest } from '#content/image-records.ts';
import type { ImageRecord, NameRecord } from '#content/image-records.ts';
import {
  configBytesMax,
  downloadAttemptsMax,
  downloadConcurrencyMax,
  indexDepthMax,
  manifestBytesMax,
} from '#content/limits.ts';
import { RemoteError, UnreachableError } from '#content/remote.ts';
import type { RemoteManifest, RemoteRepository } from '#content/remote.ts';
import { shortId } from './images-options.ts';
import type { ImagesOptions, Progress, PullOptions } from './images-options.ts';
import { dockerError, findSource, ownSource } from './images-sources.ts';
import type { Source } from './images-sources.ts';
import type { Descriptor, Manifest } from '#content/manifest.ts';

/**
 * The manifest of an index for a platform. One without a platform is meant for any; attestations are `unknown/unknown`
 * and for none.
 */
function chooseDescriptor(manifests: Descriptor[], wanted: Platform): Descriptor | undefined {
  const images = manifests.filter((descriptor) => kindOf(descriptor) === 'image');
  const named = images.filter(({ platform }) => platform !== undefined);
  return (
    bestFor(wanted, named, ({ platform }) => platform ?? wanted) ??
    images.find(({ platform }) => platform === undefined)
  );
}

/** Types of a configuration that make an image: docker takes what registries of old said too. */
const imageConfigTypes: string[] = [
  mediaTypes.dockerConfig,
  mediaTypes.ociConfig,
  'application/octet-stream',
  'application/json',
  'text/html',
  '',
];

/** Artifacts (charts, signatures, plugins) are stored as images are, and are none. */
function checkIsImage(manifest: Manifest): void {
  const type = manifest.config.mediaType ?? '';
  if (!imageConfigTypes.includes(type))
    throw new ApiError(
      'BadRequest',
      `Encountered remote ${JSON.stringify(type)}(${type === 'application/vnd.docker.plugin.v1+json' ? 'plugin' : 'unknown'}) when fetching: it is not an image`,
    );
}

/** Bytes whose digest is known are checked before they are believed. */
async function storeManifest(
  options: ImagesOptions,
  hold: Hold,
  manifest: RemoteManifest,
  expected: string | undefined,
): Promise<string> {
  const digest = await options.content.blobs.writeBytes(manifest.bytes);
  hold.addBlob(digest);
  if (expected !== undefined && expected.startsWith('sha256:') && digest !== expected)
    throw new DigestError(`manifest verification failed for digest ${expected}`);
  return digest;
}

interface ManifestChoice {
  source: Source;
  reference: Reference;
}

async function chooseManifest(
  options: ImagesOptions,
  hold: Hold,
  { source, reference }: ManifestChoice,
  pull: PullOptions,
): Promise<{ outer: string; digest: string; manifest: Manifest }> {
  const outer = await storeManifest(options, hold, source.manifest, reference.digest);
  const wanted = pull.platform ?? hostPlatform();
  let { bytes } = source.manifest;
  let digest = outer;
  for (let depth = 0; ; depth++) {
    const descriptors = manifestsOf(parseJson(bytes, 'manifest'));
    if (descriptors === undefined) break;
    const chosen = depth < indexDepthMax ? chooseDescriptor(descriptors, wanted) : undefined;
    if (chosen === undefined)
      throw new ApiError('NotFound', `no matching manifest for ${formatPlatform(wanted)} in the manifest list entries`);
    if (options.content.blobs.has(chosen.digest))
      bytes = await options.content.blobs.readBytes(chosen.digest, manifestBytesMax);
    else if (source.repository === undefined)
      throw new ApiError('NotFound', `manifest ${chosen.digest} of the index is not in the registry`);
    else ({ bytes } = await source.repository.manifest(chosen.digest, pull.signal));
    digest = await storeManifest(
      options,
      hold,
      { bytes, mediaType: chosen.mediaType, digest: chosen.digest },
      chosen.digest,
    );
  }
  const manifest = parseManifest(bytes, digest);
  checkIsImage(manifest);
  return { outer, digest, manifest };
}

interface BlobFetch {
  repository: RemoteRepository | undefined;
  descriptor: Descriptor;
}

/** One blob, continued after a broken transfer, verified at its end. */
export async function fetchBlob(
  options: ImagesOptions,
  { repository, descriptor }: BlobFetch,
  onBytes: (current: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const { blobs } = options.content;
  if (blobs.has(descriptor.digest)) return;
  if (repository === undefined) throw new ApiError('NotFound', `content ${descriptor.digest}: not found`);
  let upload: Upload | undefined = await blobs.transientUpload();
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await repository.blob(descriptor.digest, upload!.offset, signal);
        if (answer.offset !== upload!.offset) {
          await upload!.cancel();
          upload = await blobs.transientUpload();
        }
        let current = upload!.offset;
        const counted = async function* (): AsyncGenerator<Uint8Array> {
          for await (const chunk of answer.source) {
            current += chunk.length;
            onBytes(current);
            yield chunk;
          }
        };
        await upload!.append(counted(), descriptor.size - upload!.offset);
        if (upload!.offset < descriptor.size) throw new UnreachableError('unexpected EOF', undefined);
        await upload!.finish({ digest: descriptor.digest, sizeBytes: descriptor.size });
        upload = undefined;
        return;
      } catch (error) {
        signal?.throwIfAborted();
        const isTransient =
          error instanceof UnreachableError ||
          ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'EPIPE', 'ETIMEDOUT'].includes(codeOf(error) ?? '') ||
          messageOf(error) === 'aborted';
        if (!isTransient || attempt >= (options.transfers?.attempts ?? downloadAttemptsMax)) throw error;
        await options.clock.sleep(200 * 2 ** attempt, signal);
      }
    }
  } finally {
    await upload?.cancel();
  }
}

async function mapBounded<T>(items: T[], concurrency: number, run: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  await Promise.all(
    Array.from({ length: Math.min(concurrency, items.length) }, async () => {
      for (const item of queue) await run(item);
    }),
  );
}

function bar(current: number, total: number): string {
  const filled = total > 0 ? Math.min(50, Math.floor((current / total) * 50)) : 0;
  const human = (bytes: number): string => {
    const units = ['B', 'kB', 'MB', 'GB', 'TB'];
    let value = bytes;
    let unit = 0;
    while (value >= 1000 && unit < units.length - 1) {
      value /= 1000;
      unit++;
    }
    return `${Number(value.toPrecision(4))}${units[unit]}`;
  };
  return `[${'='.repeat(Math.max(0, filled - 1))}${filled > 0 ? '>' : ''}${' '.repeat(50 - filled)}]  ${human(current)}/${human(total)}`;
}

interface LayersFetch {
  repository: RemoteRepository | undefined;
  manifest: Manifest;
  diffIds: string[];
}

async function fetchLayers(
  options: ImagesOptions,
  hold: Hold,
  { repository, manifest, diffIds }: LayersFetch,
  { onProgress: progress = () => {}, signal }: PullOptions,
): Promise<void> {
  const { content, clock } = options;
  const jobs = manifest.layers.map((layer, index) => ({ layer, diffId: diffIds[index]!, id: shortId(layer.digest) }));
  for (const job of jobs) {
    hold.addBlob(job.layer.digest);
    hold.addLayer(job.diffId);
    progress({
      status:
        content.layers.has(job.diffId) && content.blobs.has(job.layer.digest) ? 'Already exists' : 'Pulling fs layer',
      progressDetail: {},
      id: job.id,
    });
  }
  await mapBounded(jobs, options.transfers?.downloads ?? downloadConcurrencyMax, async ({ layer, diffId, id }) => {
    if (content.layers.has(diffId) && content.blobs.has(layer.digest)) return;
    if (!content.blobs.has(layer.digest)) {
      let shownAtMs = 0;
      await fetchBlob(
        options,
        { repository, descriptor: layer },
        (current) => {
          if (clock.monotonic() - shownAtMs < 100) return;
          shownAtMs = clock.monotonic();
          progress({
            status: 'Downloading',
            progressDetail: { current, total: layer.size },
            progress: bar(current, layer.size),
            id,
          });
        },
        signal,
      );
    }
    progress({ status: 'Verifying Checksum', progressDetail: {}, id });
    progress({ status: 'Download complete', progressDetail: {}, id });
    progress({
      status: 'Extracting',
      progressDetail: { current: layer.size, total: layer.size },
      progress: bar(layer.size, layer.size),
      id,
    });
    await content.layers.ensure(diffId, layer.digest, signal);
    progress({ status: 'Pull complete', progressDetail: {}, id });
  });
}

async function pullFrom(
  options: ImagesOptions,
  source: Source,
  reference: Reference,
  pull: PullOptions,
): Promise<ImageRecord> {
  const { content, records } = options;
  const progress = pull.onProgress ?? ((): void => {});
  using hold = content.hold();
  const { outer, digest, manifest } = await chooseManifest(options, hold, { source, reference }, pull);
  if (manifest.config.size > configBytesMax)
    throw new ApiError('RequestEntityTooLarge', 'image configuration is too large');
  hold.addBlob(manifest.config.digest);
  await fetchBlob(options, { repository: source.repository, descriptor: manifest.config }, () => {}, pull.signal);
  const file = parseJson(await content.blobs.readBytes(manifest.config.digest, configBytesMax), 'image configuration');
  if (!isImageFile(file))
    throw new ApiError('BadRequest', `unsupported media type ${manifest.config.mediaType}: not an image`);
  if (file.rootfs.diff_ids.length !== manifest.layers.length)
    throw new ApiError('BadRequest', 'image configuration and manifest disagree on the number of layers');
  await fetchLayers(options, hold, { repository: source.repository, manifest, diffIds: file.rootfs.diff_ids }, pull);
  const known = records.get(manifest.config.digest);
  const record = {
    ...(await records.recordFromManifest(digest)),
    ...(known?.parent === undefined ? {} : { parent: known.parent }),
    ...(source.repository === undefined ? {} : { isPulled: true }),
    ...(source.isPlatform === true || pull.credential === undefined ? {} : { isCredentialed: true }),
    ...(pull.owner === 'kubelet' && (known === undefined || known.isKubelets === true) ? { isKubelets: true } : {}),
  };
  const link = outer === digest ? undefined : await linkIndex(content, records, outer, { hold, made: [record] });
  const linked = link?.();
  const target: NameRecord =
    linked === undefined ? { imageId: record.id } : { imageId: (linked.images[0] ?? record).id, index: outer };
  const before =
    reference.tag === undefined
      ? target
      : records.byName(canonicalName({ domain: reference.domain, path: reference.path, tag: reference.tag }));
  const wasSame = known !== undefined && before?.imageId === target.imageId && before.index === target.index;
  await records.commit([
    ...(linked?.changes ?? []),
    { table: 'images', key: record.id, value: record },
    records.repoDigestChange(`${canonicalRepository(reference)}@${outer}`, target),
    ...(reference.digest === undefined ? [records.nameChange(canonicalName(reference), target)] : []),
  ]);
  progress({ status: `Digest: ${outer}` });
  progress({
    status: wasSame
      ? `Status: Image is up to date for ${familiarName(reference)}`
      : `Status: Downloaded newer image for ${familiarName(reference)}`,
  });
  if (pull.platform !== undefined && !isForPlatform(record, pull.platform)) {
    progress({
      status: `WARNING: image with reference ${familiarName(reference)} was found but its platform (${formatPlatform(platformOf(record.file))}) does not match the specified platform (${formatPlatform(pull.platform)})`,
    });
  }
  return record;
}

export function isForPlatform(record: ImageRecord, platform: Platform | undefined): boolean {
  return platform === undefined || platformFit(platform, platformOf(record.file)) > 0;
}

/** Content that was built or loaded here is the newest there is of its name; what was pulled is asked for again. */
function localImage(
  options: ImagesOptions,
  reference: Reference,
  platform: Platform | undefined,
): ImageRecord | undefined {
  const record = options.records.find(canonicalName(reference), platform === undefined ? {} : { platform });
  return record?.isPulled === true && reference.digest === undefined ? undefined : record;
}

async function useLocal(
  options: ImagesOptions,
  reference: Reference,
  local: ImageRecord,
  progress: Progress,
): Promise<ImageRecord> {
  progress({ status: `Pulling from ${reference.path}`, id: reference.tag ?? reference.digest });
  const digest = options.records.findTarget(canonicalName(reference))?.index?.digest ?? local.manifestDigest;
  if (digest !== '') progress({ status: `Digest: ${digest}` });
  progress({ status: `Status: Image is up to date for ${familiarName(reference)}` });
  await ensureLayers(options, local);
  return local;
}

export async function pullImage(options: ImagesOptions, reference: Reference, pull: PullOptions): Promise<ImageRecord> {
  const progress = pull.onProgress ?? ((): void => {});
  // What this process's own registry holds comes first: somebody may have pushed since the name was used here.
  const own = await ownSource(options, reference);
  const local = own === undefined ? localImage(options, reference, pull.platform) : undefined;
  if (local !== undefined) return useLocal(options, reference, local, progress);
  try {
    const source = own ?? (await findSource(options, reference, pull));
    progress({
      status: `Pulling from ${reference.domain === 'docker.io' ? reference.path : familiarRepository(reference).slice(reference.domain.length + 1)}`,
      id: reference.tag ?? reference.digest,
    });
    return await pullFrom(options, source, reference, pull);
  } catch (error) {
    pull.signal?.throwIfAborted();
    if (
      error instanceof UnreachableError ||
      (error instanceof RemoteError && error.status >= 500) ||
      (error instanceof RemoteError && error.status === 403)
    ) {
      // Kept from an earlier pull, or made here: better than nothing where no registry answers.
      const { platform } = pull;
      const known =
        options.records.find(canonicalName(reference), platform === undefined ? {} : { platform }) ??
        (platform !== undefined && platformFit(platform, hostPlatform()) === 0
          ? undefined
          : await options.makeBaseImage?.(familiarName(reference), progress));
      if (known !== undefined) {
        progress({ status: `No registry could be reached; using the image ${familiarName(reference)} that is here` });
        return known;
      }
    }
    throw dockerError(error, reference);
  }
}

async function ensureLayers(options: ImagesOptions, record: ImageRecord): Promise<void> {
  await Promise.all(
    record.layers
      .filter((layer) => layer.digest !== '')
      .map((layer) => options.content.layers.ensure(layer.diffId, layer.digest)),
  );
}
