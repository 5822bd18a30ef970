/**
 * What every store of blobs must do (`blobs.ts`). What is seen is whole: at each moment, whatever fails or is killed, a
 * digest that is listed has a file whose bytes have that digest. An implementation's test calls `runBlobsSuite`.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { realClock, realRandom } from '#os/clock.real.ts';
import { SimClock, SimRandom } from '#os/clock.sim.ts';
import type { Clock } from '#os/clock.ts';
import { testSeed } from '#os/test-seed.ts';
import { giveWay } from '#os/turn.ts';
import { UploadGoneError, type Blobs, type Upload, type UploadOwner } from './blobs.ts';
import { contentYouthMs, uploadIdleMs } from './limits.ts';
import { bytesOf, makeTestDirectory, type TestScope } from './testing.ts';

export interface BlobsBench {
  /** What a process finds in the directory when it starts. */
  open(root: string, clock: Clock): Blobs;
  /** A directory on a disk of that size; without it nothing is shown about full disks. */
  makeSmallDisk?(scope: TestScope, sizeBytes: number): Promise<string>;
}

const owner: UploadOwner = { user: 'ann', repository: 'ann/x' };
const digestOf = (bytes: string | Uint8Array, algorithm = 'sha256'): string =>
  `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;

/** Every blob that is listed is there and has its digest. */
function checkWhole(blobs: Blobs): void {
  for (const [digest, sizeBytes] of blobs.list()) {
    const bytes = readFileSync(blobs.path(digest));
    assert.deepEqual([digestOf(bytes, digest.split(':')[0]), bytes.length], [digest, sizeBytes]);
  }
}

const uploadsIn = (root: string): string[] => readdirSync(join(root, 'uploads'));

export function runBlobsSuite(bench: BlobsBench): void {
  const blobTest = (name: string, run: (blobs: Blobs, root: string, scope: TestScope) => Promise<void>): void => {
    test(name, async (t) => {
      const root = makeTestDirectory(t, 'blobs');
      const blobs = bench.open(root, realClock);
      await run(blobs, root, t);
      checkWhole(blobs);
    });
  };

  describeWriting(blobTest);
  describeUploads(blobTest, bench);
  describeChanges(blobTest, bench);
  describeDeath(blobTest, bench);
  describeFullDisk(bench);
}

type BlobTest = (name: string, run: (blobs: Blobs, root: string, scope: TestScope) => Promise<void>) => void;

function describeWriting(blobTest: BlobTest): void {
  blobTest('what was written is read, whole and in ranges; written again it is the same', async (blobs, root) => {
    const digest = digestOf('hello world');
    assert.deepEqual([blobs.has(digest), blobs.size(digest)], [false, undefined]);
    for (const _round of [1, 2])
      assert.deepEqual(await blobs.write(bytesOf('hello ', 'world'), { digest, sizeBytes: 11 }), {
        digest,
        sizeBytes: 11,
      });
    assert.equal(await blobs.writeBytes(Buffer.from('hello world')), digest);
    assert.deepEqual([blobs.has(digest), blobs.size(digest), [...blobs.list()]], [true, 11, [[digest, 11]]]);
    assert.equal((await blobs.readBytes(digest, 11)).toString(), 'hello world');
    assert.equal(Buffer.concat(await blobs.read(digest, { start: 6, end: 8 }).toArray()).toString(), 'wor');
    await assert.rejects(blobs.readBytes(digest, 10), /over the bound/);
    await assert.rejects(blobs.readBytes(digestOf('none'), 10), /not found/);
    assert.deepEqual(uploadsIn(root), []);
  });

  blobTest('bytes that do not match what was announced are not published, and leave nothing', async (blobs, root) => {
    const wrong: [string, object, number | undefined, RegExp][] = [
      ['hello', { digest: digestOf('other') }, undefined, /unexpected commit digest/],
      ['hello', { digest: digestOf('hello'), sizeBytes: 9 }, undefined, /unexpected commit size/],
      ['hello', { digest: digestOf('hello'), sizeBytes: 3 }, undefined, /longer than/],
      ['hello', { digest: digestOf('hello') }, 4, /longer than/],
    ];
    for (const [text, expected, bytesMax, error] of wrong)
      await assert.rejects(blobs.write(bytesOf(text), expected, bytesMax), error);
    assert.deepEqual([[...blobs.list()], uploadsIn(root)], [[], []]);
  });

  blobTest('a digest that is none never becomes a path', async (blobs, root) => {
    writeFileSync(join(root, 'file'), 'x');
    for (const digest of ['sha256:../../x', 'sha256:', 'x', `md5:${'a'.repeat(32)}`, `sha256:${'A'.repeat(64)}`]) {
      assert.throws(() => blobs.path(digest), /invalid digest/);
      assert.throws(() => blobs.read(digest), /invalid digest/);
      await assert.rejects(blobs.adopt(join(root, 'file'), digest, 1), /invalid digest/);
      await assert.rejects(blobs.remove(digest), /invalid digest/);
    }
    assert.ok(existsSync(join(root, 'file')));
  });
}

function describeUploads(blobTest: BlobTest, bench: BlobsBench): void {
  blobTest(
    'an upload goes on where it stopped, also in another process, and only for its owner',
    async (blobs, root) => {
      const first = await blobs.startUpload(owner);
      await first.append(bytesOf('hello '));
      const second = bench.open(root, realClock);
      assert.equal(second.upload(first.id, { ...owner, user: 'eve' }), undefined);
      assert.equal(second.upload(first.id, { ...owner, repository: 'ann/y' }), undefined);
      assert.equal(second.upload('../../etc/passwd', owner), undefined);
      const upload = second.upload(first.id, owner)!;
      assert.equal(upload.offset, 6);
      await upload.append(bytesOf('world'));
      assert.equal((await upload.finish({ digest: digestOf('hello world') })).sizeBytes, 11);
      assert.equal(second.upload(first.id, owner), undefined);
      checkWhole(second);
    },
  );

  blobTest('a source that fails leaves the upload at a known offset', async (blobs) => {
    const upload = await blobs.startUpload(owner);
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('abc');
      throw new Error('connection lost');
    }
    await assert.rejects(upload.append(failing()), /connection lost/);
    assert.equal(upload.offset, 3);
    await upload.append(bytesOf('def'));
    assert.equal((await upload.finish({})).digest, digestOf('abcdef'));
  });

  blobTest('calls on one upload do not overlap; once it is finished or given up, it is gone', async (blobs) => {
    const upload = await blobs.startUpload(owner);
    await Promise.all(['a', 'b', 'c'].map((letter) => upload.append(bytesOf(letter, letter))));
    const ended = await Promise.allSettled([
      upload.finish({ algorithm: 'sha512' }),
      upload.append(bytesOf('late')),
      upload.finish({}),
    ]);
    assert.deepEqual(
      ended.map((end) => (end.status === 'fulfilled' ? end.value : end.reason instanceof UploadGoneError)),
      [{ digest: digestOf('aabbcc', 'sha512'), sizeBytes: 6 }, true, true],
    );
    await upload.cancel();
    assert.ok(blobs.has(digestOf('aabbcc', 'sha512')), 'giving up what is finished is nothing');
    const given = await blobs.startUpload(owner);
    await Promise.all([given.cancel(), given.cancel()]);
    await assert.rejects(given.append(bytesOf('x')), UploadGoneError);
    assert.equal(blobs.upload(given.id, owner), undefined);
  });

  blobTest(
    'an upload that does not match its digest is gone; one of another size waits for the rest',
    async (blobs) => {
      const [wrong, short] = [await blobs.startUpload(owner), await blobs.startUpload(owner)];
      await wrong.append(bytesOf('hello'));
      await assert.rejects(wrong.finish({ digest: digestOf('other') }), /unexpected commit digest/);
      assert.equal(blobs.upload(wrong.id, owner), undefined);
      await short.append(bytesOf('hel'));
      await assert.rejects(short.finish({ digest: digestOf('hello'), sizeBytes: 5 }), /unexpected commit size/);
      await blobs.upload(short.id, owner)!.append(bytesOf('lo'));
      assert.equal((await short.finish({ digest: digestOf('hello'), sizeBytes: 5 })).sizeBytes, 5);
    },
  );
}

function describeChanges(blobTest: BlobTest, bench: BlobsBench): void {
  blobTest('many who bring one blob at once all have it', async (blobs, root) => {
    const digest = digestOf('shared');
    const adopt = async (): Promise<string> => {
      const path = blobs.scratchPath();
      writeFileSync(path, 'shared');
      await blobs.adopt(path, digest, 6);
      return digest;
    };
    const write = async (): Promise<string> => (await blobs.write(bytesOf('sha', 'red'), { digest })).digest;
    const bringers = Array.from({ length: 12 }, (_, i) =>
      i % 3 === 0 ? adopt() : i % 3 === 1 ? write() : blobs.writeBytes(Buffer.from('shared')),
    );
    assert.deepEqual(new Set(await Promise.all(bringers)), new Set([digest]));
    assert.deepEqual([[...blobs.list()], uploadsIn(root)], [[[digest, 6]], []]);
  });

  blobTest('one that is being brought again is young at once, so that no collector takes it', async (blobs) => {
    const digest = digestOf('shared');
    const path = blobs.scratchPath();
    writeFileSync(path, 'shared');
    const adopted = blobs.adopt(path, digest, 6);
    assert.ok(blobs.isYoung(digest));
    await adopted;
    assert.ok(blobs.isYoung(digest));
  });

  blobTest('bringing and removing one blob at once never leaves one listed that is gone', async (blobs) => {
    const random = new SimRandom(testSeed());
    const digest = digestOf('shared');
    for (let round = 0; round < 300; round++) {
      await blobs.write(bytesOf('shared'));
      const path = blobs.scratchPath();
      writeFileSync(path, 'shared');
      const adopted = blobs.adopt(path, digest, 6);
      for (let turns = Math.floor(random.float() * 8); turns > 0; turns--) await giveWay();
      await Promise.all([adopted, blobs.remove(digest)]);
      assert.equal(blobs.has(digest), existsSync(blobs.path(digest)), `round ${round}`);
    }
  });

  blobTest(
    'who is reading a blob reads it to its end when it is removed; removing it again is nothing',
    async (blobs) => {
      const bytes = Buffer.alloc(3 << 20, 'x');
      const { digest } = await blobs.write(bytesOf(bytes));
      const reading = blobs.read(digest)[Symbol.asyncIterator]();
      let length = ((await reading.next()) as IteratorResult<Buffer>).value.length as number;
      await Promise.all([blobs.remove(digest), blobs.remove(digest)]);
      assert.deepEqual([blobs.has(digest), existsSync(blobs.path(digest))], [false, false]);
      await assert.rejects(blobs.readBytes(digest, bytes.length), /not found/);
      for (let next = await reading.next(); next.done !== true; next = await reading.next())
        length += (next.value as Buffer).length;
      assert.equal(length, bytes.length);
    },
  );

  test('youth and idle uploads end with time', async (t) => {
    const clock = new SimClock(0);
    const root = makeTestDirectory(t, 'blobs');
    const blobs = bench.open(root, clock);
    const digest = await blobs.writeBytes(Buffer.from('x'));
    const upload = await blobs.startUpload(owner);
    await upload.append(bytesOf('half'));
    await clock.advance(contentYouthMs - 1);
    assert.ok(blobs.isYoung(digest));
    await clock.advance(1);
    assert.ok(!blobs.isYoung(digest));
    assert.ok(blobs.upload(upload.id, owner) !== undefined);
    await clock.advance(uploadIdleMs);
    await blobs.removeStaleUploads();
    assert.deepEqual([blobs.upload(upload.id, owner), uploadsIn(root), blobs.has(digest)], [undefined, [], true]);
  });
}

function describeDeath(blobTest: BlobTest, bench: BlobsBench): void {
  /** What the next process finds when this one dies now. */
  const dieIn = (root: string, scope: TestScope): { blobs: Blobs; root: string } => {
    const copy = join(makeTestDirectory(scope, 'blobs'), 'copy');
    // Names go while they are copied: the threads of this process work on.
    for (let tries = 0; ; tries++) {
      try {
        cpSync(root, copy, { recursive: true, force: true, preserveTimestamps: true });
        break;
      } catch (error) {
        if (tries === 20 || (error as { code?: string }).code !== 'ENOENT') throw error;
      }
    }
    return { blobs: bench.open(copy, realClock), root: copy };
  };

  blobTest(
    'killed at any moment of a write, it leaves the blob whole or none, and no scratch',
    async (blobs, root, t) => {
      const text = 'x'.repeat(100_000);
      const digest = digestOf(text);
      const seen = new Set<boolean>();
      const look = async (): Promise<void> => {
        const next = dieIn(root, t);
        checkWhole(next.blobs);
        await next.blobs.removeStaleUploads();
        assert.deepEqual(uploadsIn(next.root), []);
        seen.add(next.blobs.has(digest));
        await next.blobs.write(bytesOf(text), { digest });
        checkWhole(next.blobs);
      };
      async function* source(): AsyncGenerator<Uint8Array> {
        for (let at = 0; at < text.length; at += 40_000) {
          await look();
          yield Buffer.from(text.slice(at, at + 40_000));
        }
      }
      let isDone = false;
      const writing = blobs.write(source(), { digest }).finally(() => {
        isDone = true;
      });
      while (!isDone) {
        await look();
        await giveWay();
      }
      await writing;
      await look();
      assert.deepEqual([seen.has(false), seen.has(true)], [true, true]);
    },
  );

  blobTest('killed at any moment of an upload, it goes on from its offset', async (blobs, root, t) => {
    const upload = await blobs.startUpload(owner);
    const goOn = async (): Promise<void> => {
      const next = dieIn(root, t);
      const kept: Upload = next.blobs.upload(upload.id, owner)!;
      assert.equal(kept.offset, statSync(join(next.root, 'uploads', upload.id)).size);
      await kept.append(bytesOf('0123456789'.slice(kept.offset)));
      await kept.finish({ digest: digestOf('0123456789'), sizeBytes: 10 });
      checkWhole(next.blobs);
    };
    async function* source(): AsyncGenerator<Uint8Array> {
      for (const part of ['01', '234', '5']) {
        await goOn();
        yield Buffer.from(part);
      }
      await goOn();
    }
    await upload.append(source());
    await goOn();
    await upload.cancel();
  });
}

function describeFullDisk(bench: BlobsBench): void {
  const { makeSmallDisk } = bench;
  if (makeSmallDisk === undefined) return;
  test('a full disk is told as such, leaves nothing, and is forgotten once there is room', async (t) => {
    const root = await makeSmallDisk(t, 1 << 20);
    const blobs = bench.open(root, realClock);
    const kept = Buffer.from(realRandom.bytes(600 << 10));
    const large = Buffer.from(realRandom.bytes(700 << 10));
    const { digest } = await blobs.write(bytesOf(kept));
    for (const writing of [
      () => blobs.write(bytesOf(large.subarray(0, 300_000), large.subarray(300_000))),
      () => blobs.writeBytes(large),
    ])
      await assert.rejects(writing(), { code: 'ENOSPC' });
    assert.deepEqual([[...blobs.list()], uploadsIn(root)], [[[digest, kept.length]], []]);
    const upload = await blobs.startUpload(owner);
    await upload.append(bytesOf(large.subarray(0, 100_000)));
    await assert.rejects(upload.append(bytesOf(large.subarray(100_000))), { code: 'ENOSPC' });
    assert.equal(upload.offset, 100_000);
    assert.equal(statSync(join(root, 'uploads', upload.id)).size, 100_000, 'nothing that is not counted');
    await blobs.remove(digest);
    await upload.append(bytesOf(large.subarray(100_000)));
    await upload.finish({ digest: digestOf(large), sizeBytes: large.length });
    checkWhole(blobs);
  });
}
