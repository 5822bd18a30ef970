/** Base images that are made here where no registry could be reached. */
import { canMakeBaseImage, makeBaseImage } from '#build/bootstrap/bootstrap.ts';
import { SingleFlight } from '#base/single-flight.ts';
import type { Content } from '#content/content.ts';
import type { ImageRecord, ImageRecords } from '#content/image-records.ts';
import type { ImagesOptions } from '#engine/images-options.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';

/** Pods that start together ask for the same base image together; it is made in one place on disk. */
export function baseImageMaker(content: Content, images: ImageRecords): NonNullable<ImagesOptions['makeBaseImage']> {
  const making = new SingleFlight<ImageRecord>();
  return async (name, progress) => {
    if (!canMakeBaseImage(name)) return undefined;
    const parts = {
      content,
      images,
      processes: linuxProcesses,
      clock: realClock,
      environment: process.env as Record<string, string>,
      onProgress: (line: string) => progress({ status: line }),
    };
    return making.run(name, () => makeBaseImage(parts, name));
  };
}
