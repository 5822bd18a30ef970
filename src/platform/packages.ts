/**
 * The system packages that Tiphys stands on, and installing them by apt. What was installed is noted in the data
 * directory, so that
 * `uninstall` takes away only what Tiphys brought.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listDirectory, readIfExists, removeTree, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import { makeDirectory, privateMode, type Paths } from './paths.ts';

export interface Tool {
  program: string;
  package: string;
  why: string;
}

export const tools: readonly Tool[] = [
  { program: 'crun', package: 'crun', why: 'starts containers' },
  { program: 'conmon', package: 'conmon', why: "holds a container's log and exit status" },
  { program: 'nft', package: 'nftables', why: 'Services and published ports' },
  { program: 'haproxy', package: 'haproxy', why: 'Ingress' },
  { program: 'catatonit', package: 'catatonit', why: 'init of containers and Pods that share processes' },
];
/** Installed with the others; a machine that cannot have them works, but for such archives. */
export const archiveTools: readonly Tool[] = [
  { program: 'xz', package: 'xz-utils', why: 'unpacks what is compressed with xz' },
  { program: 'bzip2', package: 'bzip2', why: 'unpacks what is compressed with bzip2' },
];
/** Needed only where base images are made here because no public registry answers. */
export const imageTools: readonly Tool[] = [
  {
    program: 'debootstrap',
    package: 'debootstrap',
    why: 'makes debian:bookworm-slim where no public registry answers',
  },
];

/** Needed by the tests alone: a program that runs in any root filesystem. */
export const testTools: readonly Tool[] = [
  { program: 'iptables-nft', package: 'iptables', why: 'a firewall beside that of the platform' },
  { program: 'busybox', package: 'busybox-static', why: 'what containers of the tests run' },
  { program: 'newuidmap', package: 'uidmap', why: 'an engine of an ordinary user' },
  { program: 'slirp4netns', package: 'slirp4netns', why: 'the network of such an engine' },
  { program: 'mkfs.ext4', package: 'e2fsprogs', why: 'disks that the tests fill and cut off' },
];

export function missingTools(processes: Processes, wanted: readonly Tool[]): Tool[] {
  return wanted.filter((tool) => processes.find(tool.program) === undefined);
}

function notePath(paths: Paths): string {
  return join(paths.data, 'packages.json');
}

export function installedPackages(paths: Paths): string[] {
  return JSON.parse(readIfExists(notePath(paths)) ?? '[]') as string[];
}

/** Installs packages; `onLine` hears one line for each. Throws with apt's own words. */
export async function installPackages(
  processes: Processes,
  paths: Paths,
  wanted: readonly Tool[],
  onLine: (line: string) => void,
): Promise<void> {
  if (wanted.length === 0) return;
  if (processes.find('apt-get') === undefined)
    throw new Error(
      `missing: ${wanted.map((tool) => tool.program).join(', ')}. This system has no apt-get: install ${wanted.map((tool) => tool.package).join(', ')} with its package manager`,
    );
  const environment = { ...(process.env as Record<string, string>), DEBIAN_FRONTEND: 'noninteractive' };
  const run = async (args: string[]): Promise<void> => {
    const output = await processes.run('apt-get', args, { env: environment });
    if (output.code !== 0)
      throw new Error(
        `apt-get ${args[0]} failed: ${output.stderr.trim().split('\n').slice(-5).join('\n') || output.stdout.trim().split('\n').slice(-5).join('\n')}`,
      );
  };
  for (const tool of wanted) onLine(`installing ${tool.package} (${tool.why})`);
  const names = wanted.map((tool) => tool.package);
  try {
    await run(['install', '-y', '-q', '--no-install-recommends', ...names]);
  } catch {
    await run(['update', '-q']);
    await run(['install', '-y', '-q', '--no-install-recommends', ...names]);
  }
  makeDirectory(paths.data, privateMode);
  writeFileAtomic(notePath(paths), JSON.stringify([...new Set([...installedPackages(paths), ...names])]), {
    sync: true,
    mode: 0o644,
  });
}

/** Puts a package's files below a directory, without installing it. False where it cannot be had. */
export async function unpackPackage(processes: Processes, name: string, directory: string): Promise<boolean> {
  if (processes.find('apt-get') === undefined || processes.find('dpkg-deb') === undefined) return false;
  const scratch = mkdtempSync(join(tmpdir(), 'tiphys-package-'));
  try {
    const script = 'cd "$1" && exec apt-get download -q "$2"';
    const fetched = await processes.run('sh', ['-c', script, 'sh', scratch, name]);
    const [file] = listDirectory(scratch);
    if (fetched.code !== 0 || file === undefined) return false;
    return (await processes.run('dpkg-deb', ['-x', join(scratch, file), directory])).code === 0;
  } finally {
    removeTree(scratch);
  }
}
