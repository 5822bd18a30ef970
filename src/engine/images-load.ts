/**
 * `docker load`. What is loaded may be compressed; files that are called by a digest must have it; an archive out of
 * which nothing could be loaded is an error. Docker archives and OCI layouts are loaded, also the older form with a
 * directory per layer. It streams: every file goes straight into the blob store, where its digest is found on the way.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform, platformFit } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, familiarName, isDigest, parseReference, withDefaultTag } from '#base/reference.ts';
import { readTar } from '#base/tar-read.ts';
import { DigestError } from '#content/blobs.ts';
import type { Content, Hold } from '#content/content.ts';
import { isImageFile, platformOf } from '#content/image-file.ts';
import { kindOf, linkIndex, manifestsOf } from '#content/image-indexes.ts';
import type { LinkedIndex } from '#content/image-indexes.ts';
import { mediaTypes, parseJson, parseManifest } from '#content/image-records.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import {
  archiveBytesMax,
  archiveEntriesMax,
  archiveManifestsMax,
  configBytesMax,
  indexDepthMax,
  manifestBytesMax,
} from '#content/limits.ts';
import type { ImagesOptions, Progress } from './images-options.ts';
import { blobPath, originalAnnotation, type DockerManifestItem } from './images-archive.ts';
import type { Descriptor, Index, Manifest } from '#content/manifest.ts';

/** Files of an archive: where each one's bytes are in the blob store. */
type Files = Map<string, string>;

function cleanPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (out.pop() === undefined) throw new ApiError('BadRequest', `invalid archive: ${path} is outside of it`);
      continue;
    }
    out.push(part);
  }
  return out.join('/');
}

/** `blobs/sha256/HEX`: the digest that a file's name promises. */
function promisedDigest(path: string): string | undefined {
  const match = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(path);
  const digest = match === null ? '' : `${match[1]}:${match[2]}`;
  return isDigest(digest) ? digest : undefined;
}

async function storeFiles(content: Content, hold: Hold, source: AsyncIterable<Uint8Array>): Promise<Files> {
  const files: Files = new Map();
  const links: [string, string][] = [];
  let entries = 0;
  for await (const entry of readTar(await content.decompress(source, archiveBytesMax))) {
    if (++entries > archiveEntriesMax)
      throw new ApiError('RequestEntityTooLarge', `invalid archive: it has more than ${archiveEntriesMax} entries`);
    const path = cleanPath(entry.header.path);
    if (entry.header.type === 'file') {
      if (entry.extents !== undefined)
        throw new ApiError('BadRequest', 'invalid archive: sparse files are not supported in image archives');
      const promised = promisedDigest(path);
      const { digest } = await content.blobs
        .write(entry.content, promised === undefined ? {} : { digest: promised })
        .catch((error: unknown) => {
          throw error instanceof DigestError
            ? new ApiError('BadRequest', `invalid archive: ${path}: ${error.message}`)
            : error;
        });
      hold.addBlob(digest);
      files.set(path, digest);
    } else if (entry.header.type === 'symlink')
      links.push([
        path,
        cleanPath(
          entry.header.linkTarget.startsWith('/')
            ? entry.header.linkTarget
            : `${path.split('/').slice(0, -1).join('/')}/${entry.header.linkTarget}`,
        ),
      ]);
    else if (entry.header.type === 'link') links.push([path, cleanPath(entry.header.linkTarget)]);
  }
  for (const [path, target] of links) {
    const digest = files.get(target);
    if (digest !== undefined) files.set(path, digest);
  }
  return files;
}

async function readJsonFile(content: Content, files: Files, path: string, bytesMax: number): Promise<unknown> {
  const digest = files.get(path);
  return digest === undefined ? undefined : parseJson(await content.blobs.readBytes(digest, bytesMax), path);
}

interface FoundManifest {
  configDigest: string;
  digest: string;
  mediaType: string;
  name: string | undefined;
  platform: Platform;
  /** The index that the archive names, and that has the manifest. */
  index: string | undefined;
}

/**
 * Image manifests that an OCI layout's index leads to, each once for a name; attestations and other artifacts are
 * passed over.
 */
