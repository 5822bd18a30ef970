/** Which paths of a client's directory a graph reads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeVertex } from './codec.ts';
import { narrowLocals } from './narrow.ts';
import { plainCopy, plainExec, rootMount } from './vertex-parts.ts';
import { listVertices } from './vertex.ts';
import type { Edge, ExecMount, ExecOp, FileAction, Operation } from './vertex.ts';

const edge = (op: Operation, inputs: Edge[] = []): Edge => ({
  vertex: makeVertex(op, inputs, { name: '' }),
  output: 0,
});
const local = (name: string): Edge => edge({ kind: 'source', identifier: `local://${name}`, attributes: { a: 'b' } });
const base = edge({ kind: 'source', identifier: 'docker-image://base', attributes: {} });

function copy(from: Edge, source: string, more: Partial<FileAction & { kind: 'copy' }> = {}): Edge {
  return edge({ kind: 'file', actions: [{ ...plainCopy, input: 0, from: 1, source, target: '/', ...more }] }, [
    base,
    from,
  ]);
}

function run(from: Edge, mount: Partial<ExecMount>): Edge {
  const { output: _output, ...plain } = rootMount;
  const op: ExecOp = {
    ...plainExec,
    args: ['x'],
    mounts: [
      { ...rootMount, input: 0 },
      { ...plain, target: '/m', input: 1, ...mount },
    ],
  };
  return edge(op, [base, from]);
}

/** By the directory's name; undefined: all of it. */
function followed(edges: (Edge | undefined)[], locals: Edge[]): Record<string, string[] | undefined> {
  const narrow = narrowLocals(edges, new Set(locals.map(({ vertex }) => vertex.digest)));
  const out: Record<string, string[] | undefined> = {};
  for (const each of edges.map(narrow))
    for (const { op, digest } of each === undefined ? [] : listVertices(each.vertex)) {
      if (op.kind !== 'source' || !op.identifier.startsWith('local://')) continue;
      const { 'local.followpaths': paths, ...rest } = op.attributes;
      assert.deepEqual(rest, { a: 'b' });
      assert.equal(digest, makeVertex(op, [], { name: '' }).digest);
      out[op.identifier.slice('local://'.length)] = paths === undefined ? undefined : (JSON.parse(paths) as string[]);
    }
  return out;
}

test('copies and mounts read the paths that they name, of each directory those of all edges', () => {
  const [one, two] = [local('one'), local('two')];
  const first = copy(one, 'src/*.go');
  const second = edge({ kind: 'merge' }, [first, copy(one, '/b/../a'), run(one, { selector: '/pkg' })]);
  assert.deepEqual(followed([second, copy(two, 'x'), undefined], [one, two]), {
    one: ['a', 'pkg', 'src/*.go'],
    two: ['x'],
  });
  assert.deepEqual(followed([copy(one, '/p', { include: ['*/q', 'r'] })], [one]), { one: ['p/*/q', 'p/r'] });
});

test('a directory of which something else is made counts as a whole', () => {
  const context = local('c');
  const whole: Edge[] = [
    context,
    copy(context, '/'),
    copy(context, '.'),
    run(context, {}),
    run(context, { selector: 'a[1]' }),
    run(context, { selector: 'a', output: 1 }),
    edge({ kind: 'merge' }, [base, context]),
    edge({ kind: 'diff', lower: 0, upper: 1 }, [base, context]),
    edge({ kind: 'build', input: 0, path: 'a' }, [context]),
    edge(
      { kind: 'file', actions: [{ kind: 'remove', input: 0, path: 'a', allowsNone: true, allowsWildcard: false }] },
      [context],
    ),
    copy(context, 'a', { owner: { user: { name: 'web', input: 1 } } }),
  ];
  for (const [at, each] of whole.entries()) {
    assert.deepEqual(followed([each], [context]), { c: undefined }, String(at));
    assert.deepEqual(followed([copy(context, 'a'), each], [context]), { c: undefined }, String(at));
    assert.deepEqual(followed([each, copy(context, 'a')], [context]), { c: undefined }, String(at));
  }
});

test('what is not named stays as it is', () => {
  const [one, other] = [local('one'), local('other')];
  const edges = [copy(other, 'a')];
  assert.deepEqual(followed(edges, [one]), { other: undefined });
  assert.equal(narrowLocals(edges, new Set([one.vertex.digest]))(edges[0])?.vertex, edges[0]?.vertex);
});
