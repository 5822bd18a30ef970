/**
 * `oci-layout://NAME@DIGEST`: an image out of a directory with OCI's layout that the client shares. Nothing of it is
 * recorded as an image here; the build holds what it needs.
 */
import { ApiError } from '#base/errors.ts';
import { bestFor, formatPlatform, hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import type { Hold } from '#content/content.ts';
import { isImageFile } from '#content/image-file.ts';
import { kindOf, manifestsOf } from '#content/image-indexes.ts';
import { mediaTypes, parseJson, parseManifest } from '#content/image-records.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { configBytesMax, indexDepthMax } from '#content/limits.ts';
import { openSharedPlace } from './content-store.ts';
import type { SharedStore } from './content-store.ts';

export interface SharedImageRequest {
  store: SharedStore;
  digest: string;
  platform: Platform | undefined;
  hold: Hold;
  signal: AbortSignal;
}

/** Throws NotFound where the client has no such image, or none for the platform. */
export async function receiveSharedImage(request: SharedImageRequest): Promise<ImageRecord> {
  const { store, platform = hostPlatform(), hold, signal } = request;
  const { content } = store;
  let { digest } = request;
  let found = await openSharedPlace(store, digest).find(signal);
  for (let depth = 0; ; depth++) {
    hold.addBlob(digest);
    const manifests = manifestsOf(parseJson(found.bytes, 'manifest'));
    if (manifests === undefined) break;
    const images = manifests.filter((each) => kindOf(each) === 'image');
    const chosen =
      depth < indexDepthMax
        ? (bestFor(platform, images, (each) => each.platform ?? platform) ?? images.find((each) => !each.platform))
        : undefined;
    if (chosen === undefined)
      throw new ApiError('NotFound', `no image for ${formatPlatform(platform)} in the layout's index`);
    ({ digest } = chosen);
    found = await openSharedPlace(store, digest).find(signal);
  }
  const manifest = parseManifest(found.bytes, digest);
  const fetched = async (blob: string, sizeBytes: number): Promise<void> => {
    hold.addBlob(blob);
    await found.fetch(blob, sizeBytes, signal);
  };
  if (manifest.config.size > configBytesMax)
    throw new ApiError('RequestEntityTooLarge', 'the configuration of an image is too large');
  await fetched(manifest.config.digest, manifest.config.size);
  const file = parseJson(await content.blobs.readBytes(manifest.config.digest, configBytesMax), 'configuration');
  if (!isImageFile(file) || file.rootfs.diff_ids.length !== manifest.layers.length)
    throw new ApiError('BadRequest', `manifest ${digest} is of no image`);
  const layers = manifest.layers.map(({ digest: blob, size, mediaType }, index) => ({
    digest: blob,
    diffId: file.rootfs.diff_ids[index] ?? '',
    sizeBytes: size,
    mediaType,
  }));
  for (const layer of layers) {
    await fetched(layer.digest, layer.sizeBytes);
    hold.addLayer(layer.diffId);
  }
  return {
    id: manifest.config.digest,
    manifestDigest: digest,
    manifestMediaType: manifest.mediaType ?? mediaTypes.ociManifest,
    layers,
    file,
    createdAtMs: 0,
  };
}
