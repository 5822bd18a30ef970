import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { realClock, realRandom } from '#os/clock.real.ts';
import { openBlobs } from './blobs.ts';
import { bytesOf, makeTestDirectory } from './testing.ts';

const owner = { user: 'ann', repository: 'ann/x' };
const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;

test('a blob is published only when its digest and size are right', async (t) => {
  const root = makeTestDirectory(t, 'blobs');
  const blobs = openBlobs(root, realClock, realRandom);
  await assert.rejects(blobs.write(bytesOf('hello'), { digest: digestOf('other') }), /unexpected commit digest/);
  await assert.rejects(
    blobs.write(bytesOf('hello'), { digest: digestOf('hello'), sizeBytes: 9 }),
    /unexpected commit size/,
  );
  await assert.rejects(blobs.write(bytesOf('hello'), { sizeBytes: 3 }), /longer than/);
  assert.deepEqual(readdirSync(join(root, 'uploads')), []);
  assert.deepEqual(await blobs.write(bytesOf('hel', 'lo'), { digest: digestOf('hello'), sizeBytes: 5 }), {
    digest: digestOf('hello'),
    sizeBytes: 5,
  });
  assert.equal((await blobs.readBytes(digestOf('hello'), 10)).toString(), 'hello');
  await assert.rejects(blobs.readBytes(digestOf('hello'), 4), /over the bound/);
});

test('an upload goes on in another process where it stopped', async (t) => {
  const root = makeTestDirectory(t, 'blobs');
  const first = await openBlobs(root, realClock, realRandom).startUpload(owner);
  await first.append(bytesOf('hello '));
  const second = openBlobs(root, realClock, realRandom).upload(first.id, owner);
  assert.equal(second!.offset, 6);
  await second!.append(bytesOf('world'));
  assert.equal((await second!.finish({ digest: digestOf('hello world') })).sizeBytes, 11);
  assert.equal(openBlobs(root, realClock, realRandom).upload('../../etc/passwd', owner), undefined);
});

test('a source that fails in the middle leaves the upload at a known offset', async (t) => {
  const blobs = openBlobs(makeTestDirectory(t, 'blobs'), realClock, realRandom);
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

test('a digest that is none never becomes a path', (t) => {
  const blobs = openBlobs(makeTestDirectory(t, 'blobs'), realClock, realRandom);
  for (const digest of ['sha256:../../x', 'sha256:', 'x', `md5:${'a'.repeat(32)}`, `sha256:${'A'.repeat(64)}`])
    assert.throws(() => blobs.path(digest), /invalid digest/);
});
