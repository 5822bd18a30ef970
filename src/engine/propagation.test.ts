import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import type { Mount } from './engine.ts';
import { checkPropagation, followOwnRoot, mountOf, parseMountInfo } from './propagation.ts';

const info = [
  '21 1 8:1 / / rw - ext4 /dev/a rw',
  '22 21 0:5 / /a\\040b rw shared:7 - tmpfs x rw',
  '23 22 0:6 / /a\\040b/slave rw master:7 - tmpfs y rw',
  '24 21 0:7 / /a\\040b rw - tmpfs z rw',
].join('\n');

test('the mount that a path lies on is the longest, and the last of two', () => {
  const mounts = parseMountInfo(info);
  assert.deepEqual(
    mounts.map((mount) => [mount.isShared, mount.isSlave]),
    [
      [false, false],
      [true, false],
      [false, true],
      [false, false],
    ],
  );
  assert.equal(mountOf('/ab', mounts)?.target, '/');
  assert.equal(mountOf('/a b/c', mounts), mounts[3]);
  assert.equal(mountOf('/a b/slave/x', mounts), mounts[2]);
});

test('a bind whose propagation cannot be is refused', () => {
  const bind = (propagation: NonNullable<Mount['propagation']>): Mount => ({
    type: 'bind',
    source: tmpdir(),
    target: '/t',
    readOnly: false,
    propagation,
  });
  const at =
    (flags: string): (() => string) =>
    () =>
      `1 0 8:1 / ${tmpdir()} rw ${flags}- ext4 x rw`;
  for (const propagation of ['rshared', 'shared', 'rslave', 'slave'] as const) {
    assert.throws(() => checkPropagation(bind(propagation), at('')), /is mounted on .* but it is not a shared/);
    checkPropagation(bind(propagation), at('shared:3 '));
  }
  checkPropagation(bind('rslave'), at('master:3 '));
  assert.throws(() => checkPropagation(bind('rshared'), at('master:3 ')), /not a shared mount/);
  checkPropagation(bind('rprivate'), at(''));
});

test("binds of the engine's own directory follow it, and a private one is refused", () => {
  const bind = (source: string, propagation?: NonNullable<Mount['propagation']>): Mount => ({
    type: 'bind',
    source,
    target: '/t',
    readOnly: false,
    ...(propagation === undefined ? {} : { propagation }),
  });
  const follow = (mount: Mount, flags = 'shared:7'): Mount['propagation'] =>
    followOwnRoot([mount], '/lib/engine', () => `21 1 8:1 / / rw ${flags} - ext4 /dev/a rw`)[0]!.propagation;
  for (const source of ['/lib/engine', '/lib/engine/volumes', '/lib', '/']) {
    assert.equal(follow(bind(source)), 'rslave', source);
    assert.equal(follow(bind(source), ''), undefined, source);
    assert.equal(follow(bind(source, 'rshared')), 'rshared', source);
    assert.throws(() => follow(bind(source, 'rprivate')), /must use either propagation mode/, source);
  }
  for (const source of ['/lib/engine2', '/opt']) assert.equal(follow(bind(source, 'rprivate')), 'rprivate', source);
});
