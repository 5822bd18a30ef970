/** The image store of an engine: content, records and snapshots below one directory. */
import { openContent, type Content } from '#content/content.ts';
import { createImageRecords, type ImageRecords } from '#content/image-records.ts';
import { createSnapshots, type BuildSnapshots } from '#content/snapshots.ts';
import type { Logger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import type { Mounts } from '#os/mount.ts';
import { linuxProcesses } from '#os/processes.linux.ts';

export interface Store {
  content: Content;
  records: ImageRecords;
  mounts: Mounts;
  snapshots: BuildSnapshots;
}

/** Closes with the stack. */
export async function openStore(root: string, log: Logger, stack: AsyncDisposableStack): Promise<Store> {
  const content = await openContent({
    root,
    clock: realClock,
    random: realRandom,
    log: log.child('content'),
    processes: linuxProcesses,
  });
  stack.defer(() => content.close());
  const records = createImageRecords(content);
  const mounts = createMounts();
  return { content, records, mounts, snapshots: createSnapshots({ content, images: records, mounts }) };
}
