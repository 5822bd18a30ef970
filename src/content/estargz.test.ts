/** eStargz layers: what a reader that knows the format finds, and what one finds that knows gzip alone. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import type { TestScope } from './testing.ts';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { findTable, packEstargz } from './estargz.ts';
import type { EstargzTotals } from './estargz.ts';
import { estargzChunkBytes, estargzHeldBytesMax } from './limits.ts';

interface Entry {
  name: string;
  type: string;
  size?: number;
  offset?: number;
  chunkOffset?: number;
  chunkSize?: number;
  chunkDigest?: string;
  digest?: string;
  linkName?: string;
  modtime?: string;
  mode?: number;
  xattrs?: Record<string, string>;
}

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

function scratch(t: TestScope): string {
  const directory = mkdtempSync(join(tmpdir(), 'estargz-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function* inPieces(bytes: Buffer, length: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function pack(
  t: TestScope,
  archive: Iterable<Uint8Array>,
  level?: number,
): Promise<{ blob: Buffer; plain: Buffer; totals: EstargzTotals; path: string }> {
  const directory = scratch(t);
  const out: Uint8Array[] = [];
  const plain: Uint8Array[] = [];
  let totals: EstargzTotals | undefined;
  const tablePath = join(directory, 'table');
  const options = {
    level,
    tablePath,
    onPlain: (piece: Uint8Array) => plain.push(piece),
    onEnd: (told: EstargzTotals) => (totals = told),
  };
  for await (const part of packEstargz(archive, options)) out.push(Buffer.from(part));
  assert.equal(existsSync(tablePath), false);
  const blob = Buffer.concat(out);
  const path = join(directory, 'blob');
  writeFileSync(path, blob);
  return { blob, plain: Buffer.concat(plain), totals: totals!, path };
}

const large = Buffer.alloc(2 * estargzChunkBytes + 1000, 'repeated ');
const whole = Buffer.alloc(estargzChunkBytes, 'x');
const archive = Buffer.concat([
  encodeTarHeader({ path: 'd', type: 'directory', mode: 0o755, uid: 1, mtimeMs: 1_000_000_400 }),
  encodeTarFile({ path: 'd/small', mode: 0o4711, xattrs: { 'user.a': Buffer.from('b') } }, 'content'),
  encodeTarFile({ path: 'd/empty' }, ''),
  encodeTarHeader({ path: 'd/link', type: 'symlink', linkTarget: 'small' }),
  encodeTarFile({ path: `${'long/'.repeat(50)}large` }, large),
  encodeTarFile({ path: 'whole' }, whole),
  encodeTarHeader({ path: 'name', type: 'link', linkTarget: 'd/small' }),
  tarEnd,
]);

test('a file is found by the table and read without the rest of the layer', async (t) => {
  const { blob, totals, path } = await pack(t, inPieces(archive, 100_000));
  const tableAt = await findTable(path);
  const tableArchive = gunzipSync(blob.subarray(tableAt));
  assert.equal(tableArchive.toString('latin1', 0, 17), 'stargz.index.json');
  const length = Number.parseInt(tableArchive.toString('latin1', 124, 136), 8);
  const table = tableArchive.subarray(512, 512 + length);
  assert.equal(sha256(table), totals.tableDigest);
  const { version, entries } = JSON.parse(table.toString()) as { version: number; entries: Entry[] };
  assert.equal(version, 1);
  const starts = [...new Set(entries.flatMap(({ offset }) => offset ?? [])), tableAt!].sort((a, b) => a - b);
  const read = (name: string): Buffer => {
    const chunks = entries.filter((entry) => entry.name === name);
    const size = chunks[0]?.size ?? 0;
    return Buffer.concat(
      chunks
        .filter(({ offset }) => offset !== undefined)
        .map(({ offset, chunkOffset = 0, chunkSize = size - chunkOffset, chunkDigest }) => {
          const end = starts.find((each) => each > offset!);
          const bytes = gunzipSync(blob.subarray(offset, end)).subarray(0, chunkSize);
          assert.equal(sha256(bytes), chunkDigest);
          return bytes;
        }),
    );
  };
  assert.equal(read('d/small').toString(), 'content');
  assert.equal(read('d/empty').length, 0);
  assert.ok(read(`${'long/'.repeat(50)}large`).equals(large));
  assert.ok(read('whole').equals(whole));
  const { mode, xattrs, digest } = entries.find(({ name }) => name === 'd/small')!;
  assert.deepEqual([mode, xattrs, digest], [0o4711, { 'user.a': 'Yg==' }, sha256(Buffer.from('content'))]);
  assert.equal(entries[0]?.modtime, '1970-01-12T13:46:40Z');
  assert.deepEqual(
    entries.map(({ type }) => type),
    ['dir', 'reg', 'reg', 'symlink', 'reg', 'chunk', 'chunk', 'reg', 'hardlink'],
  );
});

test('a reader of gzip finds the archive byte for byte, and the table behind its end', async (t) => {
  const { blob, plain, totals } = await pack(t, [archive]);
  const expanded = gunzipSync(blob);
  assert.ok(expanded.subarray(0, archive.length).equals(archive));
  assert.ok(expanded.equals(plain));
  assert.equal(totals.expandedBytes, expanded.length);
});

test('the blob depends on the bytes of the archive alone', async (t) => {
  const one = await pack(t, [archive]);
  for (const length of [9_999, 70_000]) assert.ok((await pack(t, inPieces(archive, length))).blob.equals(one.blob));
  assert.ok((await pack(t, [archive], 9)).blob.length < one.blob.length);
});

test('what cannot be eStargz is refused, and what is none is not taken for it', async (t) => {
  const own = Buffer.concat([encodeTarFile({ path: './stargz.index.json' }, '{}'), tarEnd]);
  await assert.rejects(pack(t, [own]), /stargz.index.json cannot become an eStargz layer/);
  const zeros = Array.from({ length: estargzHeldBytesMax / (1 << 20) + 1 }, () => Buffer.alloc(1 << 20));
  await assert.rejects(pack(t, [archive, ...zeros]), /bytes of no entry/);
  const { path, blob } = await pack(t, [tarEnd]);
  assert.equal(typeof (await findTable(path)), 'number');
  writeFileSync(path, blob.subarray(0, -1));
  assert.equal(await findTable(path), undefined);
  writeFileSync(path, 'short');
  assert.equal(await findTable(path), undefined);
});
