/**
 * `docker save` and `docker load`. What is loaded may be compressed; files that are called by a digest must have it; an
 * archive out of which nothing could be loaded is an error. What is saved is a docker archive (`manifest.json`,
 * `repositories`) and an OCI
 * image layout
 * (`oci-layout`, `index.json`, `blobs/`) at once; either is loaded, also the older form with a directory per layer.
 * Streams in and out: every file of an archive goes straight into the blob store, where its digest is found on the way.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform, platformFit } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import {
  canonicalName,
  familiarName,
  familiarRepository,
  isDigest,
  parseReference,
  withDefaultTag,
} from '#base/reference.ts';
import { readTar } from '#base/tar-read.ts';
import { encodeTarFile, encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import { DigestError } from '#content/blobs.ts';
import type { Content, Hold } from '#content/content.ts';
import { isImageFile } from '#content/image-file.ts';
import { mediaTypes, parseJson, parseManifest } from '#content/image-records.ts';
import type { Descriptor, ImageLayer, ImageRecord, Index, Manifest } from '#content/image-records.ts';
import type { ImageFile } from '#content/image-file.ts';
import { writeManifest } from '#content/image-writer.ts';
import {
  archiveBytesMax,
  archiveEntriesMax,
  archiveManifestsMax,
  configBytesMax,
  indexDepthMax,
  manifestBytesMax,
} from '#content/limits.ts';
import type { ImagesOptions, Progress } from './images-options.ts';

interface DockerManifestItem {
  Config: string;
  RepoTags: string[] | null;
  Layers: string[];
}

const blobPath = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

/** In an index of ours: the image's own manifest, in place of which the layout has one of OCI's types. */
const originalAnnotation = 'io.tiphys.image.manifest';

const ociLayerTypes: Record<string, string> = {
  [mediaTypes.dockerLayer]: `${mediaTypes.ociLayer}+gzip`,
  'application/vnd.docker.image.rootfs.diff.tar': mediaTypes.ociLayer,
  'application/vnd.docker.image.rootfs.diff.tar.zstd': `${mediaTypes.ociLayer}+zstd`,
  [mediaTypes.dockerForeignLayer]: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
};

/** The manifest that an OCI layout has for an image: readers of layouts (skopeo, umoci) pass over docker's types. */
async function ociForm(
  content: Content,
  manifest: { digest: string; mediaType: string },
  hold: Hold,
): Promise<Descriptor> {
  const bytes = await content.blobs.readBytes(manifest.digest, manifestBytesMax);
  if (manifest.mediaType !== mediaTypes.dockerManifest)
    return { mediaType: manifest.mediaType, digest: manifest.digest, size: bytes.length };
  const { config, layers } = parseManifest(bytes, manifest.digest);
  const made = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: { mediaType: mediaTypes.ociConfig, digest: config.digest, size: config.size },
      layers: layers.map((layer) => ({
        mediaType: ociLayerTypes[layer.mediaType] ?? layer.mediaType,
        digest: layer.digest,
        size: layer.size,
      })),
    }),
  );
  const digest = await content.blobs.writeBytes(made);
  hold.addBlob(digest);
  return { mediaType: mediaTypes.ociManifest, digest, size: made.length };
}

export async function exportArchive(
  options: ImagesOptions,
  wanted: { reference: string; record: ImageRecord }[],
): Promise<AsyncIterable<Uint8Array>> {
  const { content, records } = options;
  const hold = content.hold();
  const items: DockerManifestItem[] = [];
  const descriptors: Descriptor[] = [];
  const repositories: Record<string, Record<string, string>> = {};
  const digests = new Set<string>();
  const byId = new Map<string, { record: ImageRecord; tags: Set<string> }>();
  for (const { reference, record } of wanted) {
    const entry = byId.get(record.id) ?? { record, tags: new Set<string>() };
    byId.set(record.id, entry);
    const isName = !record.id.startsWith(reference.startsWith('sha256:') ? reference : `sha256:${reference}`);
    if (!isName) continue;
    const parsed = parseReference(reference);
    const names =
      parsed.tag === undefined && parsed.digest === undefined
        ? records
            .namesOf(record.id)
            .map((name) => parseReference(name))
            .filter((name) => name.path === parsed.path && name.domain === parsed.domain)
        : [parsed];
    for (const name of names)
      if (name.tag !== undefined) {
        entry.tags.add(familiarName(name));
        (repositories[familiarRepository(name)] ??= {})[name.tag] = record.id.slice(7);
      }
  }
  for (const { record, tags } of byId.values()) {
    const manifest =
      record.manifestDigest === ''
        ? await writeManifest(content, record, hold)
        : { digest: record.manifestDigest, mediaType: record.manifestMediaType };
    for (const digest of [manifest.digest, record.id, ...record.layers.map((layer) => layer.digest)]) {
      digests.add(digest);
      hold.addBlob(digest);
    }
    items.push({
      Config: blobPath(record.id),
      RepoTags: tags.size === 0 ? null : [...tags],
      Layers: record.layers.map((layer) => blobPath(layer.digest)),
    });
    const layout = await ociForm(content, manifest, hold);
    digests.add(layout.digest);
    const kept: Record<string, string> =
      layout.digest === manifest.digest ? {} : { [originalAnnotation]: manifest.digest };
    if (tags.size === 0)
      descriptors.push({ ...layout, ...(layout.digest === manifest.digest ? {} : { annotations: kept }) });
    for (const tag of tags)
      descriptors.push({
        ...layout,
        annotations: {
          ...kept,
          'io.containerd.image.name': canonicalName(parseReference(tag)),
          'org.opencontainers.image.ref.name': parseReference(tag).tag ?? '',
        },
      });
  }
  return archiveBytes(content, hold, digests, {
    items,
    index: { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: descriptors },
    repositories,
  });
}

