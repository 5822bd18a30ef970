import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseColumns, parsePs } from './top.ts';

const titles = (options: string): string =>
  chooseColumns(options)
    .map(([title]) => title)
    .join(' ');

test('options are read as ps reads them', () => {
  for (const options of [
    '-eo pid,comm',
    '-eopid,comm',
    '-e -o pid -o comm',
    'o pid,comm',
    'axo pid,comm',
    '--format pid,comm',
    '-e --format=pid,comm',
  ])
    assert.equal(titles(options), 'PID COMMAND', options);
  assert.equal(titles('-ef'), 'UID PID PPID C STIME TTY TIME CMD');
  assert.equal(titles('-e -f'), titles('-ef'));
  assert.equal(titles('aux'), 'USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND');
  assert.equal(titles('-aux'), titles('aux'));
  assert.equal(titles('-e'), 'PID TTY TIME CMD');
  assert.equal(titles('-eo pid=NUMBER'), 'NUMBER');
});

test('what is not known is refused', () => {
  for (const options of ['-eo pid,constructor', '-o', '--nope', '-Y', '-p 1', 'Q'])
    assert.throws(() => chooseColumns(options), /^ApiError: ps: error/, options);
});

test("of ps's answer the container's rows stay, the last column whole", () => {
  const text =
    '    PID   LWP CMD\n      1     1 init\n     70     - sh -c  sleep 1\n      -    70 -\n     71    71 other\n';
  assert.deepEqual(parsePs(text, new Set([70])), {
    Titles: ['PID', 'LWP', 'CMD'],
    Processes: [
      ['70', '-', 'sh -c sleep 1'],
      ['-', '70', '-'],
    ],
  });
  assert.throws(() => parsePs('COMMAND\nsh\n', new Set()), /PID field/);
});
