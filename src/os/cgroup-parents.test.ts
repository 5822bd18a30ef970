import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { CgroupParents } from './cgroup-parents.ts';
import type { Cgroups } from './cgroups.ts';

/** A hierarchy in memory. */
function groups(...there: string[]): { cgroups: Cgroups; all: Set<string> } {
  const all = new Set(there);
  const cgroups = {
    create: (path: string) => {
      path
        .split('/')
        .filter(Boolean)
        .reduce((at, part) => {
          all.add(`${at}/${part}`);
          return `${at}/${part}`;
        }, '');
    },
    list: (path: string) =>
      [...all]
        .filter((other) => other.startsWith(`${path}/`) && !other.slice(path.length + 1).includes('/'))
        .map((other) => other.slice(path.length + 1)),
    remove: (path: string) => {
      for (const other of [...all]) if (other === path || other.startsWith(`${path}/`)) all.delete(other);
      return true;
    },
  } as unknown as Cgroups;
  return { cgroups, all };
}

function inDirectory(run: (directory: string) => void): void {
  const directory = mkdtempSync(`${tmpdir()}/parents-`);
  try {
    run(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('what was made goes with its last member, what was there stays', () =>
  inDirectory((directory) => {
    const { cgroups, all } = groups('/user');
    const parents = new CgroupParents(cgroups, directory);
    parents.enter('/user/a/b', '1');
    parents.enter('/user/a/b', '2');
    parents.enter('/user', '3');
    parents.leave('/user/a/b', '1');
    assert.ok(all.has('/user/a/b'));
    parents.leave('/user/a/b', '2');
    parents.leave('/user', '3');
    assert.deepEqual([...all], ['/user']);
  }));

test('a parent below another keeps that, and takes it along', () =>
  inDirectory((directory) => {
    const { cgroups, all } = groups();
    const parents = new CgroupParents(cgroups, directory);
    parents.enter('/a', '1');
    parents.enter('/a/b', '2');
    parents.leave('/a', '1');
    assert.deepEqual([...all], ['/a', '/a/b']);
    parents.leave('/a/b', '2');
    assert.deepEqual([...all], []);
  }));

test('another process takes everything away by the file', () =>
  inDirectory((directory) => {
    const { cgroups, all } = groups('/theirs');
    const parents = new CgroupParents(cgroups, directory);
    parents.enter('/theirs/x', '1');
    all.add('/theirs/x/1');
    all.add('/theirs/y');
    const later = new CgroupParents(cgroups, directory);
    assert.deepEqual(later.memberGroups(), ['/theirs/x/1']);
    assert.ok(later.removeAll());
    assert.deepEqual([...all], ['/theirs', '/theirs/y']);
  }));
