/**
 * `docker save` and `docker load`. What is saved is a docker archive (`manifest.json`, `repositories`) and an OCI image layout
 * (`oci-layout`, `index.json`, `blobs/`) at once; either is loaded, also the older form with a directory per layer. Streams in and out: every
 * file of an archive goes straight into the blob store, where its digest is found on the way.
 */
import { ApiError } from '#base/errors.ts';
import { canonicalName, familiarName, familiarRepository, parseReference, withDefaultTag } from '#base/reference.ts';
import { encodeTarFile, encodeTarHeader, encodeTarPadding, readTar, tarEnd } from '#base/tar.ts';
import type { Content, Hold } from '#content/content.ts';
import { isImageFile, mediaTypes, parseJson, parseManifest } from '#content/image-records.ts';
import type { Descriptor, ImageFile, ImageLayer, ImageRecord, Index } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import { configBytesMax, manifestBytesMax } from '#content/limits.ts';
import type { ImagesOptions, Progress } from './images.ts';

interface DockerManifestItem { Config: string; RepoTags: string[] | null; Layers: string[] }

const blobPath = (digest: string): string => `blobs/${digest.replace(':', '/')}`;

export async function exportArchive(options: ImagesOptions, wanted: { reference: string; record: ImageRecord }[]): Promise<AsyncIterable<Uint8Array>> {
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
    const names = parsed.tag === undefined && parsed.digest === undefined ? records.namesOf(record.id).map((name) => parseReference(name)).filter((name) => name.path === parsed.path && name.domain === parsed.domain) : [parsed];
    for (const name of names) if (name.tag !== undefined) { entry.tags.add(familiarName(name)); (repositories[familiarRepository(name)] ??= {})[name.tag] = record.id.slice(7); }
  }
  for (const { record, tags } of byId.values()) {
    const manifest = record.manifestDigest === '' ? await writeManifest(content, record, hold) : { digest: record.manifestDigest, mediaType: record.manifestMediaType };
    for (const digest of [manifest.digest, record.id, ...record.layers.map((layer) => layer.digest)]) { digests.add(digest); hold.addBlob(digest); }
    items.push({ Config: blobPath(record.id), RepoTags: tags.size === 0 ? null : [...tags], Layers: record.layers.map((layer) => blobPath(layer.digest)) });
    const base = { mediaType: manifest.mediaType, digest: manifest.digest, size: content.blobs.size(manifest.digest) ?? 0 };
    if (tags.size === 0) descriptors.push(base);
    for (const tag of tags) descriptors.push({ ...base, annotations: { 'io.containerd.image.name': canonicalName(parseReference(tag)), 'org.opencontainers.image.ref.name': parseReference(tag).tag ?? '' } });
  }
  return archiveBytes(content, hold, digests, { items, index: { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: descriptors }, repositories });
}

async function* archiveBytes(content: Content, hold: Hold, digests: Set<string>, meta: { items: DockerManifestItem[]; index: Index; repositories: object }): AsyncGenerator<Uint8Array> {
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
  } finally { hold[Symbol.dispose](); }
}

/** Files of an archive: where each one's bytes are in the blob store. */
type Files = Map<string, string>;

function cleanPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') { if (out.pop() === undefined) throw new ApiError('BadRequest', `invalid archive: ${path} is outside of it`); continue; }
    out.push(part);
  }
  return out.join('/');
}

async function storeFiles(content: Content, hold: Hold, source: AsyncIterable<Uint8Array>): Promise<Files> {
  const files: Files = new Map();
  const links: [string, string][] = [];
  for await (const entry of readTar(source)) {
    const path = cleanPath(entry.header.path);
    if (entry.header.type === 'file') {
      if (entry.extents !== undefined) throw new ApiError('BadRequest', 'invalid archive: sparse files are not supported in image archives');
      const { digest } = await content.blobs.write(entry.content);
      hold.addBlob(digest);
      files.set(path, digest);
    } else if (entry.header.type === 'symlink') links.push([path, cleanPath(entry.header.linkTarget.startsWith('/') ? entry.header.linkTarget : `${path.split('/').slice(0, -1).join('/')}/${entry.header.linkTarget}`)]);
    else if (entry.header.type === 'link') links.push([path, cleanPath(entry.header.linkTarget)]);
  }
  for (const [path, target] of links) { const digest = files.get(target); if (digest !== undefined) files.set(path, digest); }
  return files;
}

async function readJsonFile(content: Content, files: Files, path: string, bytesMax: number): Promise<unknown> {
  const digest = files.get(path);
  return digest === undefined ? undefined : parseJson(await content.blobs.readBytes(digest, bytesMax), path);
}

