/**
 * Binds without what is mounted below their source (`bind-recursive=disabled`). Runtimes are told `bind` instead of
 * `rbind`, and some take it for the same; so the engine makes a bind of its own, which has nothing below, and gives
 * that to the runtime. It stands only while the runtime makes the container, which then has its own.
 *
 * The places are removed by unlink(2) and rmdir(2), which refuse what is still mounted: never as a tree.
 */
import { existsSync, mkdirSync, realpathSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory } from '#os/files.ts';
import type { EngineContext } from './context.ts';
import type { Mount } from './engine.ts';

function placesOf(context: EngineContext, id: string): string {
  return `${context.directories.run}/binds/${id}`;
}

/** The same mounts; what must not bring along what is below is shown by a bind of its own. */
export async function makeShallowBinds(context: EngineContext, id: string, mounts: readonly Mount[]): Promise<Mount[]> {
  const out: Mount[] = [];
  for (const mount of mounts) {
    if (mount.type !== 'bind' || mount.nonRecursive !== true || !(await hasMountsBelow(context, mount.source))) {
      out.push(mount);
      continue;
    }
    const target = join(placesOf(context, id), String(out.length));
    mkdirSync(target, { recursive: true, mode: 0o700 });
    await context.os.mounts.bind({ source: mount.source, target });
    out.push({ ...mount, source: target });
  }
  return out;
}

async function hasMountsBelow(context: EngineContext, source: string): Promise<boolean> {
  // That there is none is the runtime's to say.
  if (!existsSync(source)) return false;
  const path = realpathSync(source);
  return (await context.os.mounts.listBelow(path)).some((entry) => entry.target !== path);
}

/** Safe to repeat. */
export async function removeShallowBinds(context: EngineContext, id: string): Promise<void> {
  const places = placesOf(context, id);
  const names = listDirectory(places);
  for (const name of names) {
    await context.os.mounts.unmount(join(places, name));
    rmdirSync(join(places, name));
  }
  if (names.length > 0) rmdirSync(places);
}

/** Of starts that a death broke off. */
export async function sweepShallowBinds(context: EngineContext): Promise<void> {
  for (const id of listDirectory(`${context.directories.run}/binds`)) await removeShallowBinds(context, id);
}
