/**
 * Indexes: several manifests under one digest, for platforms and for what is said of them (attestations). An index's
 * bytes are kept as they came, for its digest is what its name means elsewhere. Here its entries are read and linked to
 * the content that is here; which names stand for it, and what it keeps, is in `image-records.ts`.
 *
 * Specification: OCI image 1.1, "Image Index"; BuildKit's "Attestation storage".
 */
import { ApiError } from '#base/errors.ts';
import { platformFit } from '#base/platform.ts';
import { isDigest } from '#base/reference.ts';
import { isObject, textOf } from '#base/unknown.ts';
import type { Content, Hold } from './content.ts';
import { platformOf } from './image-file.ts';
import { mediaTypes, parseJson, parseManifest } from './image-records.ts';
import type { ImageRecord, ImageRecords } from './image-records.ts';
import { indexDepthMax, indexManifestsMax, manifestBytesMax, remoteBlobBytesMax } from './limits.ts';
import type { Change } from './records.ts';
import type { Descriptor, IndexEntry, IndexRecord, ManifestKind, Platform } from './manifest.ts';

export const referenceType = 'vnd.docker.reference.type';
export const referenceDigest = 'vnd.docker.reference.digest';
export const attestationManifest = 'attestation-manifest';

const isDescriptor = (value: unknown): value is Descriptor =>
  isObject(value) &&
  typeof value['digest'] === 'string' &&
  isDigest(value['digest']) &&
  (value['size'] === undefined ||
    (Number.isSafeInteger(value['size']) &&
      Number(value['size']) >= 0 &&
      Number(value['size']) <= remoteBlobBytesMax)) &&
  (value['platform'] === undefined || isPlatform(value['platform'])) &&
  (value['annotations'] === undefined || isObject(value['annotations']));

const isPlatform = (value: unknown): value is Platform =>
  isObject(value) &&
  typeof value['os'] === 'string' &&
  typeof value['architecture'] === 'string' &&
  ['variant', 'os.version'].every((name) => value[name] === undefined || typeof value[name] === 'string');

/** Descriptors of an index, without what is none; undefined for a document that is no index. */
export function manifestsOf(document: unknown): Descriptor[] | undefined {
  const manifests = isObject(document) ? document['manifests'] : undefined;
  if (!Array.isArray(manifests)) return undefined;
  if (manifests.length > indexManifestsMax)
    throw new ApiError(
      'BadRequest',
      `an index has ${manifests.length} manifests, at most ${indexManifestsMax} are read`,
    );
  return manifests.filter(isDescriptor);
}

export function kindOf({ platform, annotations }: Descriptor): ManifestKind {
  if (annotations?.[referenceType] === attestationManifest) return 'attestation';
  return platform?.architecture === 'unknown' ? 'unknown' : 'image';
}

/**
 * What stands behind an entry that is here: the descriptors of an index, or what a manifest names; neither where some
 * of that is not here, or where it is no manifest. The hold keeps what is looked at.
 */
async function readEntry(
  { blobs }: Content,
  hold: Hold,
  digest: string,
): Promise<{ within?: Descriptor[]; named?: NonNullable<IndexEntry['content']> }> {
  try {
    const bytes = await blobs.readBytes(digest, manifestBytesMax);
    const within = manifestsOf(parseJson(bytes, `manifest ${digest}`));
    if (within !== undefined) return { within };
    const { config, layers } = parseManifest(bytes, digest);
    const named = [...new Set([config.digest, ...layers.map((layer) => layer.digest)])];
    for (const each of named) hold.addBlob(each);
    if (!named.every((each) => blobs.has(each))) return {};
    return {
      named: {
        configDigest: config.digest,
        blobs: [digest, ...named],
        sizeBytes: named.reduce((sum, each) => sum + (blobs.size(each) ?? 0), bytes.length),
      },
    };
  } catch (error) {
    if (error instanceof ApiError) return {};
    throw error;
  }
}

