import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { copyJson, equalJson, freezeJson, scanJson } from './json.ts';
import { jsonPatch, mergePatch } from './patch.ts';

describe('the scanner', () => {
  it('finds doubled keys with their paths, at any depth', () => {
    const text = '{"a":1,"b":{"c":[{"d":1},{"d":1,"e":{},"d":2}],"c2":"\\"a\\":","c2":1},"a":2}';
    assert.deepEqual(scanJson(text).duplicates, ['b.c[1].d', 'b.c2', 'a']);
  });

  it('finds none in what JSON.stringify makes, whatever the strings hold', () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => { assert.deepEqual(scanJson(JSON.stringify(value)).duplicates, []); }));
  });

  it('survives any text', () => {
    fc.assert(fc.property(fc.string(), (text) => { scanJson(text); }));
    assert.throws(() => scanJson('['.repeat(1000)), /max depth/);
  });
});

describe('copies and comparisons', () => {
  it('a copy is equal and shares nothing', () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => {
      const clean = JSON.parse(JSON.stringify(value).replaceAll('__proto__', 'proto'));
      const copy = copyJson(freezeJson(clean));
      assert.ok(equalJson(copy, clean));
      assert.ok(typeof copy !== 'object' || copy === null || copy !== clean);
    }));
  });

  it('a copy leaves prototypes alone', () => {
    const copy = copyJson(JSON.parse('{"__proto__":{"polluted":true},"a":1}') as { a: number; polluted?: boolean });
    assert.deepEqual([copy.polluted, Object.keys(copy)], [undefined, ['a']]);
  });
});

describe('patches', () => {
  it('merge as RFC 7386 shows in its examples', () => {
    const cases: [unknown, unknown, unknown][] = [
      [{ a: 'b' }, { a: 'c' }, { a: 'c' }], [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }], [{ a: 'b' }, { a: null }, {}], [{ a: ['b'] }, { a: 'c' }, { a: 'c' }], [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
      [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }], [['a', 'b'], ['c', 'd'], ['c', 'd']], [{ e: null }, { a: 1 }, { e: null, a: 1 }], [[1, 2], { a: 'b', c: null }, { a: 'b' }], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    ];
    for (const [target, patch, wanted] of cases) assert.deepEqual(mergePatch(target, patch), wanted);
  });

  it('leave the target as it was', () => {
    const target = freezeJson({ a: [{ b: 1 }], c: { d: 2 } });
    mergePatch(target, { c: { d: 3 } });
    assert.deepEqual(jsonPatch(target, [{ op: 'move', from: '/a/0', path: '/c/e' }]), { a: [], c: { d: 2, e: { b: 1 } } });
    assert.deepEqual(target, { a: [{ b: 1 }], c: { d: 2 } });
  });

  it('that do not apply say which operation', () => {
    assert.throws(() => jsonPatch({}, [{ op: 'remove', path: '/a' }]), /remove operation does not apply: doc is missing key: \/a: missing value/);
    assert.throws(() => jsonPatch({ a: 1 }, [{ op: 'test', path: '/a', value: 2 }]), /testing value \/a failed/);
    assert.throws(() => jsonPatch({}, { op: 'add' }), /cannot unmarshal object/);
  });
});
