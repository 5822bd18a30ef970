/**
 * Image collection: when the disk is fuller than the high threshold, images that only the kubelet brought and that
 * nothing needs go, oldest first, until the low one would be reached. What a user built, loaded, pulled or tagged is
 * never among them, nor what a Pod or container holds.
 * Rules: Kubernetes documentation, "Garbage Collection / Container image lifecycle".
 */
import { messageOf } from '#base/thrown.ts';
import type { Images, ImageSummary } from '#engine/engine.ts';
import type { Logger } from '#observe/log.ts';
import { imageGcHighPercent, imageGcLowPercent } from './limits.ts';

export interface DiskUse {
  totalBytes: number;
  availableBytes: number;
}

/** Bytes to free, 0 below the high threshold. */
export function bytesToFree(disk: DiskUse): number {
  const usedPercent = 100 - Math.floor((disk.availableBytes * 100) / disk.totalBytes);
  if (disk.totalBytes === 0 || usedPercent < imageGcHighPercent) return 0;
  return Math.max(0, Math.floor((disk.totalBytes * (100 - imageGcLowPercent)) / 100) - disk.availableBytes);
}

/**
 * `seenUnused`: images that the last look found unneeded too; one that has just come may be waiting for its Pod's
 * container.
 */
function chooseImages(
  images: readonly ImageSummary[],
  seenUnused: ReadonlySet<string>,
  wantedBytes: number,
): ImageSummary[] {
  const chosen: ImageSummary[] = [];
  let found = 0;
  for (const image of images
    .filter((each) => each.isCollectable && seenUnused.has(each.id))
    .sort((a, b) => a.createdAtMs - b.createdAtMs)) {
    if (found >= wantedBytes) break;
    chosen.push(image);
    found += image.sizeBytes;
  }
  return chosen;
}

export interface ImageCollector {
  /** Looks once. Resolves with a warning when not enough could be freed. */
  collect(disk: DiskUse): Promise<string | undefined>;
}

export function createImageCollector(engine: { images: Pick<Images, 'list' | 'remove'> }, log: Logger): ImageCollector {
  let seenUnused = new Set<string>();
  return {
    async collect(disk) {
      const wantedBytes = bytesToFree(disk);
      let freedBytes = 0;
      const images = engine.images.list();
      for (const image of wantedBytes === 0 ? [] : chooseImages(images, seenUnused, wantedBytes)) {
        try {
          await engine.images.remove(image.id, { owner: 'kubelet' });
          freedBytes += image.sizeBytes;
          log.info('image collected', { image: image.names[0] ?? image.id, sizeBytes: image.sizeBytes });
        } catch (error) {
          log.debug('image stays', { image: image.id, error: messageOf(error) });
        }
      }
      seenUnused = new Set(images.filter((image) => image.isCollectable).map((image) => image.id));
      if (freedBytes >= wantedBytes) return undefined;
      return `Failed to garbage collect required amount of images. Attempted to free ${wantedBytes} bytes, but only found ${freedBytes} bytes eligible to free.`;
    },
  };
}
