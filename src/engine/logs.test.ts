import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { parseRfc3339 } from '#base/timestamp.ts';
import { normaliseTime, parseLogLine } from './log-file.ts';
import { readLogs } from './logs.ts';
import { logLookBackBytesMax, logReadChunkBytes } from './limits.ts';

const line = (text: string, options: { at?: string; stream?: string; tag?: string } = {}): string =>
  `${options.at ?? '2026-01-01T00:00:00.000000001+00:00'} ${options.stream ?? 'stdout'} ${options.tag ?? 'F'} ${text}\n`;
const ns = (time: string): bigint => parseRfc3339(time)!;
const both = { stdout: true, stderr: true, follow: false };

async function withLog(
  run: (path: string, source: { running: boolean; end: () => void }) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(`${tmpdir()}/logs-`);
  const state = { running: false, end: (): void => undefined };
  try {
    await run(`${directory}/container.log`, state);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function collect(path: string, options: Parameters<typeof readLogs>[1]): Promise<string[]> {
  const out: string[] = [];
  for await (const entry of readLogs({ path, isRunning: () => false, onExit: () => () => undefined }, options))
    out.push(Buffer.from(entry.data).toString());
  return out;
}

test('a time with an offset becomes UTC with nine digits', () => {
  assert.equal(normaliseTime('2026-01-01T02:00:00.5+02:00'), '2026-01-01T00:00:00.500000000Z');
  assert.equal(normaliseTime('2026-01-01T00:00:00.123456789Z'), '2026-01-01T00:00:00.123456789Z');
});

test('a part of a line has no newline, a whole line has one', () => {
  assert.equal(Buffer.from(parseLogLine(Buffer.from('2026-01-01T00:00:00Z stdout P abc'))!.data).toString(), 'abc');
  assert.equal(Buffer.from(parseLogLine(Buffer.from('2026-01-01T00:00:00Z stderr F abc'))!.data).toString(), 'abc\n');
  assert.equal(parseLogLine(Buffer.from('nonsense')), undefined);
});

test('the last lines are those of the chosen stream', () =>
  withLog(async (path) => {
    writeFileSync(path, line('a') + line('e1', { stream: 'stderr' }) + line('b') + line('e2', { stream: 'stderr' }));
    assert.deepEqual(await collect(path, { ...both, stderr: false, tailLines: 1 }), ['b\n']);
    assert.deepEqual(await collect(path, { ...both, tailLines: 0 }), []);
  }));

test('rotated files are read from the oldest on', () =>
  withLog(async (path) => {
    writeFileSync(`${path}.2`, line('1'));
    writeFileSync(`${path}.1`, line('2'));
    writeFileSync(path, line('3'));
    assert.deepEqual(await collect(path, both), ['1\n', '2\n', '3\n']);
  }));

test('since and until bound what is read', () =>
  withLog(async (path) => {
    writeFileSync(path, line('old', { at: '2026-01-01T00:00:00Z' }) + line('new', { at: '2026-01-02T00:00:00Z' }));
    assert.deepEqual(await collect(path, { ...both, sinceNs: ns('2026-01-01T12:00:00Z') }), ['new\n']);
    assert.deepEqual(await collect(path, { ...both, untilNs: ns('2026-01-01T12:00:00Z') }), ['old\n']);
  }));

test('following goes over a rotation without a gap and ends with the container', () =>
  withLog(async (path) => {
    writeFileSync(path, line('1'));
    let running = true;
    let wake = (): void => undefined;
    const seen: string[] = [];
    const reading = (async () => {
      for await (const entry of readLogs(
        {
          path,
          isRunning: () => running,
          onExit: (listener) => {
            wake = listener;
            return () => undefined;
          },
        },
        { ...both, follow: true },
      )) {
        seen.push(Buffer.from(entry.data).toString().trim());
        if (seen.length === 1) {
          appendFileSync(path, line('2'));
          renameSync(path, `${path}.1`);
          writeFileSync(path, line('3'));
        }
        if (seen.length === 3) {
          appendFileSync(path, line('4'));
          running = false;
          wake();
        }
      }
    })();
    await reading;
    assert.deepEqual(seen, ['1', '2', '3', '4']);
  }));

const at = (index: number): string => `2026-01-01T00:00:00.${String(index).padStart(9, '0')}+00:00`;

test('a time of nanoseconds bounds to the nanosecond, both ends included', () =>
  withLog(async (path) => {
    writeFileSync(path, Array.from({ length: 5000 }, (_, index) => line(String(index), { at: at(index) })).join(''));
    const seen = await collect(path, { ...both, sinceNs: ns(at(499)), untilNs: ns(at(4997)) });
    assert.deepEqual([seen.length, seen[0], seen.at(-1)], [4499, '499\n', '4997\n']);
    assert.deepEqual(await collect(path, { ...both, sinceNs: ns(at(4990)), untilNs: ns(at(4996)), tailLines: 2 }), [
      '4995\n',
      '4996\n',
    ]);
  }));

test('lines are counted, whatever number of pieces they came in and whatever lies between', () =>
  withLog(async (path) => {
    const piece = (text: string, stream = 'stdout'): string => line(text, { tag: 'P', stream });
    writeFileSync(`${path}.1`, line('old') + piece('a1'));
    writeFileSync(
      path,
      line('e1', { stream: 'stderr' }) +
        piece('a2') +
        line('e2', { stream: 'stderr' }) +
        line('a3') +
        piece('open1') +
        line('e3', { stream: 'stderr' }) +
        piece('open2'),
    );
    assert.equal((await collect(path, { ...both, tailLines: 1 })).join('|'), 'open1|open2');
    assert.equal((await collect(path, { ...both, tailLines: 2 })).join('|'), 'open1|e3\n|open2');
    assert.equal((await collect(path, { ...both, tailLines: 3 })).join('|'), 'a1|a2|a3\n|open1|e3\n|open2');
    assert.equal((await collect(path, { ...both, stderr: false, tailLines: 2 })).join('|'), 'a1|a2|a3\n|open1|open2');
    assert.equal(
      (await collect(path, { ...both, tailLines: 100 })).join('|'),
      'old\n|a1|e1\n|a2|e2\n|a3\n|open1|e3\n|open2',
    );
  }));

test('what is asked for decides how much is read, and other work has its turn', () =>
  withLog(async (path) => {
    const count = 200_000;
    writeFileSync(path, Array.from({ length: count }, (_, index) => line(String(index), { at: at(index) })).join(''));
    let turns = 0;
    let running = true;
    const turn = (): void => {
      turns++;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    assert.deepEqual(await collect(path, { ...both, tailLines: 1 }), [`${count - 1}\n`]);
    const forTail = turns;
    assert.deepEqual(await collect(path, { ...both, sinceNs: ns(at(count)) }), []);
    const forSince = turns - forTail;
    assert.equal((await collect(path, { ...both, stdout: false })).length, 0);
    const forAll = turns - forTail - forSince;
    running = false;
    assert.ok(forTail < 8 && forSince < 8, `${forTail} and ${forSince} chunks`);
    assert.ok(forAll >= 100, `${forAll} turns for ${count} records`);
  }));

test('pieces of the last line are not looked for without end', () =>
  withLog(async (path) => {
    const noise = line('x'.repeat(1000), { stream: 'stderr' });
    writeFileSync(
      path,
      line('far', { tag: 'P' }) +
        noise.repeat(Math.ceil(logLookBackBytesMax / 1000) + 2 * Math.ceil(logReadChunkBytes / 1000)) +
        line('near') +
        line('last', { stream: 'stderr' }),
    );
    assert.deepEqual(await collect(path, { ...both, tailLines: 2 }), ['near\n', 'last\n']);
  }));

test('following goes on after the last record read when its file was cut up meanwhile', () =>
  withLog(async (path) => {
    writeFileSync(path, line('1', { at: at(1) }) + line('2', { at: at(1) }));
    let running = true;
    let wake = (): void => undefined;
    const seen: string[] = [];
    for await (const entry of readLogs(
      {
        path,
        isRunning: () => running,
        onExit: (listener) => {
          wake = listener;
          return () => undefined;
        },
      },
      { ...both, follow: true },
    )) {
      seen.push(Buffer.from(entry.data).toString().trim());
      if (seen.length === 2) {
        writeFileSync(`${path}.2`, line('1', { at: at(1) }) + line('2', { at: at(1) }) + line('3', { at: at(1) }));
        writeFileSync(`${path}.1`, line('4', { at: at(2) }));
        writeFileSync(`${path}.new`, line('5', { at: at(3) }));
        renameSync(`${path}.new`, path);
        running = false;
        wake();
      }
    }
    assert.deepEqual(seen, ['1', '2', '3', '4', '5']);
  }));

test('a line is as old as its first piece, and is given whole or not at all', () =>
  withLog(async (path) => {
    const piece = (text: string, index: number): string => line(text, { tag: 'P', at: at(index) });
    writeFileSync(
      path,
      piece('a', 1) +
        line('b', { at: at(2) }) +
        line('c', { at: at(2) }) +
        piece('d', 3) +
        line('x', { at: at(4), stream: 'stderr' }) +
        line('e', { at: at(4) }) +
        line('f', { at: at(4) }),
    );
    assert.equal((await collect(path, { ...both, sinceNs: ns(at(2)), untilNs: ns(at(3)) })).join('|'), 'c\n|d|e\n');
    assert.equal(
      (await collect(path, { ...both, sinceNs: ns(at(2)), untilNs: ns(at(3)), tailLines: 1 })).join('|'),
      'd|e\n',
    );
    assert.equal((await collect(path, { ...both, sinceNs: ns(at(2)), tailLines: 4 })).join('|'), 'c\n|d|x\n|e\n|f\n');
    assert.equal((await collect(path, { ...both, sinceNs: ns(at(2)), tailLines: 5 })).join('|'), 'c\n|d|x\n|e\n|f\n');
  }));
