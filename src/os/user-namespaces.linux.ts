/**
 * User namespaces, and network namespaces that belong to one, pinned by bind mounts (user_namespaces(7)). A thread of
 * ours cannot enter a user namespace; so a short-lived process makes each, and waits until it is pinned.
 */
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Mounts } from './mount.ts';
import type { Child, Processes } from './processes.ts';

/** `size` numbers from `inside` on are those from `outside` on. */
export interface IdRange {
  inside: number;
  outside: number;
  size: number;
}

export interface IdMaps {
  uids: readonly IdRange[];
  gids: readonly IdRange[];
}

export interface UserNamespaces {
  /** What is pinned at the path already is another's, and is hidden. */
  pinUser(path: string, maps: IdMaps): Promise<void>;
  /** A new network namespace that is the user namespace's. */
  pinNetwork(path: string, userNamespace: string): Promise<void>;
}

/** Says that it is there, and stays until its input ends. */
const waiter = ['sh', '-c', 'echo; read _'];

export function createUserNamespaces(processes: Processes, mounts: Mounts): UserNamespaces {
  const pin = async (path: string, words: string[], run: (pid: number) => Promise<void>): Promise<void> => {
    const child = processes.spawn(words[0] ?? '', words.slice(1), {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      stdin: 'pipe',
      stdout: 'fifo',
      stderr: 'fifo',
    });
    try {
      await whenReady(child, words);
      mkdirSync(dirname(path), { recursive: true });
      closeSync(openSync(path, 'w'));
      await run(child.pid);
    } finally {
      child.stdin?.end();
      await child.exit;
    }
  };
  return {
    pinUser: (path, maps) =>
      pin(path, ['unshare', '-U', ...waiter], async (pid) => {
        writeFileSync(`/proc/${pid}/uid_map`, mapText(maps.uids));
        writeFileSync(`/proc/${pid}/gid_map`, mapText(maps.gids));
        await mounts.bind({ source: `/proc/${pid}/ns/user`, target: path });
      }),
    pinNetwork: (path, userNamespace) =>
      pin(path, ['nsenter', `--user=${userNamespace}`, 'unshare', '-n', ...waiter], (pid) =>
        mounts.bind({ source: `/proc/${pid}/ns/net`, target: path }),
      ),
  };
}

async function whenReady(child: Child, words: string[]): Promise<void> {
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  child.stdout?.once('data', () => resolve(true));
  child.exit.then(
    () => resolve(false),
    () => resolve(false),
  );
  if (!(await promise)) throw new Error(`${words.slice(0, 4).join(' ')}: ${said.trim()}`);
}

function mapText(ranges: readonly IdRange[]): string {
  return ranges.map(({ inside, outside, size }) => `${inside} ${outside} ${size}\n`).join('');
}
