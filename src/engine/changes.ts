/**
 * `docker diff`: what a container's writable layer holds, by overlayfs's own marks. A whiteout is a deletion; what was copied up from the image
 * carries its origin and is a change; the rest was added.
 */
import { lstatOrUndefined, lstatSync, readdirSync } from '#os/named-files.ts';
import { deviceParts, getXattr } from '#os/special-files.ts';

/** Empty files that the engine puts there to mount its own over. */
const mountPoints = new Set(['/etc/hostname', '/etc/hosts', '/etc/resolv.conf']);

export interface FileChange { Path: string; Kind: 0 | 1 | 2 }

export function listChanges(upper: string): FileChange[] {
  const out: FileChange[] = [];
  const walk = (relative: string): void => {
    for (const name of readdirSync(`${upper}${relative}`).sort()) {
      const path = `${relative}/${name}`;
      if (mountPoints.has(path)) continue;
      const stat = lstatSync(`${upper}${path}`);
      const isWhiteout = stat.isCharacterDevice() && deviceParts(stat.rdev).major === 0 && deviceParts(stat.rdev).minor === 0;
      if (isWhiteout) { out.push({ Path: path.toWellFormed(), Kind: 2 }); continue; }
      const isCopy = getXattr(`${upper}${path}`, 'trusted.overlay.origin') !== undefined;
      out.push({ Path: path.toWellFormed(), Kind: isCopy ? 0 : 1 });
      if (stat.isDirectory()) walk(path);
    }
  };
  try { walk(''); } catch (error) { if ((error as { code?: string }).code !== 'ENOENT') throw error; }
  return out;
}

/** Bytes of the files in a container's writable layer. */
export function writtenBytes(upper: string): number {
  let names: string[];
  try { names = readdirSync(upper); } catch { return 0; }
  return names.reduce((sum, name) => {
    const stat = lstatOrUndefined(`${upper}/${name}`);
    return sum + (stat === undefined ? 0 : stat.isDirectory() ? writtenBytes(`${upper}/${name}`) : stat.size);
  }, 0);
}
