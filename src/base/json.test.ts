import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { testSeed } from '#os/test-seed.ts';
import { itemsOf } from './unknown.ts';
import { copyJson, equalJson, freezeJson, scanJson } from './json.ts';
import { jsonPatch, mergePatch } from './patch.ts';

fc.configureGlobal({ seed: testSeed() });

describe('the scanner', () => {
  it('finds doubled keys with their paths, at any depth', () => {
    const text = '{"a":1,"b":{"c":[{"d":1},{"d":1,"e":{},"d":2}],"c2":"\\"a\\":","c2":1},"a":2}';
    assert.deepEqual(scanJson(text).duplicates, ['b.c[1].d', 'b.c2', 'a']);
  });

  it('names each key by its path, in the order of the text', () => {
    const paths: string[] = [];
    scanJson('{"a":{"b":[[{"c":1}],{"c":2,"d":{}}]},"a":3,"e":"f"}', (path) => paths.push(path));
    assert.deepEqual(paths, ['a', 'a.b', 'a.b[0][0].c', 'a.b[1].c', 'a.b[1].d', 'a', 'e']);
  });

  it('finds none in what JSON.stringify makes, whatever the strings hold', () => {
    // Integers beyond 2^53 are refused where the text says another one than the double: those are a test of their own.
    const written = fc
      .jsonValue()
      .map((value) =>
        JSON.stringify(value, (_key, v: unknown) => (typeof v === 'number' && Math.abs(v) > 2 ** 53 ? 1 : v)),
      );
    fc.assert(
      fc.property(written, (text) => {
        assert.deepEqual(scanJson(text).duplicates, []);
      }),
    );
  });

  it('refuses numbers that would be changed, and keeps those that a double holds', () => {
    for (const text of [
      '9007199254740991',
      '-9007199254740991',
      '9007199254740992',
      '-9223372036854775808',
      '1e300',
      '0.30000000000000004',
      '[1E2,2e-3]',
    ])
      assert.deepEqual(scanJson(text).duplicates, []);
    for (const text of ['9007199254740993', '-9007199254740993', '{"a":[9223372036854775807]}', '1'.repeat(100_000)])
      assert.throws(() => scanJson(text), /cannot be kept exactly/);
    assert.throws(() => scanJson('[1e400]'), /beyond what a double holds/);
  });

  it('survives any text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          scanJson(text);
        } catch (error) {
          // A number that is too large may come up by chance.
          assert.match(String(error), /beyond what a double holds/);
        }
      }),
    );
    for (const text of ['00.E', '1.2.3e4', '-0e+']) assert.deepEqual(scanJson(text).duplicates, []);
    assert.throws(() => scanJson('['.repeat(1000)), /max depth/);
  });
});

describe('a JSON Patch', () => {
  it('copies and moves aside within bounds', () => {
    const doubling = (times: number) =>
      Array.from({ length: times }, (_unused, i) => ({ op: 'copy', from: '', path: `/c${i}` }));
    assert.deepEqual(jsonPatch({ a: 1 }, doubling(2)), { a: 1, c0: { a: 1 }, c1: { a: 1, c0: { a: 1 } } });
    assert.throws(
      () => jsonPatch({ a: 1 }, doubling(30)),
      /accumulated size increase of copy is \d+, exceeding the limit 3145728/,
    );
    const list = Array.from({ length: 100_000 }, () => 0);
    assert.equal(
      itemsOf(
        jsonPatch(
          list,
          Array.from({ length: 100 }, () => ({ op: 'add', path: '/0', value: 1 })),
        ),
      ).length,
      100_100,
    );
    assert.throws(
      () =>
        jsonPatch(
          list,
          Array.from({ length: 300 }, () => ({ op: 'remove', path: '/0' })),
        ),
      /move more than/,
    );
  });

  it('tests, replaces the whole and says what is missing', () => {
    assert.deepEqual(
      jsonPatch({ a: 1 }, [
        { op: 'test', path: '/a', value: 1 },
        { op: 'replace', path: '', value: { b: 2 } },
        { op: 'move', from: '/b', path: '/c' },
      ]),
      { c: 2 },
    );
    assert.throws(
      () => jsonPatch({ a: { b: 1 } }, [{ op: 'test', path: '/a', value: { b: 2 } }]),
      /testing value \/a failed: test failed/,
    );
    assert.throws(() => jsonPatch({}, [{ op: 'copy', from: '/none', path: '/a' }]), /copy operation does not apply/);
    assert.throws(() => jsonPatch({}, [{ op: 'copy', from: '/constructor', path: '/a' }]), /is not allowed/);
  });
});

describe('copies and comparisons', () => {
  it('a copy is equal and shares nothing', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const clean = JSON.parse(JSON.stringify(value).replaceAll('__proto__', 'proto'));
        const copy = copyJson(freezeJson(clean));
        assert.ok(equalJson(copy, clean));
        assert.ok(typeof copy !== 'object' || copy === null || copy !== clean);
      }),
    );
  });

  it('a copy leaves prototypes alone', () => {
    const copy = copyJson(JSON.parse('{"__proto__":{"polluted":true},"a":1}') as { a: number; polluted?: boolean });
    assert.deepEqual([copy.polluted, Object.keys(copy)], [undefined, ['a']]);
  });
});

describe('patches', () => {
  it('merge as RFC 7386 shows in its examples', () => {
    const cases: [unknown, unknown, unknown][] = [
      [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
      [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
      [{ a: 'b' }, { a: null }, {}],
      [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
      [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
      [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
      [
        ['a', 'b'],
        ['c', 'd'],
        ['c', 'd'],
      ],
      [{ e: null }, { a: 1 }, { e: null, a: 1 }],
      [[1, 2], { a: 'b', c: null }, { a: 'b' }],
      [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    ];
    for (const [target, patch, wanted] of cases) assert.deepEqual(mergePatch(target, patch), wanted);
  });

  it('leave the target as it was', () => {
    const target = freezeJson({ a: [{ b: 1 }], c: { d: 2 } });
    mergePatch(target, { c: { d: 3 } });
    assert.deepEqual(jsonPatch(target, [{ op: 'move', from: '/a/0', path: '/c/e' }]), {
      a: [],
      c: { d: 2, e: { b: 1 } },
    });
    assert.deepEqual(target, { a: [{ b: 1 }], c: { d: 2 } });
  });

  it('that do not apply say which operation', () => {
    assert.throws(
      () => jsonPatch({}, [{ op: 'remove', path: '/a' }]),
      /remove operation does not apply: doc is missing key: \/a: missing value/,
    );
    assert.throws(() => jsonPatch({ a: 1 }, [{ op: 'test', path: '/a', value: 2 }]), /testing value \/a failed/);
    assert.throws(() => jsonPatch({}, { op: 'add' }), /cannot unmarshal object/);
  });
});
