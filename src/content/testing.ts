/** A content store in a directory of its own for tests; closed and removed when the test ends. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createMounts } from '#os/mount.linux.ts';
import type { Mounts } from '#os/mount.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { Clock } from '#os/clock.ts';
import { silentLogger } from '#observe/log.ts';
import { openContent } from './content.ts';
import type { Content } from './content.ts';

export interface TestScope {
  after(run: () => Promise<void> | void): void;
}

export function makeTestDirectory(scope: TestScope, name: string): string {
  const directory = mkdtempSync(`/tmp/tiphys-${name}-`);
  scope.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A directory in which a test mounts: nothing is removed through a mount that stayed. Needs root. */
export function makeMountDirectory(scope: TestScope, name: string, mounts: Mounts): string {
  const directory = mkdtempSync(`/tmp/tiphys-${name}-`);
  scope.after(async () => {
    await mounts.unmountBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

/** A directory on a disk of its own, of that size. Needs root. */
export async function makeTestDisk(scope: TestScope, sizeBytes: number): Promise<string> {
  const mounts = createMounts();
  const directory = join(makeMountDirectory(scope, 'disk', mounts), 'disk');
  await mounts.mountTmpfs(directory, { sizeBytes });
  return directory;
}

export async function openTestContent(
  scope: TestScope,
  root = makeTestDirectory(scope, 'content'),
  clock: Clock = realClock,
): Promise<Content> {
  const content = await openContent({ root, clock, random: realRandom, log: silentLogger, processes: linuxProcesses });
  let isClosed = false;
  scope.after(async () => {
    if (!isClosed) {
      isClosed = true;
      // The test that closed it already, or broke it on purpose, has seen why.
      await content.close().catch(() => {});
    }
  });
  return content;
}

export async function* bytesOf(...parts: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part);
}
