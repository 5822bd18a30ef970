import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { load } from 'js-yaml';
import type { TestJson } from '#base/testing.ts';
import { addContexts, removeContexts, renewContext } from './contexts.ts';
import type { Paths } from './paths.ts';

function inHome(run: (home: string, paths: Paths) => void): void {
  const top = mkdtempSync(join(tmpdir(), 'contexts-'));
  const paths: Paths = { home: top, data: join(top, 'data'), run: join(top, 'run') };
  mkdirSync(paths.run);
  writeFileSync(
    join(paths.run, 'admin.conf'),
    'clusters: [{name: tiphys, cluster: {server: "https://127.0.0.1:6443"}}]\nusers: [{name: tiphys, user: {}}]\ncontexts: [{name: tiphys, context: {cluster: tiphys, user: tiphys}}]\ncurrent-context: tiphys\n',
  );
  try {
    run(join(top, 'user'), paths);
  } finally {
    rmSync(top, { recursive: true, force: true });
  }
}
const users =
  "apiVersion: v1\nkind: Config\nclusters: [{name: work, cluster: {server: 'https://work'}}]\nusers: [{name: me, user: {token: t}}]\ncontexts: [{name: work, context: {cluster: work, user: me}}]\ncurrent-context: work\n";

test("contexts are added beside the user's own, the current one stays, and going leaves what was there", () => {
  inHome((home, paths) => {
    mkdirSync(join(home, '.kube'), { recursive: true });
    const config = join(home, '.kube/config');
    writeFileSync(config, users);
    assert.deepEqual(addContexts(home, paths), []);
    const added = load(readFileSync(config, 'utf8')) as TestJson;
    assert.equal(added['current-context'], 'work');
    assert.deepEqual(
      added.contexts.map((item: TestJson) => item.name),
      ['work', 'tiphys'],
    );
    addContexts(home, paths);
    assert.deepEqual(load(readFileSync(config, 'utf8')), added, 'adding again changes nothing');
    removeContexts(home, paths);
    assert.deepEqual(load(readFileSync(config, 'utf8')), load(users));
  });
});

test('a home without any configuration is left without any', () => {
  inHome((home, paths) => {
    addContexts(home, paths);
    assert.ok(existsSync(join(home, '.kube/config')));
    removeContexts(home, paths);
    assert.ok(!existsSync(join(home, '.kube/config')));
  });
});

test('a kubeconfig that is no YAML is left as it is, and said so', () => {
  inHome((home, paths) => {
    mkdirSync(join(home, '.kube'), { recursive: true });
    writeFileSync(join(home, '.kube/config'), '{{{');
    assert.match(addContexts(home, paths).join(), /not valid YAML/);
    assert.equal(readFileSync(join(home, '.kube/config'), 'utf8'), '{{{');
  });
});

test("a context of this instance is given other certificates, one of another instance's and none are left alone", () => {
  inHome((home, paths) => {
    const config = join(home, '.kube/config');
    renewContext(home, paths);
    assert.ok(!existsSync(config));
    addContexts(home, paths);
    const admin = readFileSync(join(paths.run, 'admin.conf'), 'utf8');
    writeFileSync(join(paths.run, 'admin.conf'), admin.replace('user: {}', 'user: {token: new}'));
    renewContext(home, paths);
    const renewed = readFileSync(config, 'utf8');
    assert.match(renewed, /token: new/);
    writeFileSync(join(paths.run, 'admin.conf'), admin.replace('127.0.0.1:6443', '127.0.0.1:6444'));
    renewContext(home, paths);
    assert.equal(readFileSync(config, 'utf8'), renewed);
  });
});
