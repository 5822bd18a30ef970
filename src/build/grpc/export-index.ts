/**
 * Images of several platforms, with what is attested of them: each gets a manifest, and an index names them all. Media
 * types are OCI's. In the store the index's name stands for the image that runs here best; its bytes are those that a
 * push sends.
 *
 * Source: OCI image 1.1, "Image Index"; BuildKit's "Attestation storage".
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import type { Content, Hold } from '#content/content.ts';
import type { ImageFile } from '#content/image-file.ts';
import { attestationManifest, linkIndex, referenceDigest, referenceType } from '#content/image-indexes.ts';
import type { LinkedIndex } from '#content/image-indexes.ts';
import { mediaTypes } from '#content/image-records.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import { ociLayerType } from '#content/image-writer.ts';
import { compressLayer, isPlainLayer } from '#content/layer-compression.ts';
import type { Descriptor, Index, Manifest } from '#content/manifest.ts';
import type { BuilderParts } from '../build.ts';
import type { Annotations } from './annotations.ts';
import { purlOf } from './statement.ts';
import type { Statement } from './statement.ts';

export interface PlatformImage {
  platform: Platform;
  file: ImageFile;
  layers: readonly ImageLayer[];
  /** By diff id. */
  layerAnnotations: ReadonlyMap<string, Record<string, string>>;
  statements: readonly Statement[];
}

const inTotoType = 'application/vnd.in-toto+json';

class IndexWriter {
  readonly #content: Content;
  readonly #hold: Hold;

  constructor(content: Content, hold: Hold) {
    this.#content = content;
    this.#hold = hold;
  }

  async document(value: unknown, mediaType: string): Promise<Descriptor> {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = await this.#content.blobs.writeBytes(bytes);
    this.#hold.addBlob(digest);
    return { mediaType, digest, size: bytes.length };
  }

  async image(
    { file, layers, layerAnnotations, platform }: PlatformImage,
    annotations: Annotations,
  ): Promise<Descriptor> {
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: await this.document(file, mediaTypes.ociConfig),
      layers: layers.map(({ mediaType, digest, sizeBytes, diffId }) => {
        const layerAnnotation = layerAnnotations.get(diffId);
        return {
          mediaType: ociLayerType(mediaType),
          digest,
          size: sizeBytes,
          ...(layerAnnotation === undefined ? {} : { annotations: layerAnnotation }),
        };
      }),
      ...annotations.of('manifest', platform),
    };
    const descriptor = await this.document(manifest, mediaTypes.ociManifest);
    return { ...descriptor, ...annotations.of('manifest-descriptor', platform), platform };
  }

  /** In-toto statements about a manifest, as layers of a manifest of their own. */
  async attestation(
    subject: Descriptor,
    statements: readonly Statement[],
    names: readonly string[],
  ): Promise<Descriptor> {
    const digest = { sha256: subject.digest.slice('sha256:'.length) };
    const named = names.map((name) => ({ name: purlOf(name, subject.platform), digest }));
    const subjectOf = ({ subjects }: Statement): readonly unknown[] =>
      subjects ?? (named.length === 0 ? [{ name: '_', digest }] : named);
    const layers = await Promise.all(
      statements.map(async (statement) => {
        const { predicateType, predicate } = statement;
        const whole = {
          _type: 'https://in-toto.io/Statement/v1',
          predicateType,
          subject: subjectOf(statement),
          predicate,
        };
        return {
          ...(await this.document(whole, inTotoType)),
          annotations: { 'in-toto.io/predicate-type': predicateType },
        };
      }),
    );
    const config = {
      architecture: 'unknown',
      os: 'unknown',
      config: {},
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.digest) },
    };
    const manifest: Manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: await this.document(config, mediaTypes.ociConfig),
      layers,
    };
    return {
      ...(await this.document(manifest, mediaTypes.ociManifest)),
      annotations: { [referenceDigest]: subject.digest, [referenceType]: attestationManifest },
      platform: { os: 'unknown', architecture: 'unknown' },
    };
  }
}

/** Configuration and manifest of one image that no index names. */
export function writeOciImage(
  content: Content,
  hold: Hold,
  image: PlatformImage,
  annotations: Annotations,
): Promise<Descriptor> {
  return new IndexWriter(content, hold).image(image, annotations);
}

export interface WrittenIndex {
  descriptor: Descriptor;
  /** As it stands when it is called. */
  link: () => LinkedIndex;
  records: ImageRecord[];
}

export interface NewIndex {
  images: readonly PlatformImage[];
  annotations: Annotations;
  /** Canonical names that the images will have. */
  names: readonly string[];
}

/** Writes the index and all that it names. The hold keeps that until the index is committed. */
export async function writeIndex(
  { content, images: records }: Pick<BuilderParts, 'content' | 'images'>,
  hold: Hold,
  { images, annotations, names }: NewIndex,
): Promise<WrittenIndex> {
  const known = images.map(({ platform }) => formatPlatform(platform));
  const missing = annotations.platforms.find((platform) => !known.includes(platform));
  if (missing !== undefined)
    throw new ApiError('BadRequest', `invalid annotation: no platform ${missing} found in source`);
  const writer = new IndexWriter(content, hold);
  const manifests: Descriptor[] = [];
  const attestations: Descriptor[] = [];
  for (const image of images) {
    const layers: ImageLayer[] = [];
    for (const layer of image.layers) {
      hold.addBlob(layer.digest);
      hold.addLayer(layer.diffId);
      // Whoever is sent the index gets what it names, as it is.
      const sent = isPlainLayer(layer) ? await compressLayer(content, layer, { kind: 'gzip' }) : layer;
      hold.addBlob(sent.digest);
      layers.push(sent);
    }
    const descriptor = await writer.image({ ...image, layers }, annotations);
    manifests.push(descriptor);
    if (image.statements.length > 0) attestations.push(await writer.attestation(descriptor, image.statements, names));
  }
  const index: Index = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociIndex,
    manifests: [...manifests, ...attestations],
    ...annotations.of('index'),
  };
  const made: ImageRecord[] = [];
  for (const { digest } of manifests) made.push(await records.recordFromManifest(digest));
  const descriptor = await writer.document(index, mediaTypes.ociIndex);
  const link = await linkIndex(content, records, descriptor.digest, { hold, made });
  return { descriptor: { ...descriptor, ...annotations.of('index-descriptor') }, link, records: made };
}

/** Makes the index, its images and its names known. */
export async function commitIndex(
  { images, clock, onBuilt }: Pick<BuilderParts, 'images' | 'clock' | 'onBuilt'>,
  { link, records }: WrittenIndex,
  names: readonly string[],
): Promise<void> {
  const linked = link();
  const [image] = linked.images;
  if (image === undefined) return;
  const target = { imageId: image.id, index: linked.index.digest };
  await images.commit([
    ...linked.changes,
    ...records.map((record) => ({ table: 'images', key: record.id, value: { ...record, tagTimeMs: clock.now() } })),
    ...names.map((name) => images.nameChange(name, target)),
  ]);
  onBuilt(linked.index.digest, names);
}
