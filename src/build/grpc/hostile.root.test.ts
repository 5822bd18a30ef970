/** Clients that lie: in their lists of files, in their definitions, and by what their commands leave behind. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestScope } from '#content/testing.ts';
import { pause } from '#os/clock.ts';
import { realClock } from '#os/clock.real.ts';
import { encodeDefinition, makeVertex } from '../llb/codec.ts';
import { plainCopy, plainExec, rootMount } from '../llb/vertex-parts.ts';
import type { Edge, ExecOp, FileAction, Operation } from '../llb/vertex.ts';
import type { Handler } from './grpc.ts';
import { buildsInParallelMax } from '../limits.ts';
import { stepLogBytesMax } from './limits.ts';
import type { Message } from '#grpc/fields.ts';
import { control, dockerfile, forever, goDirectory, goSymlink, makeBench, waitFor } from './testing.ts';
import type { Bench } from './testing.ts';

const sync = '/moby.filesync.v1.FileSync/DiffCopy';

function hostDirectory(t: TestScope): string {
  const path = mkdtempSync(join(tmpdir(), 'tiphys-host-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Shares a Dockerfile, and as the context a list as it stands, with what `answer` says to what is asked for. */
function sharing(list: Message[], answer: (id: number) => Message[]): Handler {
  return async ({ metadata, messages, send }) => {
    const text = Buffer.from('FROM scratch\nCOPY . /\n');
    const isContext = metadata['dir-name'] === 'context';
    const stats = isContext ? list : [{ path: 'Dockerfile', mode: 0o644, size: text.length, modTime: 1e18 }];
    for (const stat of stats) await send({ type: 0, stat });
    await send({ type: 0 });
    for await (const { type, ID } of messages) {
      if (type === 3) break;
      const told = isContext ? answer(ID as number) : [{ ID, data: text }, { ID }];
      for (const each of told) await send({ type: 2, ...each });
    }
    await send({ type: 3 });
    return undefined;
  };
}

test('a directory of the list that becomes a symlink further on leads nowhere', async (t) => {
  const host = hostDirectory(t);
  const list = [
    { path: 'd', mode: goDirectory },
    { path: 'd/f', mode: 0o644, size: 1 },
    { path: 'd', mode: goSymlink, linkname: host },
  ];
  const bench = await makeBench(t, {
    serves: { [sync]: sharing(list, (ID) => [{ ID, data: Buffer.from('x') }, { ID }]) },
  });
  await assert.rejects(bench.build({}), /has d twice/);
  assert.deepEqual(readdirSync(host), []);
});

