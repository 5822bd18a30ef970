import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { open } from 'node:fs/promises';
import { openRecords } from './records.ts';
import type { JournalFile } from './records.ts';
import { makeTestDirectory } from './testing.ts';

test('what was committed is there after opening again, and removals too', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  const records = await openRecords(path);
  await Promise.all([
    records.commit([{ table: 'a', key: 'x', value: 1 }]),
    records.commit([
      { table: 'a', key: 'y', value: { deep: [1] } },
      { table: 'b', key: 'x', value: 'z' },
    ]),
  ]);
  await records.commit([{ table: 'a', key: 'x', value: undefined }]);
  await records.close();
  const again = await openRecords(path);
  assert.equal(again.get('a', 'x'), undefined);
  assert.deepEqual(again.get('a', 'y'), { deep: [1] });
  assert.equal(again.get('b', 'x'), 'z');
  await again.close();
});

test('a journal cut at any byte opens with a whole prefix of its commits', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  const records = await openRecords(path);
  for (let i = 0; i < 5; i++)
    await records.commit([
      { table: 'a', key: 'first', value: i },
      { table: 'a', key: 'second', value: i },
    ]);
  await records.close();
  const whole = readFileSync(path);
  const start = whole.indexOf(10) + 1;
  let last = -1;
  for (let length = start; length <= whole.length; length++) {
    writeFileSync(path, whole.subarray(0, length));
    const cut = await openRecords(path);
    assert.equal(cut.get('a', 'first'), cut.get('a', 'second'), 'a commit is there as a whole');
    const value = cut.get<number>('a', 'first') ?? -1;
    assert.ok(value >= last);
    last = value;
    await cut.close();
  }
  assert.equal(last, 4);
});

test('what need not be on disk is written without waiting for it, and goes there with what must', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  let syncs = 0;
  const records = await openRecords(path, async (name): Promise<JournalFile> => {
    const file = await open(name, 'a', 0o600);
    return {
      appendFile: (bytes) => file.appendFile(bytes),
      datasync: async () => {
        syncs++;
        await file.datasync();
      },
      truncate: (bytes) => file.truncate(bytes),
      close: () => file.close(),
    };
  });
  await records.commit([{ table: 'a', key: 'x', value: 1 }], { sync: false });
  assert.equal(syncs, 0);
  const other = await openRecords(path);
  assert.equal(other.get('a', 'x'), 1, 'who comes after the death of this process finds it');
  await other.close();
  await records.commit([{ table: 'a', key: 'y', value: 2 }]);
  assert.equal(syncs, 1);
  await records.close();
});

test('a damaged last line is cut off and the journal goes on behind what is whole', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  const records = await openRecords(path);
  await records.commit([{ table: 'a', key: 'x', value: 1 }]);
  await records.close();
  const size = statSync(path).size;
  appendFileSync(path, '00000000 [["a","x",2]]\n');
  const again = await openRecords(path);
  assert.equal(again.get('a', 'x'), 1);
  assert.equal(statSync(path).size, size);
  await again.commit([{ table: 'a', key: 'x', value: 3 }]);
  await again.close();
  const third = await openRecords(path);
  assert.equal(third.get('a', 'x'), 3);
  await third.close();
});

test('a journal of a newer format is refused', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  writeFileSync(path, '{"format":999}\n');
  await assert.rejects(openRecords(path), /format 999/);
});

test('a journal full of stale records is made anew and keeps what lives', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  const records = await openRecords(path);
  const value = 'v'.repeat(50_000);
  for (let i = 0; i < 20; i++) await records.commit([{ table: 'a', key: 'x', value: `${value}${i}` }]);
  assert.ok(statSync(path).size < 500_000);
  await records.close();
  const again = await openRecords(path);
  assert.equal(again.get('a', 'x'), `${value}19`);
  await again.close();
});

test('a rejected commit leaves nothing, whatever came before and after it to the same keys', async (t) => {
  const path = join(makeTestDirectory(t, 'records'), 'records.log');
  let late: Promise<void> | undefined;
  const records = await openRecords(path, async (name): Promise<JournalFile> => {
    const file = await open(name, 'a', 0o600);
    return {
      async appendFile(bytes) {
        if (!Buffer.from(bytes).includes('rejected')) {
          await file.appendFile(bytes);
          return;
        }
        // While the batch fails, of which the first line reaches the disk, another commit to the same key waits its
        // turn.
        late = records.commit([
          { table: 'a', key: 'late', value: 'kept' },
          { table: 'a', key: 'both', value: 'kept' },
        ]);
        await file.appendFile(bytes.subarray(0, bytes.indexOf(10) + 1));
        throw new Error('disk full');
      },
      datasync: () => file.datasync(),
      truncate: (bytes) => file.truncate(bytes),
      close: () => file.close(),
    };
  });
  await records.commit([
    { table: 'a', key: 'k', value: 'old' },
    { table: 'a', key: 'both', value: 'old' },
  ]);
  // The first is being written while the next two are put in; they share a write.
  const lead = records.commit([{ table: 'a', key: 'lead', value: 1 }]);
  const batch = [
    records.commit([
      { table: 'a', key: 'k', value: 'rejected 1' },
      { table: 'a', key: 'both', value: 'rejected' },
    ]),
    records.commit([
      { table: 'a', key: 'k', value: 'rejected 2' },
      { table: 'a', key: 'k', value: 'rejected 3' },
    ]),
  ];
  await lead;
  assert.deepEqual(
    (await Promise.allSettled(batch)).map((each) => each.status),
    ['rejected', 'rejected'],
  );
  const onDisk = await openRecords(path);
  assert.equal(onDisk.get('a', 'k'), 'old', 'nothing of it comes back with a start');
  await onDisk.close();
  await late;
  assert.deepEqual(
    ['k', 'both', 'late'].map((key) => records.get('a', key)),
    ['old', 'kept', 'kept'],
  );
  await records.commit([{ table: 'a', key: 'last', value: 1 }]);
  await records.close();
  const again = await openRecords(path);
  assert.deepEqual(
    ['k', 'both', 'late', 'last'].map((key) => again.get('a', key)),
    ['old', 'kept', 'kept', 1],
  );
  await again.close();
});
