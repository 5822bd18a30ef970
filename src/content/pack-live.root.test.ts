/** A tree that others change while it is packed leads nowhere else, holds nobody up, and what changed is told. */
import { it } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readTar } from '#base/tar-read.ts';
import { packLiveTree } from './pack-live.ts';

async function* bytesOf(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/** Entries and their texts; `meddle` is called once the first entry was packed. */
async function packed(root: string, meddle: () => void): Promise<{ found: Record<string, string>; changed: string[] }> {
  const changed: string[] = [];
  const parts: Uint8Array[] = [];
  for (const part of packLiveTree(root, { onChanged: (path) => changed.push(path) })) {
    // A part is only good until the next one is asked for.
    parts.push(Uint8Array.from(part));
    if (parts.length === 1) meddle();
  }
  const found: Record<string, string> = {};
  for await (const { header, content } of readTar(bytesOf(parts))) {
    let text = header.type === 'file' ? '' : `${header.type} ${header.linkTarget}`.trim();
    for await (const chunk of content) text += Buffer.from(chunk).toString();
    found[header.path] = text;
  }
  return { found, changed };
}

it('what becomes a link, a pipe or nothing while a tree is packed leads nowhere and holds nobody up', async () => {
  const top = mkdtempSync(join(tmpdir(), 'tiphys-live-'));
  try {
    const root = join(top, 'root');
    const outside = join(top, 'outside');
    for (const directory of [root, outside, join(root, 'directory'), join(root, 'kept')]) mkdirSync(directory);
    writeFileSync(join(outside, 'secret'), 'a secret');
    for (const name of ['file', 'gone', 'pipe', 'kept/other', 'directory/secret'])
      writeFileSync(join(root, name), 'own');
    const { found, changed } = await packed(root, () => {
      for (const name of ['file', 'gone', 'pipe']) rmSync(join(root, name));
      symlinkSync(join(outside, 'secret'), join(root, 'file'));
      execFileSync('mkfifo', [join(root, 'pipe')]);
      renameSync(join(root, 'directory'), join(root, 'away'));
      symlinkSync(outside, join(root, 'directory'));
    });
    assert.ok(!JSON.stringify(Object.values(found)).includes('a secret'));
    assert.deepEqual(found['file'], `symlink ${join(outside, 'secret')}`);
    assert.deepEqual(found['directory'], `symlink ${outside}`);
    assert.equal(found['pipe'], 'fifo');
    assert.equal(found['kept/other'], 'own');
    assert.equal(found['gone'], undefined);
    assert.ok(changed.includes(''), 'the directory itself');
  } finally {
    rmSync(top, { recursive: true });
  }
});

it('a file that grows or shrinks while it is read is told of, and the archive stays whole', async () => {
  const top = mkdtempSync(join(tmpdir(), 'tiphys-live-'));
  try {
    const size = 1 << 20;
    for (const name of ['a', 'b', 'still']) writeFileSync(join(top, name), Buffer.alloc(size, name));
    let count = 0;
    const changed: string[] = [];
    const parts: Uint8Array[] = [];
    for (const part of packLiveTree(top, { onChanged: (path) => changed.push(path) })) {
      parts.push(Uint8Array.from(part));
      count++;
      // Within the first file.
      if (count === 3) appendFileSync(join(top, 'a'), 'more');
      // Within the second one.
      if (count === 9) writeFileSync(join(top, 'b'), 'short');
    }
    const sizes: Record<string, number> = {};
    for await (const { header } of readTar(bytesOf(parts))) sizes[header.path] = header.sizeBytes;
    assert.deepEqual(sizes, { './': 0, a: size, b: size, still: size });
    assert.deepEqual(changed, ['a', 'b']);
  } finally {
    rmSync(top, { recursive: true });
  }
});
