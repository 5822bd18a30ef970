/**
 * Platforms of images in requests and answers: `platform` and `platforms` of queries, which each version of the API
 * takes from its own number on, and `Manifests` of list and inspect.
 *
 * Source: the change log of the Engine API, 1.46 to 1.50; `ManifestSummary` of its schema.
 */
import { ApiError } from '#base/errors.ts';
import { normalizePlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { isObject } from '#base/unknown.ts';
import { platformOf } from '#content/image-file.ts';
import { referenceDigest } from '#content/image-indexes.ts';
import type { ImageRecord, ImageTarget } from '#content/image-records.ts';
import type { Descriptor, IndexEntry } from '#content/manifest.ts';
import type { ImageStore } from '#engine/images.ts';
import type { RouteContext } from './route.ts';

function decodePlatform(text: string): Platform {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ApiError('BadRequest', 'failed to parse platform: invalid JSON');
  }
  const { os, architecture, variant } = isObject(value) ? value : {};
  if (
    typeof os !== 'string' ||
    os === '' ||
    typeof architecture !== 'string' ||
    architecture === '' ||
    (variant !== undefined && typeof variant !== 'string')
  )
    throw new ApiError('BadRequest', 'both OS and Architecture must be provided');
  return normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}

/** `platforms={"os":"linux","architecture":"arm64"}`, any number of times. None before version 1.`since`. */
export function platformsOf({ query, version }: RouteContext, since: number, name = 'platforms'): Platform[] {
  const given = query.getAll(name).filter((text) => text !== '');
  return version[1] < since ? [] : given.map(decodePlatform);
}

/** `platform={"os":"linux","architecture":"arm64"}`, once. None before version 1.`since`. */
export function platformOfQuery(context: RouteContext, since: number): Platform | undefined {
  const platforms = platformsOf(context, since, 'platform');
  if (platforms.length > 1) throw new ApiError('BadRequest', 'multiple platform parameters not supported');
  return platforms[0];
}

/** Those of an archive: `platform`, since version 1.48 once, since 1.52 any number of times. */
export function archivePlatforms(context: RouteContext): Platform[] {
  const platforms = platformsOf(context, 48, 'platform');
  if (context.version[1] < 52 && platforms.length > 1)
    throw new ApiError(
      'BadRequest',
      'multiple platform parameters are not supported in this API version; use API version 1.52 or later',
    );
  return platforms;
}

/** The manifest or index that the target is. A build step has none. */
export function descriptorOf({ options }: ImageStore, { image, index }: ImageTarget): Descriptor | undefined {
  if (index !== undefined) return { mediaType: index.mediaType, digest: index.digest, size: index.sizeBytes };
  const { manifestMediaType: mediaType, manifestDigest: digest } = image;
  return digest === '' ? undefined : { mediaType, digest, size: options.content.blobs.size(digest) ?? 0 };
}

export interface ManifestSummary {
  ID: string;
  Descriptor: Descriptor;
  Available: boolean;
  /** In bytes. */
  Size: { Content: number; Total: number };
  Kind: string;
  ImageData?: { Platform: Platform; Size: { Unpacked: number }; Containers: string[] };
  AttestationData?: { For: string };
}

/** An image alone is one manifest. */
function entriesOf(images: ImageStore, target: ImageTarget): IndexEntry[] {
  if (target.index !== undefined) return target.index.manifests;
  const descriptor = descriptorOf(images, target);
  if (descriptor === undefined) return [];
  const { blobs } = images.options.content;
  const named = [descriptor.digest, target.image.id, ...target.image.layers.map((layer) => layer.digest)];
  const sizeBytes = [...new Set(named)].reduce((sum, digest) => sum + (blobs.size(digest) ?? 0), 0);
  return [{ descriptor, kind: 'image', content: { configDigest: target.image.id, blobs: named, sizeBytes } }];
}

export function showManifests(images: ImageStore, target: ImageTarget): ManifestSummary[] {
  const { records, content, containersOf } = images.options;
  const unpackedBytes = ({ layers }: ImageRecord): number =>
    layers.reduce((sum, { diffId }) => sum + (content.layers.has(diffId) ? content.layers.sizeBytes(diffId) : 0), 0);
  return entriesOf(images, target).map(({ descriptor, kind, content: found }) => {
    const record = found === undefined || kind !== 'image' ? undefined : records.get(found.configDigest);
    const contentBytes = found?.sizeBytes ?? content.blobs.size(descriptor.digest) ?? 0;
    const unpacked = record === undefined ? 0 : unpackedBytes(record);
    const about = {
      ID: descriptor.digest,
      Descriptor: descriptor,
      Available: found !== undefined,
      Size: { Content: contentBytes, Total: contentBytes + unpacked },
    };
    const subject = descriptor.annotations?.[referenceDigest];
    if (kind === 'attestation' && subject !== undefined)
      return { ...about, Kind: 'attestation', AttestationData: { For: subject } };
    if (kind !== 'image') return { ...about, Kind: 'unknown' };
    const platform =
      descriptor.platform ?? (record === undefined ? { os: '', architecture: '' } : platformOf(record.file));
    const containers = record === undefined ? [] : (containersOf?.(record.id) ?? []);
    return {
      ...about,
      Kind: 'image',
      ImageData: {
        Platform: platform,
        Size: { Unpacked: unpacked },
        Containers: containers.filter(({ owner }) => owner === 'docker').map(({ id }) => id),
      },
    };
  });
}
