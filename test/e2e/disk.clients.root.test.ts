/** A full disk: clear errors, no process lost, and all is well again when there is space. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { createMachine, run } from './machine.ts';

function fill(path: string): void {
  const fd = openSync(path, 'w');
  const block = Buffer.alloc(64 * 1024);
  try {
    for (;;) writeSync(fd, block);
  } catch {
    /* full */
  } finally {
    closeSync(fd);
  }
}

test('a full disk', { timeout: 180_000 }, async (t) => {
  await using machine = createMachine();
  await using stack = new AsyncDisposableStack();
  assert.equal((await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', machine.home])).code, 0);
  stack.defer(async () => {
    await machine.tiphys(['down', '--purge']);
    await run('umount', ['-l', machine.home]);
  });
  assert.equal((await machine.tiphys(['up'])).code, 0);
  assert.equal((await machine.docker('pull', '-q', 'busybox')).code, 0);
  await machine.kube('run', 'stays', '--image=busybox', '--image-pull-policy=IfNotPresent', '--', 'sleep', '1000');
  await machine.kube('wait', '--for=condition=Ready', 'pod/stays', '--timeout=30s');
  const pids = [machine.pid('server'), machine.pid('node-1')];
  const ballast = `${machine.home}/ballast`;

  await t.test('a build that fills it fails, and what it wrote is gone', async () => {
    const context = dirname(
      machine.file('large/Dockerfile', 'FROM busybox\nRUN dd if=/dev/zero of=/b bs=1M count=200\n'),
    );
    const build = await machine.docker('build', '-t', 'large', context);
    assert.notEqual(build.code, 0);
    assert.match(build.stdout + build.stderr, /No space left on device|no space left on device/);
    await machine.until(
      'space',
      async () => (await run('df', ['--output=pcent', machine.home])).stdout,
      /\s[1-4]?\d%/,
      10_000,
    );
  });
  await t.test('writes are refused in words, what runs goes on', async () => {
    fill(ballast);
    const create = await machine.kubectl('create', 'configmap', 'refused', '--from-literal=a=1');
    assert.equal(create.code, 1);
    assert.match(create.stderr, /the store could not write: database or disk is full/);
    assert.match((await machine.docker('run', '--rm', 'busybox', 'true')).stderr, /no space left on device/);
    assert.match(await machine.kube('get', 'pods', '--no-headers'), /stays +1\/1 +Running/);
    assert.deepEqual([machine.pid('server'), machine.pid('node-1')], pids);
  });
  await t.test('with space again everything works', async () => {
    rmSync(ballast);
    await machine.until(
      'a write',
      async () => String((await machine.kubectl('create', 'configmap', 'taken', '--from-literal=a=1')).code),
      /^0$/,
    );
    assert.equal((await machine.docker('run', '--rm', 'busybox', 'echo', 'back')).stdout, 'back\n');
    // A kubelet that still counts the disk as full turns a Pod away; a controller makes another.
    assert.equal((await machine.docker('tag', 'busybox', 'kept:1')).code, 0);
    await machine.kube('create', 'deployment', 'new', '--image=kept:1', '--', 'sleep', '1000');
    await machine.kube('rollout', 'status', 'deployment/new', '--timeout=60s');
    assert.deepEqual([machine.pid('server'), machine.pid('node-1')], pids);
  });
  assert.equal((await machine.tiphys(['down'])).code, 0);
  assert.deepEqual(
    machine.leftovers().filter((entry) => entry !== `mount ${machine.home}`),
    [],
  );
});
