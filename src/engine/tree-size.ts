/**
 * How much a directory's files take: a file with several names once (its first), what is mounted below it not at all.
 * Other work has its turn in between.
 */
import { lstatOrUndefined, readdirSync } from '#os/named-files.ts';
import { Turns } from '#os/turn.ts';
import { treeEntriesPerTurn } from './limits.ts';

/** Bytes of the files below; 0 when there is no such directory. What goes away meanwhile is not counted. */
export async function treeBytes(directory: string): Promise<number> {
  const top = lstatOrUndefined(directory);
  if (top === undefined) return 0;
  const linked = new Set<string>();
  const pending = [directory];
  let sum = 0;
  const turns = new Turns(treeEntriesPerTurn);
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    for (const name of namesIn(path)) {
      const stat = lstatOrUndefined(`${path}/${name}`);
      await turns.next();
      if (stat === undefined || stat.dev !== top.dev) continue;
      if (stat.isDirectory()) {
        pending.push(`${path}/${name}`);
        continue;
      }
      if (stat.nlink > 1) {
        if (linked.has(String(stat.ino))) continue;
        linked.add(String(stat.ino));
      }
      sum += stat.size;
    }
  }
  return sum;
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
