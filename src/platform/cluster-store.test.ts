import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { checkEtcd, describeState } from './cluster-store.ts';
import { files, type Paths } from './paths.ts';

const withPaths = async (run: (paths: Paths) => Promise<void>): Promise<void> => {
  const data = mkdtempSync(join(tmpdir(), 'tiphys-cluster-store-'));
  try {
    await run({ home: undefined, data, run: data });
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
};

it('a cluster whose state lies in SQLite does not begin anew on an etcd', () =>
  withPaths(async (paths) => {
    writeFileSync(files.database(paths), '');
    await assert.rejects(checkEtcd(paths, undefined, { endpoints: ['http://127.0.0.1:1'] }), /tiphys migrate/);
  }));

it('an etcd that cannot be reached, or whose certificates cannot be read, is refused with the reason', () =>
  withPaths(async (paths) => {
    const endpoints = ['http://127.0.0.1:1'];
    await assert.rejects(checkEtcd(paths, undefined, { endpoints }), /127\.0\.0\.1:1: .*ECONNREFUSED/);
    await assert.rejects(checkEtcd(paths, undefined, { endpoints: ['127.0.0.1:2379'] }), /no endpoint of etcd/);
    await assert.rejects(checkEtcd(paths, undefined, { endpoints, certfile: '/x' }), /go together/);
    await assert.rejects(checkEtcd(paths, undefined, { endpoints, cafile: '/none' }), /--etcd-cafile: \/none/);
  }));

it('says where the state lies', () =>
  withPaths(async (paths) => {
    assert.equal(describeState(paths, undefined), files.database(paths));
    const at = { endpoints: ['https://a:2379', 'https://b:2379'], prefix: '/one' };
    assert.equal(describeState(paths, at), 'etcd https://a:2379, https://b:2379 below /one');
  }));