test('a file that holds less than its list says is an error, and what holds more is cut', async (t) => {
  const list = [
    { path: 'a', mode: 0o644, size: 3 },
    { path: 'b', mode: 0o644, size: 2 },
  ];
  const long = Buffer.from('long text');
  let length = long.length;
  const told = (ID: number): Message[] => [{ ID, data: long.subarray(0, length) }, { ID }];
  const bench = await makeBench(t, { serves: { [sync]: sharing(list, told) } });
  await bench.build({}, { Exporters: [{ Type: 'image', Attrs: { name: 'x' } }] });
  await bench.read(bench.records.find('x')!.layers, (root) =>
    assert.deepEqual(
      ['a', 'b'].map((name) => readFileSync(join(root, name), 'utf8')),
      ['lon', 'lo'],
    ),
  );
  length = 1;
  const short = [{ path: 'a', mode: 0o644, size: 2 ** 50 }];
  const other = await makeBench(t, { serves: { [sync]: sharing(short, told) } });
  await assert.rejects(other.build({}), /a is \d+ bytes shorter than the client's list says/);
  assert.deepEqual(readdirSync(join(other.content.root, 'contexts')), []);
});

test('a symlink that a command puts above its mount does not lead outside', async (t) => {
  const host = hostDirectory(t);
  mkdirSync(join(host, 'victim'));
  const bench = await makeBench(
    t,
    { files: dockerfile('FROM base\nRUN --mount=type=tmpfs,target=/a/victim ["say","x"]\n') },
    // As the runtime makes what it mounts over, and the command moves it.
    (_request, root) => {
      mkdirSync(join(root, 'a/victim'), { recursive: true });
      renameSync(join(root, 'a'), join(root, 'z'));
      symlinkSync(host, join(root, 'a'));
    },
  );
  await bench.build({});
  assert.ok(existsSync(join(host, 'victim')));
});

const command = (op: Partial<ExecOp>): ExecOp => ({
  ...plainExec,
  args: ['write', '/f', '1'],
  mounts: [{ ...rootMount, input: 0 }],
  ...op,
});
const makeFile = (path: string, more: Partial<FileAction>): FileAction =>
  ({ kind: 'makeFile', path, mode: 0o600, data: Buffer.from(path), ...more }) as FileAction;

let solves = 0;
async function solve(bench: Bench, edge: Edge): Promise<Message> {
  const Exporters = [{ Type: 'image', Attrs: { name: 'llb' } }];
  const Definition = encodeDefinition(edge);
  return bench.solve({ Ref: `llb${solves++}`, Session: 's1', Definition, Exporters });
}
const image = makeVertex({ kind: 'source', identifier: 'docker-image://base', attributes: {} }, [], { name: 'image' });
const on = (op: Operation, output = 0): Edge => ({
  vertex: makeVertex(op, [{ vertex: image, output: 0 }], { name: 'x' }),
  output,
});

test('indices of a definition stay inside of it', async (t) => {
  const bench = await makeBench(t, {});
  const copy = (more: Partial<FileAction>): FileAction =>
    ({ ...plainCopy, source: '/', target: '/', input: 0, from: 0, output: 0, ...more }) as FileAction;
  const rows: [Edge, RegExp][] = [
    [on(command({ mounts: [{ ...rootMount, input: 0, output: 2 ** 31 - 1 }] })), /names output 2147483647 of 1/],
    [on(command({ mounts: [{ ...rootMount, input: 7 }] })), /names input 7 of 1/],
    [on(command({}), 5), /no output 5/],
    [on({ kind: 'file', actions: [copy({ from: 1 })] }), /names input 1 of 1/],
    [on({ kind: 'file', actions: [copy({ input: 2 }), copy({})] }), /names input 2 of 1/],
    [on({ kind: 'file', actions: [copy({ output: 2 ** 31 - 1 })] }), /names output 2147483647 of 1/],
    [on({ kind: 'file', actions: [copy({}), copy({})] }), /names an output twice/],
    [on({ kind: 'diff', lower: 0, upper: 3 }), /names input 3 of 1/],
  ];
  for (const [edge, expected] of rows) await assert.rejects(solve(bench, edge), expected);
});

test('actions that copy what the one before made do each work once', async (t) => {
  const bench = await makeBench(t, {});
  const actions: FileAction[] = [makeFile('/f', { input: 0 })];
  for (let n = 1; n < 16; n++)
    actions.push({
      ...plainCopy,
      source: '/f',
      target: `/f${n}`,
      input: n,
      from: n,
      ...(n === 15 ? { output: 0 } : {}),
    });
  await solve(bench, on({ kind: 'file', actions }));
  await bench.read(bench.records.find('llb')!.layers, (root) => assert.ok(existsSync(join(root, 'f15'))));
});

test('what differs in the order of actions, or in what becomes which output, is other work', async (t) => {
  const bench = await makeBench(t, {});
  const filesOf = async (actions: FileAction[]): Promise<string[]> => {
    await solve(bench, on({ kind: 'file', actions }));
    let names: string[] = [];
    await bench.read(bench.records.find('llb')!.layers, (root) => (names = readdirSync(root)));
    return names.filter((name) => name.length === 1);
  };
  assert.deepEqual(await filesOf([makeFile('/a', { input: 0 }), makeFile('/b', { input: 1, output: 0 })]), ['a', 'b']);
  assert.deepEqual(await filesOf([makeFile('/a', { input: 0 }), makeFile('/b', { input: 0, output: 0 })]), ['b']);
  assert.deepEqual(await filesOf([makeFile('/a', { input: 0, output: 0 }), makeFile('/b', { input: 1 })]), ['a']);
});

test('a definition is as deep as it is long', async (t) => {
  const bench = await makeBench(t, {});
  let edge: Edge = { vertex: image, output: 0 };
  for (let n = 0; n < 15_000; n++)
    edge = { vertex: makeVertex({ kind: 'merge' }, [edge], { name: `m${n}` }), output: 0 };
  await solve(bench, edge);
  assert.ok(bench.records.find('llb'));
});

test('a front end that does not speak the protocol is ended', async (t) => {
  const bench = await makeBench(t, {}, async ({ io, signal }) => {
    io?.stdin.resume();
    while (!signal.aborted) {
      if (io?.stdout.destroyed === false) io.stdout.write('garbage'.repeat(1000));
      await realClock.sleep(5);
    }
  });
  const request = { Ref: 'f', Session: 's1', Frontend: 'gateway.v0', FrontendAttrs: { source: 'base' } };
  await assert.rejects(bench.solve(request), /does not speak the protocol/);
});

test('what a step prints is shown so far as it can be read', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["say","x"]\n') }, ({ onOutput }) => {
    for (let n = 0; n < 100; n++) onOutput(Buffer.alloc(stepLogBytesMax / 50, 'x'));
  });
  const { printed } = await bench.build({});
  assert.match(printed.slice(-100), /\n\[output clipped, log limit 2MiB reached\]\n$/);
  assert.ok(printed.length < stepLogBytesMax + 100);
});

test('builds that wait for one that is given up do its work once', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["say","x"]\n') }, async ({ signal }) => {
    if (bench.runs.length === 1) await pause(realClock, 60_000, signal);
  });
  const gone = new AbortController();
  const asked = { Session: 's1', Frontend: 'dockerfile.v0' };
  const first = bench.client.call(control('Solve'), { Ref: 'first', ...asked }, gone.signal);
  await waitFor(() => bench.runs.length === 1);
  const others = ['a', 'b', 'c'].map((Ref) => bench.client.call(control('Solve'), { Ref, ...asked }, forever));
  await realClock.sleep(50);
  gone.abort();
  await assert.rejects(first);
  await Promise.all(others);
  assert.equal(bench.runs.length, 2);
});

test('builds that wait for another and are given up leave their places to others', async (t) => {
  const files = dockerfile('FROM base\nARG N\nRUN ["say","$N"]\n');
  const released = Promise.withResolvers<void>();
  const bench = await makeBench(t, { files }, async () => {
    if (bench.runs.length === 1) await released.promise;
  });
  const gone = new AbortController();
  const solve = (Ref: string, N: string, signal = forever): Promise<unknown> => {
    const attributes = { 'build-arg:N': N };
    const asked = { Ref, Session: 's1', Frontend: 'dockerfile.v0', FrontendAttrs: attributes };
    return bench.client.call(control('Solve'), asked, signal);
  };
  const first = solve('first', '1');
  await waitFor(() => bench.runs.length === 1);
  const waiting = Array.from({ length: buildsInParallelMax }, (_, at) => solve(`w${at}`, '1', gone.signal));
  await realClock.sleep(50);
  gone.abort();
  await Promise.allSettled(waiting);
  await solve('other', '2');
  assert.equal(bench.runs.length, 2);
  released.resolve();
  await first;
});
