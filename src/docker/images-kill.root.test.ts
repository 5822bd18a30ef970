/** Stores of indexes whose process is killed at any moment: what is named is whole, and nothing that is not is kept. */
import assert from 'node:assert/strict';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { NameRecord } from '#content/image-records.ts';
import type { IndexRecord } from '#content/manifest.ts';
import { makeTestDirectory, openTestContent } from '#content/testing.ts';
import { realClock } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { testSeed } from '#os/test-seed.ts';
import { type Store, makeSite, makeStore, pushIndex } from './testing.ts';

const rounds = Number(process.env['TIPHYS_KILL_ROUNDS'] ?? 6);
const program = fileURLToPath(new URL('./images-kill.program.ts', import.meta.url));

/** Lets the program work for a while and kills it. Resolves to the number of steps that it had done. */
async function churn(workMs: number, words: string[]): Promise<number> {
  const options = process.execArgv.filter((argument) => !argument.startsWith('--test'));
  const child = linuxProcesses.spawn(process.execPath, [...options, program, ...words], {
    stdout: 'pipe',
    stderr: 'pipe',
    env: { PATH: process.env['PATH'] ?? '' },
  });
  const [out, errors] = [child.stdout, child.stderr];
  assert.ok(out !== undefined && errors !== undefined);
  let told = '';
  let wrong = '';
  errors.on('data', (part: Buffer) => {
    wrong += part.toString();
  });
  out.on('data', (part: Buffer) => {
    if (told === '') void realClock.sleep(workMs).then(() => linuxProcesses.kill(child.pid, 'SIGKILL'));
    told += part.toString();
  });
  await child.exit;
  assert.equal(wrong.includes('Error'), false, wrong);
  assert.ok(told.startsWith('!'), 'it did not start');
  return told.length - 1;
}

function checkStore({ content, records }: Store): void {
  for (const table of ['names', 'repo-digests'])
    for (const [name, { imageId, index }] of content.records.entries<NameRecord>(table)) {
      assert.ok(records.get(imageId) !== undefined, `${name} has its image`);
      if (index === undefined) continue;
      const known = records.index(index);
      assert.ok(known !== undefined && content.blobs.has(index), `${name} has its index`);
      assert.equal(records.imagesOf(known)[0]?.id, imageId, `${name} stands for the default image`);
    }
  const shown = new Set(records.listShown().map(({ id }) => id));
  for (const record of records.list()) {
    const blobs = [record.id, record.manifestDigest, ...record.layers.map(({ digest }) => digest)];
    for (const digest of blobs) assert.ok(content.blobs.has(digest), `${record.id} has ${digest}`);
    assert.ok(shown.has(record.id) || records.indexesOf(record.id).length > 0, `${record.id} is seen, or in an index`);
  }
  for (const [digest, { manifests }] of content.records.entries<IndexRecord>('indexes'))
    for (const entry of manifests)
      for (const blob of entry.content?.blobs ?? []) assert.ok(content.blobs.has(blob), `${digest} has ${blob}`);
}

test(`killed while it pulls, loads, pushes and removes indexes, the store is whole (${rounds} rounds)`, async (t) => {
  const seed = testSeed();
  const random = new SimRandom(seed);
  const site = await makeSite(t);
  for (const path of ['x', 'y', 'z']) await pushIndex(site, path);
  await site.images.pull(`${site.domain}/z:1`);
  await site.images.tag(`${site.domain}/z:1`, 'loaded:1');
  const archive = join(makeTestDirectory(t, 'archive'), 'z.tar');
  await pipeline(Readable.from(await site.images.save(['loaded:1'])), createWriteStream(archive));
  const root = makeTestDirectory(t, 'killed');
  let steps = 0;
  for (let round = 0; round < rounds; round++) {
    const words = [root, site.domain, archive, String(seed + round)];
    steps += await churn(Math.floor(random.float() * 500), words);
    const content = await openTestContent(t, root);
    const store = await makeStore(t, {}, content);
    await content.collect({ evenYoung: true });
    checkStore(store);
    if (round === rounds - 1) {
      for (const { id } of store.images.list()) await store.images.remove(id, { force: true });
      await content.collect({ evenYoung: true });
      assert.deepEqual([store.records.list(), [...content.blobs.list()]], [[], []]);
      assert.deepEqual([...content.records.entries('indexes')], []);
    }
    await content.close();
  }
  t.diagnostic(`${steps} steps in ${rounds} rounds`);
  // What was pushed is whole as well.
  for (const tag of site.registry.repositories.tags('pushed')) {
    const digest = site.registry.repositories.resolve('pushed', tag);
    assert.ok(digest !== undefined && site.content.blobs.has(digest));
  }
});
