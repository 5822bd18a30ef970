/**
 * `docker save`: images as one archive that docker and readers of OCI layouts take. It streams: nothing is written
 * first.
 */
import { ApiError } from '#base/errors.ts';
import { canonicalName, familiarName, familiarRepository, parseReference } from '#base/reference.ts';
import { encodeTarFile, encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import type { Content, Hold } from '#content/content.ts';
import { referenceDigest } from '#content/image-indexes.ts';
import { mediaTypes, parseManifest } from '#content/image-records.ts';
import type { ImageTarget } from '#content/image-records.ts';
import { ociLayerType, writeManifest } from '#content/image-writer.ts';
import { manifestBytesMax } from '#content/limits.ts';
import type { ImagesOptions } from './images-options.ts';
import { blobPath, originalAnnotation, type DockerManifestItem } from './images-archive.ts';
import type { Descriptor, Index, IndexEntry, IndexRecord } from '#content/manifest.ts';

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

/** `only`: of the index's, the images with these manifests, and what is attached to them. */
type WantedTarget = ImageTarget & { only?: ReadonlySet<string> };
type SavedTarget = WantedTarget & { tags: Set<string> };

/** What is saved, each once with the names that it was asked for by; an image apart from indexes that have it. */
function groupByTarget(options: ImagesOptions, wanted: ({ reference: string } & WantedTarget)[]): SavedTarget[] {
  const byTarget = new Map<string, SavedTarget>();
  for (const { reference, ...target } of wanted) {
    const { image: record, index } = target;
    const key = index?.digest ?? record.id;
    const entry = byTarget.get(key) ?? { ...target, tags: new Set() };
    byTarget.set(key, entry);
    const isName = !record.id.startsWith(reference.startsWith('sha256:') ? reference : `sha256:${reference}`);
    if (!isName) continue;
    const parsed = parseReference(reference);
    const names =
      parsed.tag === undefined && parsed.digest === undefined
        ? options.records
            .namesOf(record.id)
            .map((name) => parseReference(name))
            .filter((name) => name.path === parsed.path && name.domain === parsed.domain)
        : [parsed];
    for (const name of names) if (name.tag !== undefined) entry.tags.add(familiarName(name));
  }
  return [...byTarget.values()];
}

function entriesOf({ manifests }: IndexRecord, only: ReadonlySet<string> | undefined): IndexEntry[] {
  const subjectOf = ({ descriptor }: IndexEntry): string => descriptor.annotations?.[referenceDigest] ?? '';
  return manifests.filter(
    (entry) => only === undefined || only.has(entry.descriptor.digest) || only.has(subjectOf(entry)),
  );
}

export async function exportArchive(
  options: ImagesOptions,
  wanted: ({ reference: string } & WantedTarget)[],
): Promise<AsyncIterable<Uint8Array>> {
  const { content } = options;
  const hold = content.hold();
  const items: DockerManifestItem[] = [];
  const descriptors: Descriptor[] = [];
  const repositories: Record<string, Record<string, string>> = {};
  const digests = new Set<string>();
  for (const { image: record, index, only, tags } of groupByTarget(options, wanted)) {
    for (const name of [...tags].map(parseReference))
      (repositories[familiarRepository(name)] ??= {})[name.tag ?? ''] = record.id.slice(7);
    const manifest =
      record.manifestDigest === ''
        ? await writeManifest(content, record, hold)
        : { digest: record.manifestDigest, mediaType: record.manifestMediaType };
    const ofIndex =
      index === undefined
        ? []
        : [index.digest, ...index.inner, ...entriesOf(index, only).flatMap((entry) => entry.content?.blobs ?? [])];
    for (const digest of [manifest.digest, record.id, ...record.layers.map((layer) => layer.digest), ...ofIndex]) {
      digests.add(digest);
      hold.addBlob(digest);
    }
    items.push({
      Config: blobPath(record.id),
      RepoTags: tags.size === 0 ? null : [...tags],
      Layers: record.layers.map((layer) => blobPath(layer.digest)),
    });
    const layout =
      index === undefined
        ? await ociForm(content, manifest, hold)
        : { mediaType: index.mediaType, digest: index.digest, size: index.sizeBytes };
    digests.add(layout.digest);
    const isOriginal = index !== undefined || layout.digest === manifest.digest;
    const kept: Record<string, string> = isOriginal ? {} : { [originalAnnotation]: manifest.digest };
    if (tags.size === 0) descriptors.push({ ...layout, ...(isOriginal ? {} : { annotations: kept }) });
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
