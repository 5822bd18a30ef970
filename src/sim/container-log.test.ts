import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settle, SimClock } from '#os/clock.sim.ts';
import { ContainerLog, lastLines, logStart, type PrintedLine } from './container-log.ts';
import { logLinesMax } from './limits.ts';

const texts = (lines: readonly PrintedLine[]): string[] =>
  lines.map(({ atMs, text, isPartial }) => `${atMs} ${text}${isPartial ? '…' : ''}`);

test('planned lines come in their order, each once, whenever somebody reads', () => {
  const log = new ContainerLog(
    [
      'first',
      { text: (atMs) => `at ${atMs}`, after: '2s', every: '3s' },
      { text: 'one\ntwo', after: '4s', stream: 'stderr' },
    ],
    1_000,
    0,
  );
  const early = log.read(logStart, 6_500);
  assert.deepEqual(texts(early.lines), ['1000 first', '3000 at 3000', '5000 one', '5000 two', '6000 at 6000']);
  assert.deepEqual(texts(log.read(early.position, 6_500).lines), []);
  assert.deepEqual(texts(log.read(early.position, 12_000).lines), ['9000 at 9000', '12000 at 12000']);
  assert.deepEqual([log.nextMs(logStart), log.nextMs(early.position)], [1_000, 9_000]);
});

test('a line that is not finished is told as such; nothing is written after the end', () => {
  const log = new ContainerLog([{ text: 'tick', every: '10s' }], 0, 0);
  log.print('half', 'stdout', 3_000);
  log.print(' a line\nand', 'stdout', 4_000);
  log.end(15_000);
  log.print('late', 'stdout', 16_000);
  assert.deepEqual(texts(log.read(logStart, 60_000).lines), [
    '0 tick',
    '3000 half…',
    '4000  a line',
    '4000 and…',
    '10000 tick',
  ]);
  assert.equal(log.nextMs(log.read(logStart, 15_000).position), undefined);
});

test('only the newest lines are kept', () => {
  const log = new ContainerLog([], 0, 0);
  for (let at = 0; at < logLinesMax + 5; at++) log.print(`${at}\n`, 'stdout', at);
  const { lines } = log.read(logStart, logLinesMax + 5);
  assert.deepEqual([lines.length, lines[0]!.text, lines.at(-1)!.text], [logLinesMax, '5', String(logLinesMax + 4)]);
});

test('who follows gets what is printed and planned as it comes, until the container ends', async () => {
  const clock = new SimClock(0);
  const log = new ContainerLog([{ text: 'tick', after: '5s', every: '5s' }], 0, 0);
  const seen: string[] = [];
  const following = (async () => {
    for await (const { text } of log.follow(logStart, clock)) seen.push(text);
  })();
  await clock.advance(6_000);
  log.print('typed\n', 'stdout', clock.now());
  await settle();
  assert.deepEqual(seen, ['tick', 'typed']);
  await clock.advance(4_000);
  log.end(clock.now());
  await following;
  assert.deepEqual(seen, ['tick', 'typed', 'tick']);
});

test('who follows can leave', async () => {
  const clock = new SimClock(0);
  const leave = new AbortController();
  const following = (async () => {
    for await (const line of new ContainerLog([], 0, 0).follow(logStart, clock, leave.signal)) assert.fail(line.text);
  })();
  await settle();
  leave.abort();
  await following;
});

test('the last lines are lines, though they were printed in pieces', () => {
  const log = new ContainerLog([], 0, 0);
  for (const [at, written, stream] of [
    [1, 'one\ntw', 'stdout'],
    [2, 'oops\n', 'stderr'],
    [3, 'o\nthr', 'stdout'],
    [4, 'ee', 'stdout'],
  ] as const)
    log.print(written, stream, at);
  const { lines } = log.read(logStart, 10);
  const last = (count: number): string => texts(lastLines(lines, count)).join('|');
  assert.equal(last(0), '');
  assert.equal(last(1), '3 thr…|4 ee…');
  assert.equal(last(2), '1 tw…|3 o|3 thr…|4 ee…');
  assert.equal(last(3), '1 tw…|2 oops|3 o|3 thr…|4 ee…');
  assert.equal(last(9), texts(lines).join('|'));
});