async function* archiveBytes(
  content: Content,
  hold: Hold,
  digests: Set<string>,
  meta: { items: DockerManifestItem[]; index: Index; repositories: object },
): AsyncGenerator<Uint8Array> {
  try {
    yield encodeTarHeader({ path: 'blobs/', type: 'directory', mode: 0o755 });
    yield encodeTarHeader({ path: 'blobs/sha256/', type: 'directory', mode: 0o755 });
    for (const digest of digests) {
      const sizeBytes = content.blobs.size(digest);
      if (sizeBytes === undefined) throw new ApiError('NotFound', `content ${digest}: not found`);
      yield encodeTarHeader({ path: blobPath(digest), sizeBytes });
      yield* content.blobs.read(digest) as AsyncIterable<Buffer>;
      yield encodeTarPadding(sizeBytes);
    }
    yield encodeTarFile({ path: 'index.json' }, JSON.stringify(meta.index));
    yield encodeTarFile({ path: 'manifest.json' }, JSON.stringify(meta.items));
    yield encodeTarFile({ path: 'oci-layout' }, '{"imageLayoutVersion":"1.0.0"}');
    yield encodeTarFile({ path: 'repositories' }, JSON.stringify(meta.repositories));
    yield tarEnd;
  } finally {
    hold[Symbol.dispose]();
  }
}

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
}

/**
 * Image manifests that an OCI layout's index leads to, each once for a name; attestations and other artifacts are
 * passed over.
 */
async function ociManifests(content: Content, index: Index): Promise<FoundManifest[]> {
  const out: FoundManifest[] = [];
  let seen = 0;
  const visit = async (descriptor: Descriptor, name: string | undefined, depth: number): Promise<void> => {
    if (++seen > archiveManifestsMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `invalid archive: its indexes name more than ${archiveManifestsMax} manifests`,
      );
    if (typeof descriptor?.digest !== 'string' || !isDigest(descriptor.digest))
      throw new ApiError('BadRequest', 'invalid archive: an index names no digest');
    const isAttestation =
      descriptor.platform?.architecture === 'unknown' ||
      descriptor.annotations?.['vnd.docker.reference.type'] === 'attestation-manifest';
    if (isAttestation) return;
    if (!content.blobs.has(descriptor.digest)) {
      // Archives of one platform keep the index of all.
      if (depth > 0) return;
      throw new ApiError('BadRequest', `invalid archive: content ${descriptor.digest}: not found`);
    }
    const bytes = await content.blobs.readBytes(descriptor.digest, manifestBytesMax);
    const parsed = parseJson(bytes, 'manifest') as Partial<Index & Manifest> | null;
    const ownName =
      descriptor.annotations?.['io.containerd.image.name'] ??
      descriptor.annotations?.['org.opencontainers.image.ref.name'] ??
      name;
    if (Array.isArray(parsed?.manifests)) {
      if (depth < indexDepthMax) for (const child of parsed.manifests) await visit(child, ownName, depth + 1);
      return;
    }
    const manifest = parseManifest(bytes, descriptor.digest);
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
    });
  };
  for (const descriptor of index.manifests ?? []) await visit(descriptor, undefined, 0);
  return out;
}

async function isSameImage(content: Content, digest: string, manifest: Manifest): Promise<boolean> {
  const other = parseManifest(await content.blobs.readBytes(digest, manifestBytesMax), digest);
  return (
    other.config.digest === manifest.config.digest &&
    other.layers.map((layer) => layer.digest).join() === manifest.layers.map((layer) => layer.digest).join()
  );
}

/** Of each name the image for this platform. */
function chooseManifests(found: FoundManifest[], wanted: Platform): FoundManifest[] {
  const best = new Map<string, FoundManifest>();
  for (const each of found) {
    const key = each.name ?? each.digest;
    const known = best.get(key);
    if (platformFit(wanted, each.platform) > (known === undefined ? 0 : platformFit(wanted, known.platform)))
      best.set(key, each);
  }
  if (best.size > 0) return [...best.values()];
  const there = [...new Set(found.map((each) => formatPlatform(each.platform)))].sort();
  throw new ApiError(
    'NotFound',
    there.length === 0
      ? 'invalid archive: it holds no image'
      : `no image for ${formatPlatform(wanted)} in the archive, which has ${there.join(', ')}: name one of these with --platform`,
  );
}

