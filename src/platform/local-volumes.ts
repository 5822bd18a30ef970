/**
 * Directories of local-path volumes. The kubelet makes one when a Pod first mounts it; this removes it once its
 * PersistentVolume is gone, which the controller only deletes under the reclaim policy Delete. Only what is seen to go
 * is removed: a directory that nobody knows (kept data beside a new cluster, say) is never touched, at the price that
 * one stays behind when this process was away at that moment.
 */
import type { PersistentVolume } from '#api/core.v1.ts';
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Logger } from '#observe/log.ts';

function pathOf(volume: PersistentVolume): string | undefined {
  return volume.spec.hostPath?.path ?? volume.spec.local?.path;
}

export function removeUnusedVolumes(
  informers: InformerFactory,
  directory: string,
  log: Logger,
): { ready: Promise<void> } {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const volumes = informers.informer(kinds.PersistentVolume);
  const remove = (name: string): void => {
    void rm(join(directory, name), { recursive: true, force: true }).catch((error: unknown) =>
      log.warn("a volume's directory could not be removed", { name, error }),
    );
  };
  return {
    ready: volumes.synced.then(() => {
      volumes.addHandler({
        deleted: (volume) => {
          const path = pathOf(volume);
          if (path !== undefined && dirname(path) === directory) remove(basename(path));
        },
      });
    }),
  };
}
