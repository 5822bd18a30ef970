import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { normaliseTime, parseLogLine, readLogs } from './logs.ts';

const line = (text: string, options: { at?: string; stream?: string; tag?: string } = {}): string => `${options.at ?? '2026-01-01T00:00:00.000000001+00:00'} ${options.stream ?? 'stdout'} ${options.tag ?? 'F'} ${text}\n`;
const both = { stdout: true, stderr: true, follow: false };

async function withLog(run: (path: string, source: { running: boolean; end: () => void }) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(`${tmpdir()}/logs-`);
  const state = { running: false, end: (): void => undefined };
  try { await run(`${directory}/container.log`, state); } finally { rmSync(directory, { recursive: true }); }
}

async function collect(path: string, options: Parameters<typeof readLogs>[1]): Promise<string[]> {
  const out: string[] = [];
  for await (const entry of readLogs({ path, isRunning: () => false, onExit: () => () => undefined }, options)) out.push(Buffer.from(entry.data).toString());
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

test('the last lines are those of the chosen stream', () => withLog(async (path) => {
  writeFileSync(path, line('a') + line('e1', { stream: 'stderr' }) + line('b') + line('e2', { stream: 'stderr' }));
  assert.deepEqual(await collect(path, { ...both, stderr: false, tailLines: 1 }), ['b\n']);
  assert.deepEqual(await collect(path, { ...both, tailLines: 0 }), []);
}));

test('rotated files are read from the oldest on', () => withLog(async (path) => {
  writeFileSync(`${path}.2`, line('1'));
  writeFileSync(`${path}.1`, line('2'));
  writeFileSync(path, line('3'));
  assert.deepEqual(await collect(path, both), ['1\n', '2\n', '3\n']);
}));

test('since and until bound what is read', () => withLog(async (path) => {
  writeFileSync(path, line('old', { at: '2026-01-01T00:00:00Z' }) + line('new', { at: '2026-01-02T00:00:00Z' }));
  assert.deepEqual(await collect(path, { ...both, sinceMs: Date.parse('2026-01-01T12:00:00Z') }), ['new\n']);
  assert.deepEqual(await collect(path, { ...both, untilMs: Date.parse('2026-01-01T12:00:00Z') }), ['old\n']);
}));

test('following goes over a rotation without a gap and ends with the container', () => withLog(async (path) => {
  writeFileSync(path, line('1'));
  let running = true;
  let wake = (): void => undefined;
  const seen: string[] = [];
  const reading = (async () => {
    for await (const entry of readLogs({ path, isRunning: () => running, onExit: (listener) => { wake = listener; return () => undefined; } }, { ...both, follow: true })) {
      seen.push(Buffer.from(entry.data).toString().trim());
      if (seen.length === 1) { appendFileSync(path, line('2')); renameSync(path, `${path}.1`); writeFileSync(path, line('3')); }
      if (seen.length === 3) { appendFileSync(path, line('4')); running = false; wake(); }
    }
  })();
  await reading;
  assert.deepEqual(seen, ['1', '2', '3', '4']);
}));
