/** What lies on a Linux node for one of its Pods (`PodStorage`). */
import type { Pod } from '#api/core.v1.ts';
import { readdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiskUse } from '#engine/engine.ts';
import { treeSize } from '#engine/tree-size.ts';
import type { FileSystemReading, MountedVolumes, PodStorage } from './doors.ts';
import { claimNameOf, sumOfUses } from './local-storage.ts';
import { podDir, podLogsDir, volumesFolder, type KubeletPaths } from './pod-paths.ts';

export async function fileSystemAt(path: string): Promise<FileSystemReading> {
  const { blocks, bsize, bavail, files, ffree } = await statfs(path);
  return { capacityBytes: blocks * bsize, availableBytes: bavail * bsize, inodes: files, inodesFree: ffree };
}

async function useOf(path: string): Promise<DiskUse> {
  const { diskBytes, inodes } = await treeSize(path);
  return { bytes: diskBytes, inodes };
}

async function entriesOf(path: string): Promise<string[]> {
  // What is not there has none.
  return readdir(path).catch(() => []);
}

/** `mounted`: as `mountVolumes` left them. Paths of the host are not the Pod's, nor are images. */
export async function measureStorage(paths: KubeletPaths, pod: Pod, mounted: MountedVolumes): Promise<PodStorage> {
  const own = podDir(paths, pod.metadata.uid);
  // A Pod that has nothing has nothing on disk.
  const disk = await stat(own).catch(() => undefined);
  const volumes = new Map<string, DiskUse & { isOnDisk: boolean }>();
  const claims = new Map<string, FileSystemReading>();
  for (const volume of pod.spec.volumes ?? []) {
    const { name } = volume;
    const path = mounted.get(name)?.path;
    if (path === undefined || volume.hostPath !== undefined) continue;
    if (claimNameOf(pod, volume) !== undefined) {
      // A file system that is gone is left out.
      const reading = await fileSystemAt(path).catch(() => undefined);
      if (reading !== undefined) claims.set(name, reading);
      continue;
    }
    const { diskBytes: bytes, inodes, device } = await treeSize(path);
    volumes.set(name, { bytes, inodes, isOnDisk: device === disk?.dev });
  }
  const logs = new Map<string, DiskUse>();
  const logsDir = podLogsDir(paths, pod);
  for (const container of await entriesOf(logsDir)) logs.set(container, await useOf(join(logsDir, container)));
  const others: DiskUse[] = [];
  for (const entry of await entriesOf(own)) if (entry !== volumesFolder) others.push(await useOf(join(own, entry)));
  return { volumes, claims, logs, others: sumOfUses(others) };
}
