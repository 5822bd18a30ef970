/**
 * How much a directory and what is below it take: a file with several names once (its first), what is mounted below it
 * not at all. Other work has its turn in between. What goes away meanwhile is not counted.
 */
import { lstatOrUndefined, readdirSync } from '#os/named-files.ts';
import { Turns } from '#os/turn.ts';
import { treeEntriesPerTurn } from './limits.ts';

export interface TreeSize {
  /** Of the files below, by their length. */
  bytes: number;
  /** What all of it takes on disk, holes left out and directories counted. */
  diskBytes: number;
  inodes: number;
  /** The file system that it lies on; undefined where there is nothing. */
  device: number | undefined;
}

/** Bytes of the files below; 0 when there is no such directory. */
export async function treeBytes(directory: string): Promise<number> {
  return (await treeSize(directory)).bytes;
}

export async function treeSize(directory: string): Promise<TreeSize> {
  const top = lstatOrUndefined(directory);
  if (top === undefined) return { bytes: 0, diskBytes: 0, inodes: 0, device: undefined };
  const size = { bytes: 0, diskBytes: top.blocks * blockBytes, inodes: 1, device: top.dev };
  const linked = new Set<string>();
  const pending = [directory];
  const turns = new Turns(treeEntriesPerTurn);
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    for (const name of namesIn(path)) {
      const stat = lstatOrUndefined(`${path}/${name}`);
      await turns.next();
      if (stat === undefined || stat.dev !== top.dev) continue;
      if (!stat.isDirectory() && stat.nlink > 1) {
        if (linked.has(String(stat.ino))) continue;
        linked.add(String(stat.ino));
      }
      size.inodes++;
      size.diskBytes += stat.blocks * blockBytes;
      if (stat.isDirectory()) pending.push(`${path}/${name}`);
      else size.bytes += stat.size;
    }
  }
  return size;
}

/** What `stat` counts blocks in. */
const blockBytes = 512;

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
