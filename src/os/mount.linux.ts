/** `Mounts` by mount(2) and umount2(2). The contract is in mount.ts. */
import { closeSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import type { BindMount, MappedMount, MountEntry, Mounts, OverlayMount } from './mount.ts';
import { startSyscallWorker } from './worker-call.linux.ts';
import type { SyscallWorker } from './worker-call.linux.ts';

export function createMounts(worker: SyscallWorker = startSyscallWorker('mounts')): Mounts {
  const listBelow = async (path: string): Promise<MountEntry[]> => {
    const all = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
    return all
      .filter((entry) => entry.target === path || entry.target.startsWith(path === '/' ? '/' : `${path}/`))
      .reverse();
  };
  return {
    mountOverlay: (mount: OverlayMount) => worker.call('mountOverlay', mount),
    bind: (mount: BindMount) => worker.call('bind', mount),
    bindMapped: (mount: MappedMount) => worker.call('bindMapped', mount),
    mountTmpfs: (target, options) => worker.call('mountTmpfs', { target, ...options }),
    unmount: (target) => worker.call('unmount', { target }),
    async copyWithout(mount) {
      const copied = await worker.call('copyMountsWithout', mount);
      return copied === undefined
        ? undefined
        : { path: `/proc/${process.pid}/fd/${copied}`, close: () => closeSync(copied) };
    },
    async removeTrees(paths) {
      for (const path of await worker.call('removeSmallTrees', { paths }))
        await rm(path, { recursive: true, force: true });
    },
    listBelow,
    async unmountBelow(path) {
      for (const entry of await listBelow(path)) await worker.call('unmount', { target: entry.target });
    },
  };
}

/** /proc/PID/mountinfo, proc(5). Spaces and the like are octal escapes. */
export function parseMountInfo(text: string): MountEntry[] {
  const out: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const dash = line.indexOf(' - ');
    if (dash < 0) continue;
    const before = line.slice(0, dash).split(' ');
    const after = line.slice(dash + 3).split(' ');
    out.push({
      target: unescapeOctal(before[4] ?? ''),
      type: after[0] ?? '',
      source: unescapeOctal(after[1] ?? ''),
      options: after[2] ?? '',
    });
  }
  return out;
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
