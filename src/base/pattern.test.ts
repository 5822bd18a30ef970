import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PatternBudget, compilePattern } from './pattern.ts';

describe('patterns of users', () => {
  it('are RE2: classes, flags, no look-around and no back-references', () => {
    const matches = (pattern: string, text: string): boolean => compilePattern(pattern).test(text);
    assert.deepEqual(
      [
        matches('[[:digit:]]+', 'a1'),
        matches('^[[:digit:]]+$', 'a1'),
        matches('(?i)^ABC$', 'abc'),
        matches('^\\pL+$', 'äb'),
        matches('b', 'abc'),
        matches('^a.c$', 'a\nc'),
      ],
      [true, false, true, true, true, false],
    );
    for (const pattern of ['(?=a)', '(a)\\1', 'a**', '[', '(?:a{1000}){1000}'])
      assert.throws(() => compilePattern(pattern), /error parsing regexp/, pattern);
  });

  it('share one budget of steps', () => {
    const budget = new PatternBudget();
    const pattern = compilePattern('^(a+)+$');
    assert.equal(budget.test(pattern, `${'a'.repeat(10_000)}!`), false);
    assert.throws(() => {
      for (let i = 0; i < 1000; i++) budget.test(pattern, 'a'.repeat(100_000));
    }, /more than 40000000 steps/);
  });
});
