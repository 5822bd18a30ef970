/** Differences of trees that do not stand on each other, and builds within builds, as clients of LLB ask for them. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ImageLayer } from '#content/image-records.ts';
import { encodeDefinition, makeVertex } from './codec.ts';
import { encodeMessage } from '../grpc/messages.ts';
import { makeBench } from '../grpc/testing.ts';
import type { Bench } from '../grpc/testing.ts';
import { hostPlatform } from '#base/platform.ts';
import { plainExec } from './vertex-parts.ts';
import type { Edge, ExecOp, Operation } from './vertex.ts';

const edgeOf = (op: Operation, inputs: Edge[], name = ''): Edge => ({
  vertex: makeVertex(op, inputs, { name }),
  output: 0,
});
const base: Edge = {
  vertex: makeVertex(
    { kind: 'source', identifier: 'docker-image://docker.io/library/base:latest', attributes: {} },
    [],
    {
      name: 'base',
      platform: hostPlatform(),
    },
  ),
  output: 0,
};

function run(args: string[], on: Edge): Edge {
  const mount = { kind: 'bind', input: 0, selector: '', target: '/', output: 0, isReadOnly: false } as const;
  const none = {
    sizeBytes: 0,
    id: '',
    sharing: 'shared',
    owner: { uid: 0, gid: 0 },
    mode: 0,
    isOptional: false,
  } as const;
  const op: ExecOp = {
    ...plainExec,
    args,
    mounts: [{ ...mount, ...none }],
  };
  return edgeOf(op, [on], args.join(' '));
}

let builds = 0;

/** Layers of the image that becomes of the edge. */
async function imageOf(bench: Bench, edge: Edge): Promise<ImageLayer[]> {
  const Exporters = [{ Type: 'image', Attrs: { name: 'made' } }];
  await bench.solve({ Ref: `r${builds++}`, Session: 's1', Definition: encodeDefinition(edge), Exporters });
  return bench.records.find('made')!.layers;
}

test('what is to become of one tree so that it is another is one layer', async (t) => {
  const write = (root: string, is: 'a' | 'b'): void => {
    for (const name of ['kept', 'changed', is]) writeFileSync(join(root, name), name === 'kept' ? 'same' : is);
    mkdirSync(join(root, 'd'), { mode: 0o700 });
    writeFileSync(join(root, 'd', is), is);
    symlinkSync(is, join(root, 'link'));
    if (is === 'a') mkdirSync(join(root, 'turns'));
    else writeFileSync(join(root, 'turns'), 'file');
    if (is === 'b') chmodSync(join(root, 'd'), 0o755);
    if (is === 'b') rmSync(join(root, 'etc/group'));
  };
  const bench = await makeBench(t, {}, ({ command }, root) => {
    if (command[1] === 'a' || command[1] === 'b') write(root, command[1]);
  });
  const [a, b] = [run(['say', 'a'], base), run(['say', 'b'], base)];
  const difference = edgeOf({ kind: 'diff', lower: 0, upper: 1 }, [a, b]);
  const alone = await imageOf(bench, difference);
  assert.equal(alone.length, 1);
  const whole = await imageOf(bench, edgeOf({ kind: 'merge' }, [a, difference]));
  await bench.read(whole, (root) => {
    assert.deepEqual(readdirSync(root).sort(), ['b', 'bin', 'changed', 'd', 'etc', 'kept', 'link', 'turns', 'usr']);
    assert.deepEqual(readdirSync(join(root, 'd')), ['b']);
    assert.equal(lstatSync(join(root, 'd')).mode & 0o777, 0o755);
    assert.equal(readFileSync(join(root, 'changed'), 'utf8'), 'b');
    assert.equal(readFileSync(join(root, 'link'), 'utf8'), 'b');
    assert.equal(readFileSync(join(root, 'turns'), 'utf8'), 'file');
    assert.ok(!existsSync(join(root, 'etc/group')) && existsSync(join(root, 'etc/passwd')));
  });
  assert.equal(bench.runs.length, 2);
  assert.deepEqual(await imageOf(bench, difference), alone);
});

test('a definition in a file is carried out in its place, and may not hold itself for ever', async (t) => {
  const inner = run(['write', '/inner', '1'], base);
  let definition: Uint8Array = encodeMessage('pb.Definition', encodeDefinition(inner));
  const bench = await makeBench(t, {}, ({ command }, root) => {
    if (command[1] === 'definition') writeFileSync(join(root, 'here'), definition);
  });
  const outer = edgeOf({ kind: 'build', input: 0, path: 'here' }, [run(['say', 'definition'], base)]);
  await bench.read(await imageOf(bench, outer), (root) => {
    assert.equal(readFileSync(join(root, 'inner'), 'utf8'), '1');
    assert.ok(!existsSync(join(root, 'here')));
  });
  const missing = edgeOf({ kind: 'build', input: 0, path: '../none' }, [base]);
  await assert.rejects(imageOf(bench, missing), /open \.\.\/none: no such file or directory/);
  definition = encodeMessage('pb.Definition', encodeDefinition(outer));
  const again = await makeBench(t, {}, ({ command }, root) => {
    if (command[1] === 'definition') writeFileSync(join(root, 'here'), definition);
  });
  await assert.rejects(imageOf(again, outer), /builds within builds are at most 8 deep/);
});