async function ociManifests(content: Content, index: Index): Promise<FoundManifest[]> {
  const out: FoundManifest[] = [];
  let seen = 0;
  const visit = async (
    descriptor: Descriptor,
    name: string | undefined,
    above: { depth: number; index?: string },
  ): Promise<void> => {
    if (++seen > archiveManifestsMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `invalid archive: its indexes name more than ${archiveManifestsMax} manifests`,
      );
    if (kindOf(descriptor) !== 'image') return;
    if (!content.blobs.has(descriptor.digest)) {
      // Archives of one platform keep the index of all.
      if (above.depth > 0) return;
      throw new ApiError('BadRequest', `invalid archive: content ${descriptor.digest}: not found`);
    }
    const bytes = await content.blobs.readBytes(descriptor.digest, manifestBytesMax);
    const within = manifestsOf(parseJson(bytes, 'manifest'));
    const ownName =
      descriptor.annotations?.['io.containerd.image.name'] ??
      descriptor.annotations?.['org.opencontainers.image.ref.name'] ??
      name;
    if (within !== undefined) {
      if (above.depth >= indexDepthMax) return;
      const below = { depth: above.depth + 1, index: above.index ?? descriptor.digest };
      for (const child of within) await visit(child, ownName, below);
      return;
    }
    // Archives of one platform may keep the manifests of all.
    const manifest = parseManifest(bytes, descriptor.digest);
    if (!content.blobs.has(manifest.config.digest) && above.depth > 0) return;
    if (!content.blobs.has(manifest.config.digest))
      throw new ApiError('BadRequest', `invalid archive: content ${manifest.config.digest}: not found`);
    const file = parseJson(
      await content.blobs.readBytes(manifest.config.digest, configBytesMax),
      'image configuration',
    );
    if (!isImageFile(file)) return;
    const platform = descriptor.platform ?? {
      os: file.os,
      architecture: file.architecture,
      ...(file.variant === undefined ? {} : { variant: file.variant }),
    };
    // Saved by an engine of this kind: the image keeps its own manifest, if that is here and of the same content.
    const original = descriptor.annotations?.[originalAnnotation] ?? '';
    const digest =
      isDigest(original) && content.blobs.has(original) && (await isSameImage(content, original, manifest))
        ? original
        : descriptor.digest;
    out.push({
      configDigest: manifest.config.digest,
      digest,
      mediaType: descriptor.mediaType,
      name: ownName,
      platform,
      index: above.index,
    });
  };
  const descriptors = manifestsOf(index) ?? [];
  if (descriptors.length < index.manifests.length)
    throw new ApiError('BadRequest', 'invalid archive: an index names no digest');
  for (const descriptor of descriptors) await visit(descriptor, undefined, { depth: 0 });
  return out;
}

async function isSameImage(content: Content, digest: string, manifest: Manifest): Promise<boolean> {
  const other = parseManifest(await content.blobs.readBytes(digest, manifestBytesMax), digest);
  return (
    other.config.digest === manifest.config.digest &&
    other.layers.map((layer) => layer.digest).join() === manifest.layers.map((layer) => layer.digest).join()
  );
}

/** Of each name the image for each of these platforms, where there is one. */
function chooseManifests(found: FoundManifest[], wanted: readonly Platform[]): FoundManifest[] {
  const best = new Map<string, FoundManifest>();
  for (const [at, platform] of wanted.entries())
    for (const each of found) {
      const key = `${at} ${each.name ?? each.digest}`;
      const known = best.get(key);
      if (platformFit(platform, each.platform) > (known === undefined ? 0 : platformFit(platform, known.platform)))
        best.set(key, each);
    }
  if (best.size > 0) return [...new Set(best.values())];
  const there = [...new Set(found.map((each) => formatPlatform(each.platform)))].sort();
  throw new ApiError(
    'NotFound',
    there.length === 0
      ? 'invalid archive: it holds no image'
      : `no image for ${wanted.map(formatPlatform).join(', ')} in the archive, which has ${there.join(', ')}: name one of these with --platform`,
  );
}

/** An archive that is being loaded. */
interface LoadedArchive {
  hold: Hold;
  files: Files;
  /** Of its OCI index; none where it has no index. */
  manifests: FoundManifest[];
  hasIndex: boolean;
  /** Only images for these; for any where there are none. */
  platforms: readonly Platform[];
}

/** Undefined for an image for another platform. */
async function recordOf(
  options: ImagesOptions,
  { hold, files, manifests, platforms }: LoadedArchive,
  item: DockerManifestItem,
  progress: Progress,
): Promise<{ record: ImageRecord; link?: () => LinkedIndex } | undefined> {
  const { content, records } = options;
  const configDigest = files.get(cleanPath(item.Config));
  if (configDigest === undefined) throw new ApiError('BadRequest', `invalid archive: ${item.Config} is missing`);
  const file = parseJson(await content.blobs.readBytes(configDigest, configBytesMax), item.Config);
  if (!isImageFile(file))
    throw new ApiError('BadRequest', `invalid archive: ${item.Config} is not an image configuration`);
  const own = platformOf(file);
  if (platforms.length > 0 && platforms.every((platform) => platformFit(platform, own) === 0)) return undefined;
  const layerDigests = item.Layers.map((path) => {
    const digest = files.get(cleanPath(path));
    if (digest === undefined) throw new ApiError('BadRequest', `invalid archive: ${path} is missing`);
    return digest;
  });
  if (file.rootfs.diff_ids.length !== layerDigests.length)
    throw new ApiError('BadRequest', 'invalid manifest, layers length mismatch');
  const layers = await Promise.all(
    layerDigests.map((digest, index) => {
      const diffId = file.rootfs.diff_ids[index]!;
      hold.addLayer(diffId);
      return loadLayer(options, digest, diffId, progress);
    }),
  );
  const original = manifests.find((each) => each.configDigest === configDigest);
  if (original !== undefined) {
    const record = await records.recordFromManifest(original.digest);
    if (original.index === undefined) return { record };
    const only = platforms.length === 0 ? {} : { only: platforms };
    return { record, link: await linkIndex(content, records, original.index, { hold, made: [record], ...only }) };
  }
  const created = Date.parse(file.created ?? '');
  const record: ImageRecord = {
    id: configDigest,
    manifestDigest: '',
    manifestMediaType: mediaTypes.dockerManifest,
    layers,
    file,
    createdAtMs: Number.isFinite(created) ? created : 0,
  };
  const known = records.get(configDigest);
  return { record: known ?? record };
}

