import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { createMounts } from './mount.linux.ts';

const mounts = createMounts();

/** A tmpfs with another one in its directory `inner`. */
async function makePlace(t: TestContext): Promise<{ parent: string; target: string }> {
  const parent = mkdtempSync('/tmp/tiphys-mounts-');
  const target = `${parent}/inner`;
  t.after(async () => {
    await mounts.unmountBelow(parent);
    await mounts.removeTrees([parent]);
    assert.ok(!existsSync(parent));
  });
  await mounts.mountTmpfs(parent, {});
  await mounts.mountTmpfs(target, {});
  writeFileSync(`${parent}/outer`, '');
  writeFileSync(`${target}/file`, '');
  return { parent, target };
}

test('a copied mount namespace lacks one mount, has all others, and the host keeps what it had', async (t) => {
  const { parent, target } = await makePlace(t);
  const copied = await mounts.copyWithout({ target, parent });
  assert.ok(copied !== undefined);
  const seen = execFileSync('nsenter', [`--mount=${copied.path}`, 'ls', '-A', parent, target]).toString();
  assert.equal(seen, `${parent}:\ninner\nouter\n\n${target}:\n`);
  copied.close();
  assert.ok(existsSync(`${target}/file`));
  // The thread came home: what it mounts next is seen here.
  await mounts.unmount(target);
  assert.ok(!existsSync(`${target}/file`));
});

test('files, small trees and big ones are deleted in their order, and what is not there is no error', async (t) => {
  const { target } = await makePlace(t);
  for (let at = 0; at < 300; at++) {
    mkdirSync(`${target}/big/d${at % 7}`, { recursive: true });
    writeFileSync(`${target}/big/d${at % 7}/f${at}`, '');
  }
  mkdirSync(`${target}/small/below`, { recursive: true });
  const paths = ['file', 'none', 'big', 'small'].map((name) => `${target}/${name}`);
  await mounts.removeTrees(paths);
  assert.deepEqual(paths.filter(existsSync), []);
});