/** Reads an index that is here. Throws BadRequest for what is none, or is too large. */
async function readIndex(content: Content, hold: Hold, digest: string): Promise<IndexRecord> {
  const inner = new Set<string>();
  const manifests: IndexEntry[] = [];
  const { blobs } = content;
  const visit = async (descriptors: Descriptor[], depth: number): Promise<void> => {
    for (const descriptor of descriptors) {
      if (manifests.length >= indexManifestsMax)
        throw new ApiError('BadRequest', `index ${digest} has more than ${indexManifestsMax} manifests`);
      const entry = { descriptor, kind: kindOf(descriptor) };
      hold.addBlob(descriptor.digest);
      if (!blobs.has(descriptor.digest)) {
        manifests.push(entry);
        continue;
      }
      const { within, named } = await readEntry(content, hold, descriptor.digest);
      if (within === undefined) manifests.push({ ...entry, ...(named === undefined ? {} : { content: named }) });
      else if (depth < indexDepthMax && !inner.has(descriptor.digest)) {
        inner.add(descriptor.digest);
        await visit(within, depth + 1);
      }
    }
  };
  hold.addBlob(digest);
  const document = parseJson(await blobs.readBytes(digest, manifestBytesMax), `manifest ${digest}`);
  const descriptors = manifestsOf(document);
  if (descriptors === undefined) throw new ApiError('BadRequest', `manifest ${digest} is not an index`);
  await visit(descriptors, 0);
  return {
    digest,
    mediaType: textOf(document, 'mediaType') ?? mediaTypes.ociIndex,
    sizeBytes: blobs.size(digest) ?? 0,
    inner: [...inner],
    manifests,
  };
}

export interface LinkedIndex {
  index: IndexRecord;
  /** Images of it that are here, those that have no record yet among them; the default one first. */
  images: ImageRecord[];
  /** They make the index and its images known, when they are committed. */
  changes: Change[];
}

export interface LinkOptions {
  /** Keeps what is looked at until the changes are committed. */
  hold: Hold;
  /** Images for these alone, and what was linked before. */
  only?: readonly Platform[];
  /** Records that the caller is about to put. */
  made?: readonly ImageRecord[];
  /** Images that were not known stay so for people. */
  isHidden?: boolean;
}

/**
 * Reads an index, whose bytes are here, for being linked to what is here of its content. What is returned links it as
 * things stand when it is called: its changes are committed in the same turn, so that two who bring one platform each
 * both have theirs.
 */
export async function linkIndex(
  content: Content,
  records: ImageRecords,
  digest: string,
  { hold, only, made = [], isHidden }: LinkOptions,
): Promise<() => LinkedIndex> {
  const index = await readIndex(content, hold, digest);
  const known = new Map(made.map((record) => [record.id, record]));
  for (const entry of index.manifests) {
    const { kind, descriptor, content: found } = entry;
    if (kind !== 'image' || found === undefined) continue;
    const record =
      known.get(found.configDigest) ??
      records.get(found.configDigest) ??
      (await newRecord(records, descriptor.digest, isHidden));
    if (record === undefined || (only !== undefined && !only.some((platform) => fits(record, platform))))
      delete entry.content;
    else known.set(record.id, record);
  }
  return () => {
    const before = new Map(records.index(digest)?.manifests.map((entry) => [entry.descriptor.digest, entry.content]));
    const manifests = index.manifests.map((entry): IndexEntry => {
      const linked = entry.content ?? before.get(entry.descriptor.digest);
      return { ...entry, ...(linked === undefined ? {} : { content: linked }) };
    });
    const whole = { ...index, manifests };
    const images = manifests.flatMap(({ kind, content: linked }) => {
      const id = linked?.configDigest ?? '';
      const record = kind === 'image' ? (records.get(id) ?? known.get(id)) : undefined;
      return record === undefined ? [] : [isHidden === true ? record : shown(record)];
    });
    const fresh = images.filter((record) => {
      const stored = records.get(record.id);
      return stored === undefined || stored.isHidden !== record.isHidden;
    });
    return {
      index: whole,
      images: records.imagesOf(whole, [...made, ...images]),
      changes: [
        ...fresh.map((record): Change => ({ table: 'images', key: record.id, value: record })),
        ...records.indexChanges(whole, [...made, ...images]),
      ],
    };
  };
}

/** Of an image that only the registry had: now it is people's, too. */
function shown(record: ImageRecord): ImageRecord {
  const { isHidden: _isHidden, ...rest } = record;
  return rest;
}

/** Undefined for what is no image. */
async function newRecord(
  records: ImageRecords,
  digest: string,
  isHidden: boolean | undefined,
): Promise<ImageRecord | undefined> {
  try {
    const record = await records.recordFromManifest(digest);
    return isHidden === true ? { ...record, isHidden } : record;
  } catch (error) {
    if (error instanceof ApiError) return undefined;
    throw error;
  }
}

const fits = (record: ImageRecord, wanted: Platform): boolean => platformFit(wanted, platformOf(record.file)) > 0;
