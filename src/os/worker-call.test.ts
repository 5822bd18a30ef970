import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startSyscallWorker } from './worker-call.linux.ts';

const nowhere = { target: '/nowhere/at/all' };

test('what a worker that is closed was asked for is answered or fails, and the next one answers', async () => {
  const worker = startSyscallWorker('test');
  await worker.call('unmount', nowhere);
  // More than is done until the thread is told; those that it has done are answered.
  const asked = Array.from({ length: 1_000 }, () => worker.call('unmount', nowhere));
  const settled = Promise.allSettled(asked);
  const closing = worker.close();
  await worker.call('unmount', nowhere);
  for (const each of await settled)
    if (each.status === 'rejected') assert.match(String(each.reason), /worker test (?:was closed|ended)/);
  await closing;
  await worker.close();
});

test('a process ends although a call came while its worker was closed', async () => {
  const program = `
    import { startSyscallWorker } from ${JSON.stringify(fileURLToPath(new URL('./worker-call.linux.ts', import.meta.url)))};
    const worker = startSyscallWorker('test');
    await worker.call('unmount', ${JSON.stringify(nowhere)});
    worker.call('unmount', ${JSON.stringify(nowhere)}).catch(() => {});
    const closing = worker.close();
    await worker.call('unmount', ${JSON.stringify(nowhere)});
    await closing;`;
  const { promise, resolve } = Promise.withResolvers<string>();
  const words = ['--experimental-ffi', '--no-warnings', '--input-type=module-typescript', '-e', program];
  execFile(process.execPath, words, { timeout: 50_000 }, (error) => resolve(error?.message ?? 'ended'));
  assert.equal(await promise, 'ended');
});
