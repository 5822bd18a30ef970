import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TarError } from './tar.ts';
import { readTar } from './tar-read.ts';
import { encodeTarFile, encodeTarHeader, encodeTarPadding, tarEnd } from './tar-write.ts';
import type { TarHeader } from './tar.ts';

async function* inChunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function readAll(
  bytes: Uint8Array,
  chunk = 100,
): Promise<{ header: TarHeader; text: string; extents: unknown }[]> {
  const out: { header: TarHeader; text: string; extents: unknown }[] = [];
  for await (const entry of readTar(inChunks(bytes, chunk))) {
    const parts: Uint8Array[] = [];
    for await (const part of entry.content) parts.push(Uint8Array.from(part));
    out.push({ header: entry.header, text: Buffer.concat(parts).toString(), extents: entry.extents });
  }
  return out;
}

/** A header block with any type letter, sealed. */
function rawBlock(letter: string, size: number, edit: (block: Buffer) => void = () => {}): Buffer {
  const block = Buffer.from(encodeTarHeader({ path: 'a' }));
  block.write(size.toString(8).padStart(11, '0'), 124, 'latin1');
  block[156] = letter.charCodeAt(0);
  edit(block);
  block.fill(0x20, 148, 156);
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
    'latin1',
  );
  return block;
}

test('what is written is read back, also long names, large numbers and extended attributes', async () => {
  const long = `${'d'.repeat(120)}/ü/file`;
  const archive = Buffer.concat([
    encodeTarHeader({
      path: 'dir',
      type: 'directory',
      mode: 0o1777,
      uid: 5_000_000,
      gid: 7,
      mtimeMs: 1_700_000_000_000,
    }),
    encodeTarFile({ path: long, mode: 0o4755, xattrs: { 'user.a': Buffer.from([0, 255]) } }, 'content'),
    encodeTarHeader({ path: 'link', type: 'symlink', linkTarget: 'x'.repeat(200) }),
    encodeTarHeader({ path: 'null', type: 'character', deviceMajor: 1, deviceMinor: 3 }),
    tarEnd,
  ]);
  for (const chunk of [1, 7, 512, 100_000]) {
    const [directory, file, link, device] = await readAll(archive, chunk);
    assert.deepEqual(
      [
        directory!.header.type,
        directory!.header.path,
        directory!.header.uid,
        directory!.header.mode,
        directory!.header.mtimeMs,
      ],
      ['directory', 'dir/', 5_000_000, 0o1777, 1_700_000_000_000],
    );
    assert.deepEqual([file!.header.path, file!.text, file!.header.mode], [long, 'content', 0o4755]);
    assert.deepEqual([...file!.header.xattrs['user.a']!], [0, 255]);
    assert.equal(link!.header.linkTarget, 'x'.repeat(200));
    assert.deepEqual(
      [device!.header.type, device!.header.deviceMajor, device!.header.deviceMinor],
      ['character', 1, 3],
    );
  }
});

test('a GNU long name applies to the next entry', async () => {
  const name = 'n'.repeat(150);
  const archive = Buffer.concat([
    rawBlock('L', 151),
    Buffer.from(`${name}\0`),
    encodeTarPadding(151),
    encodeTarFile({ path: 'short' }, 'x'),
    encodeTarFile({ path: 'next' }, 'y'),
    tarEnd,
  ]);
  assert.deepEqual(
    (await readAll(archive)).map((entry) => entry.header.path),
    [name, 'next'],
  );
});

test('an old GNU sparse file is handed out as extents', async () => {
  const block = rawBlock('S', 6, (bytes) => {
    bytes.fill(0, 345, 500);
    const put = (value: number, at: number): void => {
      bytes.write(value.toString(8).padStart(11, '0'), at, 'latin1');
    };
    put(1000, 386);
    put(6, 398);
    put(5000, 410);
    put(0, 422);
    put(5000, 483);
  });
  const [entry] = await readAll(Buffer.concat([block, Buffer.from('sparse'), encodeTarPadding(6), tarEnd]));
  assert.deepEqual(
    [entry!.header.sizeBytes, entry!.text, entry!.extents],
    [5000, 'sparse', [{ offset: 1000, length: 6 }]],
  );
});

test('content that nobody reads is skipped', async () => {
  const archive = Buffer.concat([
    encodeTarFile({ path: 'a' }, 'x'.repeat(3000)),
    encodeTarFile({ path: 'b' }, 'y'),
    tarEnd,
  ]);
  const names: string[] = [];
  for await (const { header } of readTar(inChunks(archive, 333))) names.push(header.path);
  assert.deepEqual(names, ['a', 'b']);
});

