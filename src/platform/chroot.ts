/**
 * Running in a chroot. A process that joins a mount namespace lands on the namespace's own root, not on the chroot of
 * whoever made it; so `exec` into a container started from a chroot would see the machine's files. Where `/` is not the
 * root of its mount namespace, the platform gets a mount namespace of its own whose root it is (pivot_root(2),
 * setns(2)), pinned in the run directory, and every process starts in it. Elsewhere nothing of this happens.
 */
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Processes } from '#os/processes.ts';
import type { Paths } from './paths.ts';

const pinTriesMax = 50;

function pinPath(paths: Paths): string {
  return join(paths.run, 'mount-namespace');
}

/** The pinned namespace, when this instance has one. */
export function mountNamespaceOf(paths: Paths): string | undefined {
  try {
    // A pinned namespace is a file of the kernel's nsfs: another device than the directory it lies in.
    return statSync(pinPath(paths)).dev !== statSync(paths.run).dev ? pinPath(paths) : undefined;
  } catch {
    return undefined;
  }
}

async function isChrooted(processes: Processes): Promise<boolean> {
  const here = statSync('/');
  const seen = await processes.run('nsenter', ['--mount=/proc/self/ns/mnt', '--', '/bin/stat', '-c', '%d:%i', '/']);
  return seen.code === 0 && seen.stdout.trim() !== `${here.dev}:${here.ino}`;
}

/** Makes the namespace when it is needed and not there. */
export async function ensureMountNamespace(paths: Paths, processes: Processes): Promise<void> {
  if (mountNamespaceOf(paths) !== undefined || !(await isChrooted(processes))) return;
  const pin = pinPath(paths);
  writeFileSync(pin, '');
  const run = async (file: string, args: string[], tries = 1): Promise<void> => {
    const output = await processes.run(file, args);
    if (output.code === 0) return;
    if (tries > 1 && output.stderr.includes('Invalid argument')) {
      await run(file, args, tries - 1);
      return;
    }
    throw new Error(`${file} ${args.join(' ')}: ${output.stderr.trim()}; Tiphys cannot run in this chroot`);
  };
  // Namespaces are pinned on private mounts only.
  await run('mount', ['--bind', paths.run, paths.run]);
  await run('mount', ['--make-private', paths.run]);
  // Inside: from the namespace's root, with the chroot as working directory, the chroot becomes the root and the
  // machine's files go out of sight. A namespace can be pinned only in one with a smaller number, and recent kernels
  // (6.18) give numbers out for each processor: another try lands on another one.
  await run(
    'unshare',
    [
      `--mount=${pin}`,
      '--propagation',
      'private',
      '--',
      'nsenter',
      '--mount=/proc/self/ns/mnt',
      '--wd=/',
      '--',
      '/bin/sh',
      '-c',
      'pivot_root . . && umount -l .',
    ],
    pinTriesMax,
  );
}