async function recordOf(
  options: ImagesOptions,
  hold: Hold,
  item: DockerManifestItem,
  files: Files,
  manifests: { configDigest: string; digest: string }[],
  progress: Progress,
  platform: Platform | undefined,
): Promise<ImageRecord | undefined> {
  const { content, records } = options;
  const configDigest = files.get(cleanPath(item.Config));
  if (configDigest === undefined) throw new ApiError('BadRequest', `invalid archive: ${item.Config} is missing`);
  const file = parseJson(await content.blobs.readBytes(configDigest, configBytesMax), item.Config);
  if (!isImageFile(file))
    throw new ApiError('BadRequest', `invalid archive: ${item.Config} is not an image configuration`);
  if (
    platform !== undefined &&
    platformFit(platform, {
      os: file.os,
      architecture: file.architecture,
      ...(file.variant === undefined ? {} : { variant: file.variant }),
    }) === 0
  )
    return undefined;
  const layerDigests = item.Layers.map((path) => {
    const digest = files.get(cleanPath(path));
    if (digest === undefined) throw new ApiError('BadRequest', `invalid archive: ${path} is missing`);
    return digest;
  });
  if (file.rootfs.diff_ids.length !== layerDigests.length)
    throw new ApiError('BadRequest', 'invalid manifest, layers length mismatch');
  const layers = await Promise.all(
    layerDigests.map((digest, index) => loadLayer(options, hold, digest, file, index, progress)),
  );
  const original = manifests.find((each) => each.configDigest === configDigest);
  if (original !== undefined) return records.recordFromManifest(original.digest);
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
  return known ?? record;
}

async function loadLayer(
  options: ImagesOptions,
  hold: Hold,
  digest: string,
  file: ImageFile,
  index: number,
  progress: Progress,
): Promise<ImageLayer> {
  const { content } = options;
  const diffId = file.rootfs.diff_ids[index]!;
  const sizeBytes = content.blobs.size(digest) ?? 0;
  hold.addLayer(diffId);
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
  files: Files,
  manifests: FoundManifest[],
  platform: Platform | undefined,
  hasIndex: boolean,
): Promise<DockerManifestItem[]> {
  const items = await readJsonFile(content, files, 'manifest.json', manifestBytesMax);
  if (items !== undefined) {
    if (!Array.isArray(items)) throw new ApiError('BadRequest', 'invalid archive: manifest.json is not a list');
    for (const item of items as (Partial<DockerManifestItem> | null)[]) {
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
    chooseManifests(manifests, platform ?? hostPlatform()).map(async (each): Promise<DockerManifestItem> => {
      const manifest = parseManifest(await content.blobs.readBytes(each.digest, manifestBytesMax), each.digest);
      return {
        Config: blobPath(manifest.config.digest),
        RepoTags: each.name === undefined || !/[:/]/.test(each.name) ? null : [each.name],
        Layers: manifest.layers.map((layer) => blobPath(layer.digest)),
      };
    }),
  );
}

/** `platform`: only images for it. Throws where nothing was loaded. */
export async function importArchive(
  options: ImagesOptions,
  source: AsyncIterable<Uint8Array>,
  progress: Progress,
  name: (record: ImageRecord, names: string[]) => Promise<void>,
  platform?: Platform,
): Promise<void> {
  const { content } = options;
  using hold = content.hold();
  const files = await storeFiles(content, hold, source);
  const index = (await readJsonFile(content, files, 'index.json', manifestBytesMax)) as Index | null | undefined;
  if (index !== undefined && !Array.isArray(index?.manifests))
    throw new ApiError('BadRequest', 'invalid archive: index.json is malformed');
  const manifests = index === undefined || index === null ? [] : await ociManifests(content, index);
  const items = await itemsOf(content, files, manifests, platform, index !== undefined);
  let loaded = 0;
  for (const item of items) {
    const names = (item.RepoTags ?? []).map((tag) => withDefaultTag(parseReference(tag)));
    if (names.some((each) => each.digest !== undefined))
      throw new ApiError('BadRequest', 'invalid archive: a tag names a digest');
    const record = await recordOf(options, hold, item, files, manifests, progress, platform);
    if (record === undefined) continue;
    loaded++;
    await name(record, names.map(canonicalName));
    for (const each of names) progress({ stream: `Loaded image: ${familiarName(each)}\n` });
    if (names.length === 0) progress({ stream: `Loaded image ID: ${record.id}\n` });
  }
  if (loaded === 0)
    throw new ApiError(
      'NotFound',
      platform === undefined
        ? 'invalid archive: it holds no image'
        : `no image for ${formatPlatform(platform)} in the archive`,
    );
}
