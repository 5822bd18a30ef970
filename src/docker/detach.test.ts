import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { parseDetachKeys, watchDetachKeys } from './detach.ts';

async function type(...chunks: number[][]): Promise<{ bytes: number[]; detached: boolean }> {
  const input = new PassThrough();
  let detached = false;
  const bytes: number[] = [];
  const output = watchDetachKeys(input, parseDetachKeys(''), () => {
    detached = true;
  });
  output.on('data', (part: Buffer) => bytes.push(...part));
  for (const chunk of chunks) input.write(Buffer.from(chunk));
  input.end();
  await new Promise((resolve) => output.once('end', resolve));
  return { bytes, detached };
}

test('the sequence detaches also when it comes in two pieces, and is not handed on', async () => {
  assert.deepEqual(await type([65, 16], [17]), { bytes: [65], detached: true });
});

test('the first key alone goes on with what follows it', async () => {
  assert.deepEqual(await type([16, 65]), { bytes: [16, 65], detached: false });
  assert.deepEqual(await type([16, 16, 65]), { bytes: [16, 16, 65], detached: false });
});

test('other keys can be chosen, and nonsense is refused', () => {
  assert.deepEqual([...parseDetachKeys('ctrl-a,x')], [1, 120]);
  assert.throws(() => parseDetachKeys('ctrl-'), /Invalid detach keys/);
});
