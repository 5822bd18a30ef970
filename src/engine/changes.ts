/**
 * `docker diff`: what a container's writable layer holds, by overlayfs's own marks. A whiteout is a deletion; what was
 * copied up from the image carries its origin and is a change; the rest was added.
 */
import { treeEntriesPerTurn } from './limits.ts';
import { lstatOrUndefined, readdirSync } from '#os/named-files.ts';
import { Turns } from '#os/turn.ts';
import { deviceParts, getXattr } from '#os/special-files.ts';

/** Empty files that the engine puts there to mount its own over. */
const mountPoints = new Set(['/etc/hostname', '/etc/hosts', '/etc/resolv.conf', '/.dockerenv']);

export interface FileChange {
  Path: string;
  Kind: 0 | 1 | 2;
}

export async function listChanges(upper: string): Promise<FileChange[]> {
  const out: FileChange[] = [];
  const turns = new Turns(treeEntriesPerTurn);
  /** False when there was nothing but the engine's own files. */
  const walk = async (relative: string): Promise<boolean> => {
    const before = out.length;
    let own = false;
    for (const name of readdirSync(`${upper}${relative}`).sort()) {
      const path = `${relative}/${name}`;
      await turns.next();
      if (mountPoints.has(path)) {
        own = true;
        continue;
      }
      const stat = lstatOrUndefined(`${upper}${path}`);
      if (stat === undefined) continue;
      const isWhiteout =
        stat.isCharacterDevice() && deviceParts(stat.rdev).major === 0 && deviceParts(stat.rdev).minor === 0;
      if (isWhiteout) {
        out.push({ Path: path.toWellFormed(), Kind: 2 });
        continue;
      }
      const isCopy = getXattr(`${upper}${path}`, 'trusted.overlay.origin') !== undefined;
      const at = out.push({ Path: path.toWellFormed(), Kind: isCopy ? 0 : 1 });
      // The directory was only copied up to put the engine's files into it.
      if (stat.isDirectory() && !(await walk(path)) && isCopy) out.splice(at - 1, 1);
    }
    return !own || out.length > before;
  };
  try {
    await walk('');
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error;
  }
  return out;
}
