/**
 * Listening on a unix socket path: takes over a stale one, never a live one; owner root, the group that is given or
 * root's, the mode given before anyone can connect.
 */
import { chmodSync, chownSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import type { Server } from 'node:net';
import { dirname } from 'node:path';

function isLive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

export async function openSocketPath(
  server: Server,
  path: string,
  options: { mode: number; groupId?: number },
): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  if (await isLive(path)) throw Object.assign(new Error(`another process listens on ${path}`), { code: 'EADDRINUSE' });
  rmSync(path, { force: true });
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } finally {
    process.umask(before);
  }
  chmodSync(path, options.mode);
  try {
    chownSync(path, 0, options.groupId ?? 0);
  } catch {
    /* not root: the owner alone uses it */
  }
}
