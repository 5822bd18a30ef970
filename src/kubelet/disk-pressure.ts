/**
 * Whether the node is short of disk: measured on the file system that Pods, images and logs lie on. It is told at once;
 * that it is over is told only when no sign of it was seen for a while, so that the condition does not flap. Pure.
 * Rules: Kubernetes documentation, "Node-pressure Eviction" (nodefs.available, nodefs.inodesFree, transition period).
 */
import { diskFreeMinPercent, inodesFreeMinPercent, diskPressureTransitionMs } from './limits.ts';

/**
 * As statfs(2) counts: blocks and inodes of the file system, and those that are free for others than root. Inodes are 0
 * where there is no limit to them.
 */
export interface DiskReading {
  blocks: number;
  bavail: number;
  files: number;
  ffree: number;
}

export interface DiskPressure {
  isUnder: boolean;
  /** On the monotonic clock; undefined when there never was one. */ lastSignMs: number | undefined;
}

export function isShort(disk: DiskReading): boolean {
  const blocksShort = disk.blocks > 0 && disk.bavail * 100 < disk.blocks * diskFreeMinPercent;
  return blocksShort || (disk.files > 0 && disk.ffree * 100 < disk.files * inodesFreeMinPercent);
}

export function nextDiskPressure(before: DiskPressure, disk: DiskReading, nowMs: number): DiskPressure {
  if (isShort(disk)) return { isUnder: true, lastSignMs: nowMs };
  return {
    isUnder: before.isUnder && before.lastSignMs !== undefined && nowMs - before.lastSignMs < diskPressureTransitionMs,
    lastSignMs: before.lastSignMs,
  };
}
