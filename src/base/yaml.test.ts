import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatYaml, parseLooseYaml, parseYaml, parseYamlDocuments } from './yaml.ts';

describe('YAML', () => {
  it('expands aliases to twice the text and a megabyte, and no further', () => {
    assert.deepEqual(parseYaml('a: &x [1, {b: c}]\nd: *x\ne: {<<: {f: 1}, g: 2}'), {
      a: [1, { b: 'c' }],
      d: [1, { b: 'c' }],
      e: { f: 1, g: 2 },
    });
    const long = 'x'.repeat(1000);
    const repeated = (times: number): string =>
      `a: &a ${long}\nb: [${Array.from({ length: times }, () => '*a').join(',')}]`;
    assert.equal((parseYaml(repeated(1000)) as { b: string[] }).b.length, 1000);
    assert.throws(() => parseYaml(repeated(2000)), /excessive aliasing/);
    assert.throws(() => parseYamlDocuments(`${repeated(800)}\n---\n${repeated(800)}`), /excessive aliasing/);
    // Without aliases any size will do.
    assert.equal(
      (parseYaml(Array.from({ length: 50_000 }, (_unused, i) => `- ${long.slice(0, 50)}${i}`).join('\n')) as string[])
        .length,
      50_000,
    );
  });

  it('refuses what JSON cannot say', () => {
    for (const text of ['a: .inf', 'a: -.inf', 'a: .nan'])
      assert.throws(() => parseYaml(text), /is no number that JSON has/);
    for (const text of ['a: 9007199254740993', 'a: -9007199254740993', 'a: 0x20000000000001', 'a: 0400000000000000001'])
      assert.throws(() => parseYaml(text), /cannot be kept exactly/, text);
    assert.deepEqual(parseYaml('a: 9007199254740991\nb: 0644\nc: 0x1F\nd: "9007199254740993"'), {
      a: 9_007_199_254_740_991,
      b: 420,
      c: 31,
      d: '9007199254740993',
    });
  });

  it('takes the last value of a doubled key, and says on which line that value begins', () => {
    const text = 'a: 1\nb:\n- {c: 1, c: 2}\n- c: x\n  "c":\n    d: 1\na: 3\ne: &m {f: 1}\ng: {<<: *m, <<: *m, f: 2}\n';
    assert.deepEqual(parseLooseYaml(text), {
      value: { a: 3, b: [{ c: 2 }, { c: { d: 1 } }], e: { f: 1 }, g: { f: 2 } },
      duplicates: [
        'line 3: key "c" already set in map',
        'line 6: key "c" already set in map',
        'line 7: key "a" already set in map',
      ],
    });
    assert.throws(() => parseYaml(text), /duplicated mapping key/);
    assert.throws(() => parseLooseYaml('a: 1\n---\nb: 1'), /expected one document, found 2/);
  });

  it('writes what it reads back, whatever the text looks like', () => {
    const value = {
      list: [
        'yes',
        'No',
        'on',
        '0755',
        '1_000',
        '0b1',
        '0o7',
        '1e3',
        '1'.repeat(400),
        '~',
        'null',
        '<<',
        '2020-01-01',
        '1:30',
        '',
        ' a',
        '- b',
        '*c',
        '{',
        'a: b',
      ],
      numbers: [1, -2, 1.5, 1e21],
      none: null,
      flag: true,
      empty: {},
      nothing: [],
    };
    assert.deepEqual(parseYaml(formatYaml(value)), value);
    for (const text of ['yes', 'off', '0755', '1_000', '0x1F']) assert.match(formatYaml(text), /^["']/, text);
  });
});
