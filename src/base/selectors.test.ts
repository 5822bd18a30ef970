import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from './errors.ts';
import {
  formatFieldSelector,
  formatLabelSelector,
  labelValueProblems,
  matchesFields,
  matchesLabels,
  matchesSelectorObject,
  parseFieldSelector,
  parseLabelSelector,
  qualifiedNameProblems,
} from './selectors.ts';

test('string selectors match as documented', () => {
  const cases: [string, Record<string, string>, boolean][] = [
    ['', {}, true],
    ['a=b', { a: 'b' }, true],
    ['a==b', { a: 'c' }, false],
    ['a!=b', {}, true],
    ['a in (b,c)', { a: 'c' }, true],
    ['a notin (b, c)', { a: 'c' }, false],
    ['a notin (b)', {}, true],
    ['a', { a: '' }, true],
    ['!a', { a: '' }, false],
    ['!a,b=c', { b: 'c' }, true],
    ['a>5', { a: '6' }, true],
    ['a<5', { a: '6' }, false],
    ['a=', { a: '' }, true],
    ['a in (,b)', { a: '' }, true],
    ['example.com/x=1, y', { 'example.com/x': '1', y: 'z' }, true],
    ['toString=1', {}, false],
  ];
  for (const [selector, labels, expected] of cases)
    assert.equal(matchesLabels(parseLabelSelector(selector), labels), expected, selector);
});

test('malformed string selectors are refused as bad requests', () => {
  for (const text of ['a=b,', 'a in b', 'a b', '=b', 'a in (b', '_a=b', 'a=!b', 'a>x', 'a/b/c=d', ',a']) {
    assert.throws(
      () => parseLabelSelector(text),
      (error) => error instanceof ApiError && error.code === 400,
      text,
    );
  }
});

test('an absent object selector matches nothing and an empty one everything', () => {
  assert.equal(matchesSelectorObject(undefined, {}), false);
  assert.equal(matchesSelectorObject({}, { a: 'b' }), true);
  assert.equal(
    matchesSelectorObject(
      { matchLabels: { a: 'b' }, matchExpressions: [{ key: 'c', operator: 'Exists' }] },
      { a: 'b', c: '' },
    ),
    true,
  );
  assert.throws(() => matchesSelectorObject({ matchExpressions: [{ key: 'c', operator: 'In' }] }, {}), ApiError);
});

test('selectors print so that they parse again', () => {
  const text = '!e,a=b,c in (d,e),f!=g,h notin (i,j)';
  assert.equal(
    formatLabelSelector(parseLabelSelector('a=b,c in (e,d),!e,f!=g,h notin (j,i)')),
    'a=b,c in (d,e),!e,f!=g,h notin (i,j)',
  );
  assert.deepEqual(parseLabelSelector(formatLabelSelector(parseLabelSelector(text))).length, 5);
});

test('field selectors know escapes and both operators', () => {
  const selector = parseFieldSelector('metadata.name=a\\,b,status.phase!=Running,x==y');
  assert.deepEqual(selector, [
    { field: 'metadata.name', operator: '=', value: 'a,b' },
    { field: 'status.phase', operator: '!=', value: 'Running' },
    { field: 'x', operator: '=', value: 'y' },
  ]);
  assert.equal(
    matchesFields(selector, (field) => ({ 'metadata.name': 'a,b', x: 'y' })[field] ?? ''),
    true,
  );
  assert.equal(formatFieldSelector(selector), 'metadata.name=a\\,b,status.phase!=Running,x=y');
  assert.throws(() => parseFieldSelector('foo'), ApiError);
  assert.throws(() => parseFieldSelector('a=b=c'), ApiError);
});

test('keys and values of labels are checked', () => {
  assert.deepEqual(qualifiedNameProblems('example.com/a'), []);
  assert.equal(qualifiedNameProblems('a/b/c').length, 1);
  assert.equal(qualifiedNameProblems('Bad_Prefix/a').length, 1);
  assert.equal(labelValueProblems('-x').length, 1);
  assert.deepEqual(labelValueProblems(''), []);
});
