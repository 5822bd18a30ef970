/** Images that are made here: of a container's changes (`docker commit`), of an archive of files (`docker import`). */
import { hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { canonicalName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { HistoryEntry, ImageFile, RunConfig } from '#content/image-file.ts';
import type { ImageLayer, ImageRecord } from '#content/image-records.ts';
import { toImageLayer, writeImage } from '#content/image-writer.ts';
import { archiveBytesMax } from '#content/limits.ts';
import { findMountPoints } from '#content/mount-points.ts';
import { emitImage, familiar } from './images-options.ts';
import type { ImagesOptions, Progress } from './images-options.ts';

export interface ImportOptions {
  name?: string;
  message?: string;
  changes?: RunConfig;
  platform?: Platform;
  onProgress?: Progress;
}

export interface CommitOptions {
  parent?: ImageRecord;
  /** The directory with what the container changed. */
  upper?: string;
  config: RunConfig;
  comment?: string;
  author?: string;
  createdBy?: string;
  name?: string;
}

/** The one name that is asked for, whole. */
function namesOf(asked: string | undefined): string[] {
  return asked === undefined || asked === '' ? [] : [canonicalName(withDefaultTag(parseReference(asked)))];
}

export async function importImage(
  images: ImagesOptions,
  source: AsyncIterable<Uint8Array>,
  options: ImportOptions,
): Promise<ImageRecord> {
  const { content, clock } = images;
  using hold = content.hold();
  const uploaded = await content.blobs.write(source, {}, archiveBytesMax);
  hold.addBlob(uploaded.digest);
  // Unpacked and packed again: the archive may be compressed in any way, and its diff id is that of a layer's form.
  const scratch = content.blobs.scratchPath();
  await content.layers.unpackFile(content.blobs.path(uploaded.digest), scratch);
  const packed = await content.layers.commitUpper(scratch);
  hold.addBlob(packed.digest);
  hold.addLayer(packed.diffId);
  const created = new Date(clock.now()).toISOString();
  const file: ImageFile = {
    ...(options.platform ?? hostPlatform()),
    created,
    comment: options.message ?? '',
    config: options.changes ?? {},
    rootfs: { type: 'layers', diff_ids: packed.isEmpty ? [] : [packed.diffId] },
    history: [{ created, comment: options.message ?? '' }],
  };
  const names = namesOf(options.name);
  const record = await writeImage(content, images.records, {
    file,
    layers: packed.isEmpty ? [] : [toImageLayer(packed)],
    createdAtMs: clock.now(),
    names,
  });
  emitImage(images, 'import', record.id, { name: names[0] === undefined ? record.id : familiar(names[0]) });
  return record;
}

export async function commitImage(images: ImagesOptions, options: CommitOptions): Promise<ImageRecord> {
  const { content, clock } = images;
  using hold = content.hold();
  const layers: ImageLayer[] = [...(options.parent?.layers ?? [])];
  let isEmpty = true;
  if (options.upper !== undefined) {
    const packed = await content.layers.packUpper(options.upper, findMountPoints(content, options.upper, layers));
    isEmpty = packed.isEmpty;
    if (!packed.isEmpty) {
      hold.addBlob(packed.digest);
      hold.addLayer(packed.diffId);
      await content.layers.ensure(packed.diffId, packed.digest);
      layers.push(toImageLayer(packed));
    }
  }
  const created = new Date(clock.now()).toISOString();
  const base = options.parent?.file;
  const entry: HistoryEntry = {
    created,
    created_by: options.createdBy ?? '',
    ...(options.author ? { author: options.author } : {}),
    ...(options.comment ? { comment: options.comment } : {}),
    ...(isEmpty ? { empty_layer: true } : {}),
  };
  const file: ImageFile = {
    architecture: base?.architecture ?? (process.arch === 'x64' ? 'amd64' : process.arch),
    os: base?.os ?? 'linux',
    created,
    ...(options.author ? { author: options.author } : {}),
    ...(options.comment ? { comment: options.comment } : {}),
    config: options.config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    history: [...(base?.history ?? []), entry],
  };
  const names = namesOf(options.name);
  const record = await writeImage(content, images.records, {
    file,
    layers,
    createdAtMs: clock.now(),
    names,
    ...(options.parent === undefined ? {} : { parent: options.parent.id }),
  });
  emitImage(images, 'create', record.id, { name: record.id });
  if (names[0] !== undefined) emitImage(images, 'tag', record.id, { name: familiar(names[0]) });
  return record;
}
