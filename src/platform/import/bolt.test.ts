import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { readBolt, type BoltBucket } from './bolt.ts';
import { encodeBolt, type BoltTree } from './bolt.testing.ts';

function fileOf(t: TestContext, bytes: Uint8Array): string {
  const directory = mkdtempSync('/tmp/tiphys-bolt-');
  t.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(`${directory}/db`, bytes);
  return `${directory}/db`;
}

function treeOf(bucket: BoltBucket): BoltTree {
  return Object.fromEntries(
    [...bucket.entries()].map(({ key, value }) => [key, value?.toString() ?? treeOf(bucket.bucket(key)!)]),
  );
}

const tree: BoltTree = {
  empty: {},
  small: { a: '1' },
  large: Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`k${n}`, String(n).repeat(n === 4 ? 9000 : 3)])),
  deep: { er: { and: { deeper: { x: 'y' } } }, z: '' },
};

test('buckets in pages, in branches, over several pages and in their leaf are read', (t) => {
  const root = readBolt(fileOf(t, encodeBolt(tree)))!;
  assert.deepEqual(treeOf(root), tree);
  assert.equal(root.bucket('large')?.value('k7')?.toString(), '777');
  assert.equal(root.bucket('large')?.value('none'), undefined);
  assert.equal(root.value('large'), undefined);
  assert.equal(root.bucket('deep')?.bucket('z'), undefined);
});

test('where the newest root is torn, the one before counts', (t) => {
  const bytes = encodeBolt(tree);
  // Both roots lead to the same: the second's is mended, then the first is torn.
  bytes.copy(bytes, 4096, 0, 4096);
  bytes[80] = bytes[80]! ^ 1;
  assert.deepEqual(Object.keys(treeOf(readBolt(fileOf(t, bytes))!)).sort(), Object.keys(tree).sort());
});

test('what is no database, cut off or in a circle is refused', (t) => {
  const good = encodeBolt(tree);
  const circle = Buffer.from(good);
  // Every page is a branch to itself.
  for (let at = 8192; at < circle.length; at += 4096) {
    circle.writeUInt16LE(1, at + 8);
    circle.writeUInt16LE(1, at + 10);
    circle.writeBigUInt64LE(BigInt(at / 4096), at + 24);
  }
  for (const bytes of [Buffer.from('text'), Buffer.alloc(16_384), good.subarray(0, 8192), circle])
    assert.throws(() => treeOf(readBolt(fileOf(t, bytes))!), /cannot be read as a database of bbolt/);
  assert.equal(readBolt('/nowhere/db'), undefined);
});
