import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createLogger } from './log.ts';
import type { LogLevel } from './log.ts';

function makeLog(level?: LogLevel): { log: ReturnType<typeof createLogger>; lines: unknown[] } {
  const lines: unknown[] = [];
  const write = (line: string): void => {
    assert.ok(line.endsWith('\n') && line.indexOf('\n') === line.length - 1, 'one line a message');
    lines.push(JSON.parse(line));
  };
  return { log: createLogger(() => 7, write, level), lines };
}

test('a line says when, how bad, which part and what, with its fields', () => {
  const { log, lines } = makeLog();
  log.child('store').warn('slow', { ms: 12, text: 'two\nlines' });
  assert.deepEqual(lines, [{ ts: 7, level: 'warn', part: 'store', msg: 'slow', ms: 12, text: 'two\nlines' }]);
});

test('what is below the level is left out, by children too', () => {
  const { log, lines } = makeLog('warn');
  log.info('no');
  log.child('a').debug('no');
  log.child('a').child('b').error('yes');
  assert.deepEqual(lines, [{ ts: 7, level: 'error', part: 'b', msg: 'yes' }]);
});

test('an error keeps its stack; without one, its message', () => {
  const { log, lines } = makeLog();
  const bare = new Error('bare');
  delete bare.stack;
  log.error('failed', { error: new Error('broken'), bare });
  const [line] = lines as [{ error: string; bare: string }];
  assert.match(line.error, /^Error: broken\n +at /);
  assert.equal(line.bare, 'bare');
});
