/**
 * `docker save`: images as one archive that docker and readers of OCI layouts take. It streams: nothing is written
 * first.
 */
import { ApiError } from '#base/errors.ts';
import { canonicalName, familiarName, familiarRepository, parseReference } from '#base/reference.ts';
import { encodeTarFile, encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import type { Content, Hold } from '#content/content.ts';
import { mediaTypes, parseManifest } from '#content/image-records.ts';
import type { Descriptor, ImageRecord, Index } from '#content/image-records.ts';
import { writeManifest } from '#content/image-writer.ts';
import { ociLayerType } from '#content/layer-compression.ts';
import { manifestBytesMax } from '#content/limits.ts';
import type { ImagesOptions } from './images-options.ts';
import { blobPath, originalAnnotation, type DockerManifestItem } from './images-archive.ts';

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
        mediaType: ociLayerType(layer.mediaType),
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