async function loadLayer(
  { content }: ImagesOptions,
  digest: string,
  diffId: string,
  progress: Progress,
): Promise<ImageLayer> {
  const sizeBytes = content.blobs.size(digest) ?? 0;
  if (!content.layers.has(diffId)) {
    progress({
      status: 'Loading layer',
      progressDetail: { current: sizeBytes, total: sizeBytes },
      id: diffId.slice(7, 19),
    });
    await content.layers.ensure(diffId, digest);
  }
  return {
    digest,
    diffId,
    sizeBytes,
    mediaType: digest === diffId ? 'application/vnd.docker.image.rootfs.diff.tar' : mediaTypes.dockerLayer,
  };
}

/** A docker archive says its images in `manifest.json`; an OCI layout in `index.json`. */
async function itemsOf(
  content: Content,
  { files, manifests, platforms, hasIndex }: LoadedArchive,
): Promise<DockerManifestItem[]> {
  // The docker archive in it has one image of each index.
  const items =
    platforms.length > 0 && manifests.length > 0
      ? undefined
      : await readJsonFile(content, files, 'manifest.json', manifestBytesMax);
  if (items !== undefined) {
    if (!Array.isArray(items)) throw new ApiError('BadRequest', 'invalid archive: manifest.json is not a list');
    for (const item of items as (Partial<DockerManifestItem> | null)[]) {
      // An image without layers, as Go writes it.
      if (item?.Layers === null) item.Layers = [];
      const isStrings = (value: unknown): boolean =>
        Array.isArray(value) && value.every((each) => typeof each === 'string');
      if (
        typeof item?.Config !== 'string' ||
        !isStrings(item.Layers) ||
        (item.RepoTags !== undefined && item.RepoTags !== null && !isStrings(item.RepoTags))
      )
        throw new ApiError('BadRequest', 'invalid archive: manifest.json is malformed');
    }
    return items as DockerManifestItem[];
  }
  if (!hasIndex) throw new ApiError('BadRequest', 'invalid archive: does not contain a manifest.json');
  return Promise.all(
    chooseManifests(manifests, platforms.length === 0 ? [hostPlatform()] : platforms).map(
      async (each): Promise<DockerManifestItem> => {
        const manifest = parseManifest(await content.blobs.readBytes(each.digest, manifestBytesMax), each.digest);
        return {
          Config: blobPath(manifest.config.digest),
          RepoTags: each.name === undefined || !/[:/]/.test(each.name) ? null : [each.name],
          Layers: manifest.layers.map((layer) => blobPath(layer.digest)),
        };
      },
    ),
  );
}

export interface ArchiveImport {
  source: AsyncIterable<Uint8Array>;
  /** Only images for these; for any where there are none. */
  platforms: readonly Platform[];
  progress: Progress;
  /** Gives a loaded image its names. */
  name(record: ImageRecord, names: string[], link: (() => LinkedIndex) | undefined): Promise<void>;
}

/** Throws where nothing was loaded. */
export async function importArchive(
  options: ImagesOptions,
  { source, platforms, progress, name }: ArchiveImport,
): Promise<void> {
  const { content } = options;
  using hold = content.hold();
  const files = await storeFiles(content, hold, source);
  const index = (await readJsonFile(content, files, 'index.json', manifestBytesMax)) as Index | null | undefined;
  if (index !== undefined && !Array.isArray(index?.manifests))
    throw new ApiError('BadRequest', 'invalid archive: index.json is malformed');
  const manifests = index === undefined || index === null ? [] : await ociManifests(content, index);
  const archive: LoadedArchive = { hold, files, manifests, hasIndex: index !== undefined, platforms };
  const items = await itemsOf(content, archive);
  let loaded = 0;
  for (const item of items) {
    const names = (item.RepoTags ?? []).map((tag) => withDefaultTag(parseReference(tag)));
    if (names.some((each) => each.digest !== undefined))
      throw new ApiError('BadRequest', 'invalid archive: a tag names a digest');
    const made = await recordOf(options, archive, item, progress);
    if (made === undefined) continue;
    const { record, link } = made;
    loaded++;
    await name(record, names.map(canonicalName), link);
    for (const each of names) progress({ stream: `Loaded image: ${familiarName(each)}\n` });
    if (names.length === 0) progress({ stream: `Loaded image ID: ${record.id}\n` });
  }
  if (loaded === 0)
    throw new ApiError(
      'NotFound',
      platforms.length === 0
        ? 'invalid archive: it holds no image'
        : `no image for ${platforms.map(formatPlatform).join(', ')} in the archive`,
    );
}
