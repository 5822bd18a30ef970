import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { baseFunctions } from './base-environment.ts';
import { listIn } from './declare.ts';
import type { Environment } from './environment.ts';
import { escapedName, fieldName, fromJson, toJson } from './json-values.ts';
import { CompilationError, compile, type Program } from './program.ts';
import { CostError, type LazyVariables } from './compiler.ts';
import { listType, mapType, types, typeText, type Type } from './types.ts';
import { CelError, isKind, itemsOf, listOf, typeNameOf, type Value } from './values.ts';

interface Case {
  expression: string;
  type?: string;
  value?: string;
  err?: string;
  cost?: number;
  /** What is wrong with the expression, and with its constants. */
  compile?: string;
  program?: string;
}
const { variables: given, cases } = JSON.parse(readFileSync(new URL('cel-go.cases.json', import.meta.url), 'utf8')) as {
  variables: Record<string, unknown>;
  cases: Case[];
};

const variables = new Map<string, Type>([
  ['object', types.dyn],
  ['n', types.int],
  ['l', listType(types.int)],
  ['m', mapType(types.string, types.string)],
]);
const environment: Environment = { variables, functions: baseFunctions };
const activation = {
  variables: Object.fromEntries([...variables].map(([name, type]) => [name, fromJson(given[name], type)])),
};

/** Where we differ, and why. */
const known: Readonly<Record<string, string>> = {
  "{'a': 1, 'a': 2}": 'a key twice is refused; cel-go refuses it only where the map is not constant',
  '1 @ 2': 'one syntax error is told, the first',
  "'unterminated": 'one syntax error is told, the first',
  'a.in': 'one syntax error is told, the first',
};
/** Costs that differ by a step or two: what errors and absent parts have cost until then. */
const costSlack = 3;

/** A value as the evaluator of cel-go shows it. */
function show(value: Value): string | undefined {
  if (typeof value === 'string') return `string ${JSON.stringify(value)}`;
  if (isKind(value, 'optional')) return value.value === undefined ? 'none' : `optional ${show(value.value)}`;
  if (isKind(value, 'type')) return undefined;
  try {
    return `${typeNameOf(value)} ${JSON.stringify(toJson(value))}`;
  } catch {
    // Values of libraries have no JSON.
    return undefined;
  }
}
const nameOf = (text: string): string =>
  text
    .replaceAll('google.protobuf.Timestamp', 'timestamp')
    .replaceAll('google.protobuf.Duration', 'duration')
    .replaceAll('null_type', 'null');

describe('an expression', () => {
  for (const each of cases.filter(({ expression }) => known[expression] === undefined))
    it(`comes to what cel-go says: ${each.expression}`, () => {
      let program: Program;
      try {
        program = compile(each.expression, environment);
      } catch (error) {
        if (!(error instanceof CompilationError)) throw error;
        assert.equal(error.message, each.compile ?? `program instantiation failed: ${each.program}`);
        return;
      }
      assert.equal(each.compile ?? each.program, undefined);
      assert.equal(typeText(program.type), nameOf(each.type ?? ''));
      try {
        const { value, cost } = program.evaluateNow(activation);
        assert.equal(each.err, undefined);
        const shown = show(value);
        const isExact = typeof value !== 'bigint' || Number.isSafeInteger(Number(value));
        if (shown !== undefined && isExact) assert.equal(shown, each.value?.replace(/^map map.*/, shown));
        assert.ok(Math.abs(cost - (each.cost ?? 0)) <= costSlack, `${cost}, not ${each.cost}`);
      } catch (error) {
        if (!(error instanceof CelError)) throw error;
        assert.equal(error.message, each.err);
      }
    });

  it('ends when it has cost too much, and lets others run in between', async () => {
    const program = compile('lists.range(300000).all(x, x >= 0)', environment);
    assert.throws(() => program.evaluateNow(activation), CostError);
    let turns = 0;
    const nextTurn = async (): Promise<void> => {
      turns++;
    };
    await assert.rejects(program.evaluate(activation, nextTurn), CostError);
    assert.ok(turns > 3, String(turns));
    const { value } = await program.evaluate(activation, nextTurn, 10_000_000);
    assert.equal(value, true);
  });

  it('collects in time that grows with what it collects', () => {
    const program = compile('lists.range(50000).map(x, x * 2).size()', environment);
    assert.equal(program.evaluateNow(activation, 1e9).value, 50_000n);
  });

  it('is bounded in characters and depth', () => {
    assert.throws(() => compile('1'.repeat(100_001), environment), /code point size exceeds limit: size: 100001/);
    assert.throws(() => compile(`${'('.repeat(300)}1${')'.repeat(300)}`, environment), /recursion limit exceeded: 250/);
    assert.equal(compile(Array.from({ length: 5000 }, () => 'true').join(' && '), environment).type.kind, 'bool');
  });

  it('sees variables that are expressions, each evaluated once', () => {
    const inner = compile('l.map(x, x + 1)', environment);
    const lazy: LazyVariables = { programs: new Map([['next', inner]]), found: new Map() };
    const seen: Environment = {
      functions: baseFunctions,
      variables: new Map([
        ...variables,
        [
          'variables',
          { kind: 'object', name: 'Variables', field: (name) => (name === 'next' ? inner.type : undefined) },
        ],
      ]),
    };
    const program = compile('variables.next[0] == 2 && variables.next.size() == 3', seen);
    assert.equal(program.evaluateNow({ ...activation, lazy }).value, true);
    assert.equal(lazy.found.size, 1);
    assert.throws(() => compile('variables.other', seen), /undefined field 'other'/);
    assert.throws(() => compile("variables.next == 'a'", seen), /no matching overload for '_==_'/);
  });
});

describe('a list with keys', () => {
  const byName = (items: unknown[]): Value => fromJson(items, { kind: 'list', item: types.dyn, merge: ['name'] });
  const merged: Environment = {
    functions: baseFunctions,
    variables: new Map([
      ['a', types.dyn],
      ['b', types.dyn],
    ]),
  };
  const run = (expression: string, a: Value, b: Value): Value =>
    compile(expression, merged).evaluateNow({ variables: { a, b } }).value;

  it('is equal in any order, and takes what is added by its keys', () => {
    const [one, two, new2] = [
      { name: 'x', v: 1 },
      { name: 'y', v: 2 },
      { name: 'y', v: 3 },
    ];
    assert.equal(run('a == b', byName([one, two]), byName([two, one])), true);
    assert.deepEqual(toJson(run('a + b', byName([one, two]), byName([new2]))), [one, new2]);
    assert.equal(run('a == b', listOf([1n, 2n]), listOf([2n, 1n])), false);
    assert.equal([...itemsOf(listIn(run('a + b', listOf([1n]), listOf([2n]))))].length, 2);
  });
});

it('a day that no calendar has is no time', () => {
  for (const text of ['2024-02-30T00:00:00Z', '2023-02-29T00:00:00Z', '2024-04-31T00:00:00Z', '2024-01-01T24:00:00Z'])
    assert.throws(() => compile(`timestamp('${text}')`, environment), /invalid timestamp argument/);
  assert.ok(compile("timestamp('2024-02-29T23:59:59Z')", environment));
});

it('names of fields are escaped and found again', () => {
  for (const name of ['a', 'my-field', 'a.b/c', 'namespace', '__x', 'a__b', 'in'])
    assert.equal(fieldName(escapedName(name)), name);
  assert.equal(escapedName('my-field'), 'my__dash__field');
  assert.equal(escapedName('namespace'), '__namespace__');
});