test('hostile archives end with an error and reserve no memory', async () => {
  const file = encodeTarFile({ path: 'a' }, 'content');
  const broken = Buffer.from(file);
  broken[0] = 0x62;
  await assert.rejects(readAll(broken), TarError, 'wrong checksum');
  await assert.rejects(readAll(file.subarray(0, 515)), /unexpected EOF/);
  await assert.rejects(readAll(file.subarray(0, 100)), /unexpected EOF/);
  await assert.rejects(readAll(rawBlock('x', 2 ** 31)), /header field too long/);
  await assert.rejects(
    readAll(
      rawBlock('0', 5, (block) => {
        block.write('99999999999', 124, 'latin1');
      }),
    ),
    TarError,
  );
  await assert.rejects(readAll(rawBlock('Z', 0)), /unhandled tar header type/);
  const record = (text: string): Buffer =>
    Buffer.concat([rawBlock('x', text.length), Buffer.from(text), encodeTarPadding(text.length), file]);
  await assert.rejects(readAll(record('999 path=a\n')), TarError);
  await assert.rejects(readAll(record('garbage garbage\n')), TarError);
  await assert.rejects(readAll(record('12 size=-99\n')), TarError);
  await assert.rejects(readAll(record('22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n')), TarError);
  await assert.rejects(
    readAll(record('25 GNU.sparse.numbytes=4\n')),
    /invalid tar header/,
    'a length without an offset',
  );
  const odd = '24 GNU.sparse.map=0,7,7\n22 GNU.sparse.size=7\n';
  await assert.rejects(readAll(record(odd)), /invalid tar header/, 'an offset without a length');
});

test('a sparse map that overlaps or does not add up is refused', async () => {
  const text = '31 GNU.sparse.map=0,100,50,100\n24 GNU.sparse.size=400\n';
  const archive = Buffer.concat([
    rawBlock('x', text.length),
    Buffer.from(text),
    encodeTarPadding(text.length),
    encodeTarFile({ path: 'a' }, 'x'.repeat(200)),
    tarEnd,
  ]);
  await assert.rejects(readAll(archive), /invalid (sparse map|tar header)/);
});

test('an archive that ends without its padding and its end mark is whole; one that ends in a file is not', async () => {
  const file = encodeTarFile({ path: 'a' }, 'content');
  for (const length of [512 + 7, 512 + 8, 1023, 1024])
    assert.deepEqual(
      (await readAll(file.subarray(0, length))).map(({ text }) => text),
      ['content'],
      `${length} bytes`,
    );
  for (const length of [512 + 6, 513, 511])
    await assert.rejects(readAll(file.subarray(0, length)), /unexpected EOF/, `${length} bytes`);
  // One block of zeros, and a long name whose padding is missing too.
  assert.equal((await readAll(Buffer.concat([file, Buffer.alloc(512)]))).length, 1);
});

test('names, link targets and attributes are bytes', async () => {
  const name = (text: string): string => `${text}\udce4`;
  const long = name(`${'d'.repeat(150)}/`);
  const [file, link, longFile] = await readAll(
    Buffer.concat([
      encodeTarFile({ path: name('f'), xattrs: { [`user.${name('x')}`]: Buffer.from('1') } }, 'x'),
      encodeTarHeader({ path: 'l', type: 'symlink', linkTarget: name('t') }),
      encodeTarFile({ path: long }, 'y'),
      tarEnd,
    ]),
  );
  assert.deepEqual(
    [file!.header.path, Object.keys(file!.header.xattrs), link!.header.linkTarget, longFile!.header.path],
    [name('f'), [`user.${name('x')}`], name('t'), long],
  );
  // As a program without PAX writes it.
  const raw = rawBlock('0', 0, (block) => {
    block.fill(0, 0, 100);
    Buffer.from([0x66, 0xe4]).copy(block);
  });
  assert.equal((await readAll(Buffer.concat([raw, tarEnd])))[0]!.header.path, name('f'));
});

test('times before 1970 are kept', async () => {
  const [entry] = await readAll(Buffer.concat([encodeTarFile({ path: 'old', mtimeMs: -86_400_000 }, ''), tarEnd]));
  assert.equal(entry!.header.mtimeMs, -86_400_000);
});
