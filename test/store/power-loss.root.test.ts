/**
 * Power loss: the store's file lies on a file system of its own, on a loop device. When the writer has been stopped,
 * what reached the device is copied; what was only in memory is not. The copy is mounted and checked. The same without
 * syncs must fail, or this test would prove nothing.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { checkStore, parseAcknowledged } from './check.ts';

const run = (command: string, ...args: string[]): void => {
  execFileSync(command, args, { stdio: 'pipe' });
};
const acknowledgementsWanted = 400;

/** Nothing but a sync writes within the test's time: the journal's own timer is far away. */
function mount(image: string, at: string): void {
  run('mount', '-o', 'loop,commit=300', image, at);
}

async function losePower(dir: string, synchronous: 'FULL' | 'OFF'): Promise<string[]> {
  const image = join(dir, 'disk.img');
  const copy = join(dir, 'copy.img');
  const live = join(dir, 'live');
  const after = join(dir, 'after');
  mkdirSync(live);
  mkdirSync(after);
  run('truncate', '-s', '96M', image);
  run('mkfs.ext4', '-q', '-F', image);
  await using undo = new AsyncDisposableStack();
  mount(image, live);
  undo.defer(() => run('umount', live));
  run('sync', '-f', live);
  const child = spawn(process.execPath, [join(import.meta.dirname, 'writer.ts'), join(live, 's.db'), synchronous], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  undo.defer(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null)
      await new Promise((resolve) => child.once('close', resolve));
  });
  let output = '';
  child.stdout.setEncoding('utf8');
  await new Promise<void>((resolve) =>
    child.stdout.on('data', (text: string) => {
      output += text;
      if (output.split('\n').length > acknowledgementsWanted) {
        child.kill('SIGSTOP');
        resolve();
      }
    }),
  );
  run('cp', '--sparse=always', image, copy);
  mount(copy, after);
  undo.defer(() => run('umount', after));
  if (!existsSync(join(after, 's.db'))) return ['the file is not there'];
  return await checkStore(join(after, 's.db'), parseAcknowledged(output)).catch((error: unknown) => [
    `does not open: ${String(error)}`,
  ]);
}

async function inScratch<T>(use: (dir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'tiphys-power-'));
  try {
    return await use(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

it('power loss takes nothing that was acknowledged', async () => {
  assert.deepEqual(await inScratch((dir) => losePower(dir, 'FULL')), []);
});
it('the same finds losses when syncs are taken out', async () => {
  assert.notDeepEqual(await inScratch((dir) => losePower(dir, 'OFF')), []);
});
