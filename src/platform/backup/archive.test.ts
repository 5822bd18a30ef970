/** An archive gives back what was written, and is refused in words where it does not. */
import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { zstdCompressSync } from 'node:zlib';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import { backupPartBytes } from '../limits.ts';
import { readArchive, writeArchive, type ArchiveSink, type ArchiveSource } from './archive.ts';
import type { BackupHead } from './format.ts';
import { seal, type Key, type Lock } from './sealing.ts';

const head: BackupHead = {
  format: 1,
  version: '1',
  createdAt: '2026-01-01T00:00:00.000Z',
  nodes: ['a'],
  volumeDirectory: '/volumes',
  instance: {},
};

async function pair(): Promise<{ lock: Lock; key: Key }> {
  const identity = await generateX25519Identity();
  return { lock: { recipients: [await identityToRecipient(identity)] }, key: { identities: [identity] } };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function source(sections: Record<string, Buffer>): ArchiveSource {
  return {
    head,
    keys: '{"k":1}',
    sections: (async function* () {
      for (const [name, bytes] of Object.entries(sections)) yield { name, content: once(bytes) };
    })(),
    end: () => ({ revision: 7, keys: 3, volumes: [], images: [], leftOut: [] }),
  };
}

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/** Keeps what it is given; of sections of `short` it reads one chunk. */
class Kept implements ArchiveSink {
  readonly got = new Map<string, string>();
  readonly #short: string;
  constructor(short = '') {
    this.#short = short;
  }
  async head({ createdAt }: BackupHead): Promise<void> {
    this.got.set('head', createdAt);
  }
  async keys(text: string): Promise<void> {
    this.got.set('keys', text);
  }
  async section(name: string, content: AsyncIterable<Uint8Array>): Promise<void> {
    if (name === this.#short) {
      for await (const _chunk of content) break;
      this.got.set(name, 'short');
    } else this.got.set(name, (await bytesOf(content)).toString('latin1').slice(0, 20));
  }
}

const sections = {
  state: Buffer.from('the state'),
  images: Buffer.alloc(2 * backupPartBytes + 3, 'i'),
  'volumes/v1': Buffer.alloc(backupPartBytes, 'v'),
  nothing: Buffer.alloc(0),
};

/** An archive of these entries. */
async function archiveOf(lock: Lock, ...entries: [string, string][]): Promise<Buffer> {
  const tar = Buffer.concat([...entries.map(([path, text]) => encodeTarFile({ path }, text)), tarEnd]);
  return bytesOf(seal(once(zstdCompressSync(tar)), lock));
}

describe('an archive', () => {
  it('gives back its sections, also to who does not read them to their end', async () => {
    const { lock, key } = await pair();
    const file = await bytesOf(writeArchive(source(sections), lock));
    for (const short of ['', 'images']) {
      const kept = new Kept(short);
      const end = await readArchive(once(file), key, kept);
      assert.equal(end.revision, 7);
      assert.equal(end.sections['images']?.bytes, sections.images.length);
      assert.deepEqual(Object.fromEntries(kept.got), {
        head: head.createdAt,
        keys: '{"k":1}',
        state: 'the state',
        images: short === 'images' ? 'short' : 'i'.repeat(20),
        'volumes/v1': 'v'.repeat(20),
      });
    }
  });

  it('is refused with the number of a newer format', async () => {
    const { lock, key } = await pair();
    const file = await archiveOf(lock, ['backup.json', JSON.stringify({ ...head, format: 9 })]);
    const kept = new Kept();
    await assert.rejects(readArchive(once(file), key, kept), /newer version of Tiphys \(format 9; this one knows 1\)/);
    assert.equal(kept.got.size, 0, 'nothing was handed out');
  });

  it('is refused where something is missing, out of place, or not what its digest says', async () => {
    const { lock, key } = await pair();
    const first: [string, string] = ['backup.json', JSON.stringify(head)];
    const keys: [string, string] = ['keys.json', '{}'];
    const end = (sections: object): [string, string] => [
      'end.json',
      JSON.stringify({ revision: 1, keys: 1, sections }),
    ];
    const cases: [RegExp, [string, string][]][] = [
      [/keys\.json is missing/, [first, end({})]],
      [/cut off/, [first, keys]],
      [/cut off/, [first, keys, ['state/000001', 'x']]],
      [/out of place/, [first, keys, ['state/000002', 'x'], end({})]],
      [/state is not what was written/, [first, keys, ['state/000001', 'x'], end({})]],
      [/state is not what was written/, [first, keys, end({ state: { bytes: 1, sha256: 'x' } })]],
      [/state is not what/, [first, keys, ['state/000001', 'x'], end({ state: { bytes: 1, sha256: 'y' } })]],
      [/backup\.json is not what/, [['backup.json', '[]']]],
      [/end\.json is not what/, [first, keys, ['end.json', '{}']]],
    ];
    for (const [says, entries] of cases)
      await assert.rejects(readArchive(once(await archiveOf(lock, ...entries)), key, new Kept()), says);
    const strange = await bytesOf(seal(once(Buffer.from('no zstd at all')), lock));
    await assert.rejects(readArchive(once(strange), key, new Kept()), /does not hold what a backup holds/);
  });

  it('fails where its source does', async () => {
    const { lock } = await pair();
    const broken: ArchiveSource = {
      ...source({}),
      sections: (async function* () {
        yield { name: 'state', content: once(Buffer.from('x')) };
        throw new Error('the server broke off');
      })(),
    };
    await assert.rejects(bytesOf(writeArchive(broken, lock)), /the server broke off/);
  });
});
