import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import { removeLog } from './log-file.ts';
import { LogKeeper, logBoundOf, monitorBytes, settleLog } from './log-rotation.ts';
import { readLogs } from './logs.ts';

const record = (index: number): string =>
  `2026-01-01T00:00:00.${String(index).padStart(9, '0')}+00:00 stdout F ${index}\n`;
const records = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, at) => record(from + at)).join('');
const recordBytes = record(1000).length;

async function withDirectory(run: (path: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(`${tmpdir()}/rotation-`);
  try {
    await run(`${directory}/c.log`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** All that is kept, oldest first. */
function kept(path: string): string {
  const names = readdirSync(path.slice(0, path.lastIndexOf('/')))
    .filter((name) => /^c\.log(\.\d+)?$/.test(name))
    .sort((a, b) => Number(b.slice(6) || 0) - Number(a.slice(6) || 0));
  return names.map((name) => readFileSync(`${path.slice(0, path.lastIndexOf('/'))}/${name}`, 'utf8')).join('');
}

function sizes(path: string): number[] {
  return readdirSync(path.slice(0, path.lastIndexOf('/'))).map(
    (name) => statSync(`${path.slice(0, path.lastIndexOf('/'))}/${name}`).size,
  );
}

/** A monitor that opens its new file at once. */
const monitorOf = (path: string): { keeper: LogKeeper; reopened: () => number } => {
  let count = 0;
  const reopen = (): void => {
    count++;
    writeFileSync(path, '', { flag: 'a' });
  };
  return {
    keeper: new LogKeeper(path, { bytes: 100 * recordBytes, files: 3 }, { reopen, clock: realClock }),
    reopened: () => count,
  };
};

test('a file that is full is renamed and nothing is lost', () =>
  withDirectory(async (path) => {
    const { keeper, reopened } = monitorOf(path);
    for (let from = 1000; from < 1300; from += 50) {
      appendFileSync(path, records(from, from + 50));
      await keeper.check();
    }
    assert.equal(reopened(), 3);
    assert.equal(kept(path), records(1100, 1300));
  }));

test('what a fast writer left too long is cut, and the newest lines are kept', () =>
  withDirectory(async (path) => {
    const { keeper } = monitorOf(path);
    appendFileSync(path, records(1000, 2234));
    await keeper.check();
    assert.equal(kept(path), records(2034, 2234));
    assert.ok(Math.max(...sizes(path)) <= 100 * recordBytes);
    appendFileSync(path, records(2234, 9000));
    await settleLog(path, { bytes: 100 * recordBytes, files: 3 });
    assert.equal(kept(path), records(8700, 9000));
    assert.deepEqual(
      sizes(path).toSorted((a, b) => a - b),
      [100, 100, 100].map((count) => count * recordBytes),
    );
  }));

test('one file alone is cut too', () =>
  withDirectory(async (path) => {
    appendFileSync(path, records(1000, 9000));
    await settleLog(path, { bytes: 100 * recordBytes, files: 1 });
    assert.equal(kept(path), records(8900, 9000));
    assert.deepEqual(sizes(path), [100 * recordBytes]);
  }));

test('what the monitor gave up at its own bound becomes the file before', () =>
  withDirectory(async (path) => {
    const { keeper } = monitorOf(path);
    appendFileSync(path, records(1000, 1060));
    await keeper.check();
    writeFileSync(`${path}.tmp`, records(1060, 1090));
    renameSync(`${path}.tmp`, path);
    await keeper.check();
    assert.equal(kept(path), records(1000, 1090));
    assert.equal(statSync(`${path}.held`).ino, statSync(path).ino);
  }));

test('a rotation that the end of the run overtook is taken back', () =>
  withDirectory(async (path) => {
    writeFileSync(`${path}.1`, records(1010, 1020));
    writeFileSync(`${path}.2`, records(1000, 1010));
    linkSync(`${path}.1`, `${path}.held`);
    await settleLog(path, { bytes: 100 * recordBytes, files: 3 });
    assert.equal(readFileSync(path, 'utf8'), records(1010, 1020));
    assert.equal(readFileSync(`${path}.1`, 'utf8'), records(1000, 1010));
    assert.ok(!existsSync(`${path}.held`));
  }));

test('a monitor that was not told is told again', () =>
  withDirectory(async (path) => {
    let told = 0;
    const keeper = new LogKeeper(
      path,
      { bytes: 10, files: 2 },
      {
        reopen: () => {
          told++;
        },
        clock: realClock,
      },
    );
    await keeper.check();
    assert.equal(told, 1);
    await keeper.check();
    assert.equal(told, 1);
  }));

test("the monitor's own bound lies above all that a log may hold", () => {
  assert.equal(monitorBytes(logBoundOf({ logMaxBytes: 100 * 1024 ** 2, logMaxFiles: 5 })), 500 * 1024 ** 2);
  assert.deepEqual(logBoundOf({ logMaxBytes: 5 }), { bytes: 5, files: 1 });
  assert.deepEqual(logBoundOf({}), { bytes: 64 * 1024 ** 2, files: 4 });
});

test('older files are compressed, read like the others, and go in their turn', async () => {
  await withDirectory(async (path) => {
    const reopen = (): void => writeFileSync(path, '', { flag: 'a' });
    const bound = { bytes: 100 * recordBytes, files: 4, isCompressed: true };
    const keeper = new LogKeeper(path, bound, { reopen, clock: realClock });
    const read = async (tailLines?: number): Promise<number[]> => {
      const out: number[] = [];
      const source = { path, isRunning: () => false, onExit: () => () => undefined };
      const asked = { stdout: true, stderr: true, follow: false, ...(tailLines === undefined ? {} : { tailLines }) };
      for await (const line of readLogs(source, asked)) out.push(Number(Buffer.from(line.data).toString()));
      return out;
    };
    const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, at) => from + at);
    for (let round = 0; round < 3; round++) {
      writeFileSync(path, records(1000 + round * 100, 1100 + round * 100));
      await keeper.check();
    }
    const names = (): string[] => readdirSync(path.slice(0, path.lastIndexOf('/'))).sort();
    assert.deepEqual(names(), ['c.log', 'c.log.1', 'c.log.2.gz', 'c.log.3.gz']);
    assert.deepEqual(await read(), numbers(1000, 1300));
    assert.deepEqual(await read(250), numbers(1050, 1300));
    for (let round = 3; round < 7; round++) {
      writeFileSync(path, records(1000 + round * 100, 1100 + round * 100));
      await keeper.check();
    }
    assert.deepEqual(names(), ['c.log', 'c.log.1', 'c.log.2.gz', 'c.log.3.gz']);
    assert.deepEqual(await read(), numbers(1400, 1700));
    removeLog(path);
    assert.deepEqual(names(), []);
  });
});