/** Manifests of the OCI index by the digest of their configuration, nested indexes followed one step. */
async function ociManifests(content: Content, index: Index): Promise<{ configDigest: string; digest: string; mediaType: string; name: string | undefined }[]> {
  const out: { configDigest: string; digest: string; mediaType: string; name: string | undefined }[] = [];
  const visit = async (descriptor: Descriptor, name: string | undefined, depth: number): Promise<void> => {
    if (!content.blobs.has(descriptor.digest)) return;
    const bytes = await content.blobs.readBytes(descriptor.digest, manifestBytesMax);
    const parsed = parseJson(bytes, 'manifest') as Index;
    const ownName = descriptor.annotations?.['io.containerd.image.name'] ?? descriptor.annotations?.['org.opencontainers.image.ref.name'] ?? name;
    if (Array.isArray(parsed.manifests)) { if (depth < 2) for (const child of parsed.manifests) await visit(child, ownName, depth + 1); return; }
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
    if (descriptor.platform !== undefined && descriptor.platform.architecture !== architecture) return;
    const manifest = parseManifest(bytes, descriptor.digest);
    out.push({ configDigest: manifest.config.digest, digest: descriptor.digest, mediaType: descriptor.mediaType, name: ownName });
  };
  for (const descriptor of index.manifests ?? []) await visit(descriptor, undefined, 0);
  return out;
}

async function recordOf(options: ImagesOptions, hold: Hold, item: DockerManifestItem, files: Files, manifests: { configDigest: string; digest: string }[], progress: Progress): Promise<ImageRecord> {
  const { content, records } = options;
  const configDigest = files.get(cleanPath(item.Config));
  if (configDigest === undefined) throw new ApiError('BadRequest', `invalid archive: ${item.Config} is missing`);
  const file = parseJson(await content.blobs.readBytes(configDigest, configBytesMax), item.Config);
  if (!isImageFile(file)) throw new ApiError('BadRequest', `invalid archive: ${item.Config} is not an image configuration`);
  const layerDigests = item.Layers.map((path) => {
    const digest = files.get(cleanPath(path));
    if (digest === undefined) throw new ApiError('BadRequest', `invalid archive: ${path} is missing`);
    return digest;
  });
  if (file.rootfs.diff_ids.length !== layerDigests.length) throw new ApiError('BadRequest', 'invalid manifest, layers length mismatch');
  const layers = await Promise.all(layerDigests.map((digest, index) => loadLayer(options, hold, digest, file, index, progress)));
  const original = manifests.find((each) => each.configDigest === configDigest);
  if (original !== undefined) return records.recordFromManifest(original.digest);
  const created = Date.parse(file.created ?? '');
  const record: ImageRecord = { id: configDigest, manifestDigest: '', manifestMediaType: mediaTypes.dockerManifest, layers, file, createdAtMs: Number.isFinite(created) ? created : 0 };
  const known = records.get(configDigest);
  return known ?? record;
}

async function loadLayer(options: ImagesOptions, hold: Hold, digest: string, file: ImageFile, index: number, progress: Progress): Promise<ImageLayer> {
  const { content } = options;
  const diffId = file.rootfs.diff_ids[index]!;
  const sizeBytes = content.blobs.size(digest) ?? 0;
  hold.addLayer(diffId);
  if (!content.layers.has(diffId)) {
    progress({ status: 'Loading layer', progressDetail: { current: sizeBytes, total: sizeBytes }, id: diffId.slice(7, 19) });
    await content.layers.ensure(diffId, digest);
  }
  return { digest, diffId, sizeBytes, mediaType: digest === diffId ? 'application/vnd.docker.image.rootfs.diff.tar' : mediaTypes.dockerLayer };
}

export async function importArchive(options: ImagesOptions, source: AsyncIterable<Uint8Array>, progress: Progress, name: (record: ImageRecord, names: string[]) => Promise<void>): Promise<void> {
  const { content } = options;
  using hold = content.hold();
  const files = await storeFiles(content, hold, source);
  const index = (await readJsonFile(content, files, 'index.json', manifestBytesMax)) as Index | undefined;
  const manifests = index === undefined ? [] : await ociManifests(content, index);
  let items = (await readJsonFile(content, files, 'manifest.json', manifestBytesMax)) as DockerManifestItem[] | undefined;
  if (items === undefined) {
    if (index === undefined) throw new ApiError('BadRequest', 'invalid archive: does not contain a manifest.json');
    items = await Promise.all(manifests.map(async (each): Promise<DockerManifestItem> => {
      const manifest = parseManifest(await content.blobs.readBytes(each.digest, manifestBytesMax), each.digest);
      return { Config: blobPath(manifest.config.digest), RepoTags: each.name === undefined || !/[:/]/.test(each.name) ? null : [each.name], Layers: manifest.layers.map((layer) => blobPath(layer.digest)) };
    }));
  }
  if (!Array.isArray(items)) throw new ApiError('BadRequest', 'invalid archive: manifest.json is not a list');
  for (const item of items) {
    if (typeof item?.Config !== 'string' || !Array.isArray(item.Layers)) throw new ApiError('BadRequest', 'invalid archive: manifest.json is malformed');
    const record = await recordOf(options, hold, item, files, manifests, progress);
    const names = (item.RepoTags ?? []).map((tag) => withDefaultTag(parseReference(tag)));
    await name(record, names.map(canonicalName));
    for (const each of names) progress({ stream: `Loaded image: ${familiarName(each)}\n` });
    if (names.length === 0) progress({ stream: `Loaded image ID: ${record.id}\n` });
  }
}
