/**
 * Makes images out of layers that are here: writes the configuration and the manifest as blobs and the record in one
 * commit. Manifests are docker's schema 2, which every registry and client takes.
 */
import { createHash } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import type { Content, Hold } from './content.ts';
import { mediaTypes } from './image-records.ts';
import type { ImageLayer, ImageRecord, ImageRecords } from './image-records.ts';
import type { ImageFile } from './image-file.ts';
import type { PackedLayer } from './layers.ts';
import { configBytesMax } from './limits.ts';
import type { Change } from './records.ts';
import type { Manifest } from './manifest.ts';

export interface NewImage {
  file: ImageFile;
  layers: ImageLayer[];
  createdAtMs: number;
  parent?: string;
  isIntermediate?: boolean;
  /** Canonical names to give it. */
  names?: string[];
  /** Further changes that must hold together with the image. */
  changes?: Change[];
}

export function toImageLayer(packed: PackedLayer): ImageLayer {
  return {
    digest: packed.digest,
    diffId: packed.diffId,
    sizeBytes: packed.blobBytes,
    mediaType: packed.digest === packed.diffId ? mediaTypes.dockerPlainLayer : mediaTypes.dockerLayer,
  };
}

const ociLayerTypes: Record<string, string> = {
  [mediaTypes.dockerLayer]: `${mediaTypes.ociLayer}+gzip`,
  'application/vnd.docker.image.rootfs.diff.tar': mediaTypes.ociLayer,
  'application/vnd.docker.image.rootfs.diff.tar.zstd': `${mediaTypes.ociLayer}+zstd`,
  [mediaTypes.dockerForeignLayer]: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
};

/** OCI's name for a layer's type. */
export function ociLayerType(mediaType: string): string {
  return ociLayerTypes[mediaType] ?? mediaType;
}

/** A build step needs no manifest; it gets one when it is tagged or pushed. */
export async function writeManifest(
  content: Content,
  record: ImageRecord,
  hold?: Hold,
): Promise<{ digest: string; mediaType: string }> {
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.dockerManifest,
    config: { mediaType: mediaTypes.dockerConfig, size: content.blobs.size(record.id) ?? 0, digest: record.id },
    layers: record.layers.map((layer) => ({ mediaType: layer.mediaType, size: layer.sizeBytes, digest: layer.digest })),
  };
  const digest = await content.blobs.writeBytes(Buffer.from(JSON.stringify(manifest, undefined, 3)));
  hold?.addBlob(digest);
  return { digest, mediaType: mediaTypes.dockerManifest };
}

/** An image's id is the digest of its configuration. */
export function imageIdOf(file: ImageFile): string {
  return `sha256:${createHash('sha256').update(JSON.stringify(file)).digest('hex')}`;
}

export async function writeImage(content: Content, images: ImageRecords, image: NewImage): Promise<ImageRecord> {
  using hold = content.hold();
  for (const layer of image.layers) {
    hold.addBlob(layer.digest);
    hold.addLayer(layer.diffId);
  }
  const bytes = Buffer.from(JSON.stringify(image.file));
  if (bytes.length > configBytesMax)
    throw new ApiError(
      'RequestEntityTooLarge',
      `the image configuration has ${bytes.length} bytes, at most ${configBytesMax} are allowed`,
    );
  const id = await content.blobs.writeBytes(bytes);
  hold.addBlob(id);
  const known = images.get(id);
  const record: ImageRecord = {
    id,
    manifestDigest: '',
    manifestMediaType: mediaTypes.dockerManifest,
    layers: image.layers,
    file: image.file,
    createdAtMs: image.createdAtMs,
    ...(image.parent === undefined ? {} : { parent: image.parent }),
    ...(image.isIntermediate === true &&
    known?.isIntermediate !== false &&
    (known === undefined || known.isIntermediate === true)
      ? { isIntermediate: true }
      : {}),
  };
  if (image.isIntermediate !== true) await content.layers.settle();
  if (image.isIntermediate !== true || known?.manifestDigest) {
    const manifest = known?.manifestDigest
      ? { digest: known.manifestDigest, mediaType: known.manifestMediaType }
      : await writeManifest(content, record, hold);
    record.manifestDigest = manifest.digest;
    record.manifestMediaType = manifest.mediaType;
  }
  const names = image.names ?? [];
  if (names.length > 0) record.tagTimeMs = image.createdAtMs;
  await images.put(record, [
    ...names.map((name) => images.nameChange(name, { imageId: id })),
    ...(image.changes ?? []),
  ]);
  return record;
}
