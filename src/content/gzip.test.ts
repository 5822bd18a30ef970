import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { SimRandom } from '#os/clock.sim.ts';
import { gzipParallel } from './gzip.ts';
import { gzipPieceBytes } from './limits.ts';

async function gzip(parts: Uint8Array[]): Promise<Buffer> {
  const out: Uint8Array[] = [];
  for await (const part of gzipParallel(parts, () => {})) out.push(part);
  return Buffer.concat(out);
}

const random = (count: number): Buffer => Buffer.from(new SimRandom(7).bytes(count));
const text = Buffer.from('a layer of text, and of text again\n'.repeat(200_000));

test('what was packed is unpacked by every reader, and is the same however it came in', async () => {
  for (const plain of [
    Buffer.alloc(0),
    Buffer.from('x'),
    text,
    random(3 * gzipPieceBytes + 5),
    Buffer.concat([text, random(2 * gzipPieceBytes), text]),
    Buffer.from(random(2 * gzipPieceBytes).toString('base64')),
    Buffer.alloc(gzipPieceBytes),
  ]) {
    const packed = await gzip([plain]);
    assert.ok(gunzipSync(packed).equals(plain));
    assert.ok(execFileSync('gzip', ['-dc'], { input: packed, maxBuffer: 2 ** 26 }).equals(plain));
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < plain.length; at += 70_001) pieces.push(plain.subarray(at, at + 70_001));
    assert.ok((await gzip(pieces)).equals(packed));
  }
});

test('what does not become smaller is stored, what does is deflated', async () => {
  const noise = random(4 * gzipPieceBytes);
  const packed = (await gzip([noise])).length;
  assert.ok(packed > noise.length && packed < noise.length * 1.001);
  assert.ok((await gzip([text])).length < text.length / 50);
  const letters = Buffer.from(noise.toString('base64'));
  assert.ok((await gzip([letters])).length < letters.length * 0.77);
});

test('an error of the source ends it', async () => {
  await assert.rejects(
    gzip(
      (function* () {
        yield text;
        throw new Error('cannot be read');
      })() as unknown as Uint8Array[],
    ),
    /cannot be read/,
  );
});
