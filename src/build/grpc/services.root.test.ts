/** The protocol from first call to last, driven as BuildKit's clients do. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';
import { readTar } from '#base/tar-read.ts';
import { bytesOf } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { realClock } from '#os/clock.real.ts';
import { encodeDefinition, makeVertex } from '../llb/codec.ts';
import { openTestBuilder } from '../testing.ts';
import type { TestBuilder } from '../testing.ts';
import { GrpcClient, GrpcError, code, serveGrpc, unary } from './grpc.ts';
import type { Call, Handler } from './grpc.ts';
import { methodOf } from './messages.ts';
import type { Message } from './messages.ts';
import { buildServices } from './services.ts';
import { Sessions } from './session.ts';

async function waitFor(isSo: () => boolean): Promise<void> {
  while (!isSo()) await realClock.sleep(5);
}

const forever = new AbortController().signal;
const control = (name: string): string => `/moby.buildkit.v1.Control/${name}`;
const bridge = (name: string): string => `/moby.buildkit.v1.frontend.LLBBridge/${name}`;
const sync = '/moby.filesync.v1.FileSync/DiffCopy';
const send = '/moby.filesync.v1.FileSend/DiffCopy';

interface File {
  text?: string;
  mode?: number;
  link?: string;
}

/** The client's side of a directory: lists it, sends what is asked for, in pieces. */
async function shareFiles({ metadata, messages, send }: Call, directories: Record<string, Record<string, File>>) {
  const name = String(metadata['dir-name']);
  const wanted = metadata['include-patterns'] as string | undefined;
  const entries = Object.entries(directories[name] ?? {})
    .filter(([path]) => wanted === undefined || wanted.split(', ').includes(path))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [path, { text = '', mode = 0o644, link = '' }] of entries)
    await send({ type: 0, stat: { path, mode, size: text.length, linkname: link, modTime: 1e18 } });
  await send({ type: 0 });
  const answer = async (message: Message): Promise<boolean> => {
    if (message['type'] === 3) return true;
    const id = message['ID'] as number;
    const text = entries[id]![1].text ?? '';
    for (let at = 0; at < text.length; at += 7)
      await send({ type: 2, ID: id, data: Buffer.from(text.slice(at, at + 7)) });
    await send({ type: 2, ID: id });
    return false;
  };
  for await (const message of messages) if (await answer(message)) break;
  await send({ type: 3 });
  return undefined;
}

interface Bench extends TestBuilder {
  client: GrpcClient;
  solve(request: Message): Promise<Message>;
  build(attributes: Record<string, string>, more?: Message): Promise<{ answer: Message; shown: string[] }>;
}

interface Options {
  files?: Record<string, Record<string, File>>;
  /** The client's side of an exporter expects a directory, not a stream. */
  takesDirectories?: boolean;
  /** Services of the session beside its files. */
  serves?: Record<string, Handler>;
}

async function makeBench(
  t: TestScope,
  options: Options,
  onRun?: Parameters<typeof openTestBuilder>[1],
): Promise<Bench> {
  const sockets: Duplex[] = [];
  const connect = (handlers: ReadonlyMap<string, Handler>): Duplex => {
    const pair = duplexPair();
    sockets.push(...pair);
    const packets = { request: 'fsutil.types.Packet', response: 'fsutil.types.Packet' };
    serveGrpc(pair[1], handlers, (path) => (path === send && options.takesDirectories ? packets : methodOf(path)));
    return pair[0];
  };
  const bench = await openTestBuilder(t, onRun);
  const sessions = new Sessions(realClock);
  const services = buildServices({ builder: bench.builder, sessions, clock: realClock, version: 'v1' });
  const client = new GrpcClient(connect(services));
  t.after(() => {
    client.close();
    for (const socket of sockets) socket.destroy();
  });
  const served = new Map([
    [sync, (call: Call) => shareFiles(call, options.files ?? {})],
    ...Object.entries(options.serves ?? {}),
  ]);
  sessions.add(connect(served), { id: 's1', methods: [...served.keys()] });
  let builds = 0;
  const build: Bench['build'] = async (attributes, more = {}) => {
    const Ref = `ref${builds++}`;
    const solved = client.call(control('Solve'), { Ref, Session: 's1', ...more }, forever);
    const shown: string[] = [];
    const watched = (async () => {
      using stream = client.open(control('Status'), {}, forever);
      await stream.send({ Ref });
      for await (const { vertexes } of stream.messages)
        for (const { name, completed, error } of vertexes as { name: string; completed: unknown; error: string }[])
          if (completed !== null) shown.push(error === '' ? name : `${name}: ${error}`);
    })();
    const ask = async (name: string, request: Message): Promise<Message> => {
      using stream = client.open(bridge(name), { 'buildkit-controlapi-buildid': Ref }, forever);
      await stream.send(request);
      const { value } = await stream.messages.next();
      return value as Message;
    };
    try {
      const result = await ask('Solve', {
        Frontend: 'dockerfile.v0',
        FrontendOpt: attributes,
        allowResultReturn: true,
      });
      await ask('Return', { result: result['result'] });
    } catch (error) {
      await ask('Return', { error: { code: 2, message: (error as Error).message } });
    }
    const [settled] = await Promise.allSettled([solved, watched]);
    if (settled.status === 'rejected') throw settled.reason;
    const answer = settled.value;
    return { answer, shown };
  };
  const solve = (request: Message): Promise<Message> => client.call(control('Solve'), request, forever);
  return { ...bench, client, solve, build };
}

const goDirectory = 2 ** 31 + 0o755;
const goSymlink = 2 ** 27 + 0o777;

const context = {
  '.dockerignore': { text: 'out\n# no\n!out/keep\n' },
  d: { mode: goDirectory },
  'd/large': { text: 'x'.repeat(1000) },
  empty: { text: '' },
  link: { mode: goSymlink, link: 'd/large' },
};

const dockerfile = (text: string): Record<string, Record<string, File>> => ({
  dockerfile: { Dockerfile: { text } },
  context,
});

test('files come from the session, the builder builds, and the client gets names and digests', async (t) => {
  const bench = await makeBench(t, {
    files: dockerfile('FROM base\nARG A\nCOPY . /all/\nRUN ["write","/$A","1"]\nENV B=$A\n'),
  });
  const exporters = [{ Type: 'moby', Attrs: { name: 'one,two:2' } }];
  const { answer, shown } = await bench.build({ 'build-arg:A': 'x', target: '' }, { Exporters: exporters });
  const record = bench.records.find('one')!;
  assert.deepEqual(answer['ExporterResponse'], {
    'containerimage.config.digest': record.id,
    'containerimage.digest': record.manifestDigest,
    'image.name': 'docker.io/library/one:latest,docker.io/library/two:2',
  });
  assert.deepEqual(shown, [
    '[internal] load build definition from Dockerfile',
    '[1/3] FROM base',
    '[internal] load .dockerignore',
    '[internal] load build context',
    '[2/3] COPY . /all/',
    '[3/3] RUN ["write","/$A","1"]',
    'exporting to image',
  ]);
  assert.deepEqual(record.file.config?.Env?.at(-1), 'B=x');
  await bench.read(record.layers, (root) => {
    assert.deepEqual(readdirSync(join(root, 'all')).sort(), ['.dockerignore', 'd', 'empty', 'link']);
    assert.equal(readFileSync(join(root, 'all/link'), 'utf8'), 'x'.repeat(1000));
  });
  const again = await bench.build({ 'build-arg:A': 'x' }, { Exporters: exporters });
  assert.deepEqual([again.answer, bench.runs.length], [answer, 1]);
});

test('what copies nothing asks for no context, and what is not exported has no name', async (t) => {
  const bench = await makeBench(t, {
    files: { dockerfile: { D: { text: 'FROM base\nCOPY --from=base etc/passwd b\n' } } },
  });
  const { answer, shown } = await bench.build({ filename: 'D' });
  assert.deepEqual(answer['ExporterResponse'], {});
  assert.deepEqual(shown, [
    '[internal] load build definition from D',
    '[1/2] FROM base',
    '[2/2] COPY --from=base etc/passwd b',
  ]);
});

test('a step that fails is shown and told in the words of BuildKit', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["fail","3"]\n') });
  await assert.rejects(bench.build({}), /process "fail 3" did not complete successfully: exit code: 3/);
  await assert.rejects(bench.build({ filename: 'none' }), /failed to read dockerfile: open none: no such file/);
  const { solve } = bench;
  await assert.rejects(solve({ Ref: 'a', Exporters: [{ Type: 'other' }] }), /exporter "other" could not be found/);
  await assert.rejects(solve({ Ref: 'a', Frontend: 'other' }), /unknown frontend: other/);
  await assert.rejects(solve({ Ref: 'a', Entitlements: ['security.insecure'] }), /security\.insecure is not allowed/);
  await assert.rejects(solve({}), /a build needs a ref/);
});

test('a source that is not there is told by its path', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nCOPY nothing /\n') });
  await assert.rejects(bench.build({}), /"\/nothing": not found/);
});

test('a build ends with the client that asked for it', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["wait"]\n') });
  const gone = new AbortController();
  const request = { Ref: 'r', Session: 's1', Frontend: 'dockerfile.v0' };
  const solved = bench.client.call(control('Solve'), request, gone.signal);
  await waitFor(() => bench.runs.length > 0);
  gone.abort();
  await assert.rejects(solved);
  await waitFor(() => bench.runs[0]!.signal.aborted);
});

test('secrets are files and variables of a step, and in no layer', async (t) => {
  const seen: string[] = [];
  const bench = await makeBench(
    t,
    {
      files: dockerfile(
        'FROM base\nRUN --mount=type=secret,id=token,required --mount=type=secret,id=token,env=T --mount=type=secret,id=none ["write","/f","1"]\n',
      ),
      serves: {
        '/moby.buildkit.secrets.v1.Secrets/GetSecret': unary(async ({ request }) => {
          if (request['ID'] !== 'token') throw new GrpcError(code.notFound, 'not found');
          return { data: Buffer.from('hidden') };
        }),
      },
    },
    ({ mounts, env }) => {
      for (const { source, target } of mounts) seen.push(`${target} ${readFileSync(source, 'utf8')}`);
      seen.push(...env.filter((each) => each.startsWith('T=')));
    },
  );
  await bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  assert.deepEqual(seen, ['/run/secrets/token hidden', 'T=hidden']);
  const { layers, file } = bench.records.find('x')!;
  await bench.read(layers, (root) => assert.deepEqual(readdirSync(root).sort(), ['bin', 'etc', 'f', 'usr']));
  assert.ok(!JSON.stringify(file).includes('hidden'));
  assert.equal(
    existsSync(join(bench.content.root, 'build-secrets')) &&
      readdirSync(join(bench.content.root, 'build-secrets')).length > 0,
    false,
  );
});

test('a secret that a step requires and the client has not fails the step', async (t) => {
  const bench = await makeBench(t, {
    files: dockerfile('FROM base\nRUN --mount=type=secret,id=none,required ["write","/f","1"]\n'),
  });
  await assert.rejects(bench.build({}), /secret none: not found/);
  assert.equal(bench.runs.length, 0);
});

test('a cache is kept between builds, and listed and pruned', async (t) => {
  const bench = await makeBench(
    t,
    {
      files: dockerfile(
        'FROM base\nARG N\nRUN --mount=type=cache,target=/c,id=k ["append","/n","$N"]\nRUN --mount=target=/src,rw ["say","x"]\n',
      ),
    },
    ({ mounts }) => {
      for (const { source, target } of mounts)
        if (target === '/c') writeFileSync(join(source, 'log'), 'x', { flag: 'a' });
      for (const { source, target } of mounts) if (target === '/src') assert.ok(existsSync(join(source, 'd/large')));
    },
  );
  for (const n of ['1', '2']) await bench.build({ 'build-arg:N': n });
  const [cache] = bench.builder.cache.list().filter((item) => item.type === 'exec.cachemount');
  assert.deepEqual([cache?.about, cache?.uses, cache?.isInUse], ['cached mount /k', 2, false]);
  const { removed } = await bench.builder.cache.prune({ all: true });
  assert.ok(removed.some((item) => item.id === cache?.id));
  assert.deepEqual(readdirSync(join(bench.content.root, 'cache-mounts')), []);
});

test('contexts by name stand in place of images and stages', async (t) => {
  const bench = await makeBench(t, {
    files: { ...dockerfile('FROM other\nCOPY --from=files /f /f\n'), extra: { f: { text: 'extra' } } },
  });
  await bench.build(
    { 'context:other': 'docker-image://base', 'context:files': 'local:extra' },
    { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] },
  );
  await bench.read(bench.records.find('x')!.layers, (root) =>
    assert.equal(readFileSync(join(root, 'f'), 'utf8'), 'extra'),
  );
});

test("a definition of the client's own is carried out, and no other bytes are", async (t) => {
  const bench = await makeBench(t, {});
  const image = makeVertex({ kind: 'source', identifier: 'docker-image://base', attributes: {} }, [], {
    name: 'image',
  });
  const file = makeVertex(
    {
      kind: 'file',
      actions: [
        { kind: 'makeDirectory', path: '/a/b', mode: 0o700, makesParents: true, input: 0 },
        { kind: 'makeFile', path: '/a/b/f', mode: 0o600, data: Buffer.from('text'), input: 1 },
        { kind: 'symlink', path: '/a/l', linkTarget: 'b/f', input: 2 },
        { kind: 'remove', path: '/etc/pass*', allowsNone: false, allowsWildcard: true, input: 3, output: 0 },
      ],
    },
    [{ vertex: image, output: 0 }],
    { name: 'files' },
  );
  const definition = encodeDefinition({ vertex: file, output: 0 });
  const Exporters = [{ Type: 'image', Attrs: { name: 'llb' } }];
  await bench.solve({ Ref: 'l', Session: 's1', Definition: definition, Exporters });
  await bench.read(bench.records.find('llb')!.layers, (root) => {
    assert.equal(readFileSync(join(root, 'a/l'), 'utf8'), 'text');
    assert.equal(statSync(join(root, 'a/b')).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(join(root, 'etc')), ['group']);
  });
  await assert.rejects(
    bench.solve({ Ref: 'm', Session: 's1', Definition: { def: [Buffer.from('nonsense')] } }),
    /invalid|index out of range|illegal/i,
  );
});

test('a result goes to the client as a directory: what it asks for it gets, links as links', async (t) => {
  const got = new Map<string, string>();
  const bench = await makeBench(t, {
    files: dockerfile('FROM scratch\nCOPY d/large link /x/\nCOPY empty /e\n'),
    takesDirectories: true,
    serves: {
      // Takes the list, asks for each file, and ends when all are there.
      [send]: async ({ messages, send: answer }) => {
        const stats: Message[] = [];
        let wanted = 0;
        for await (const message of messages) {
          const stat = message['stat'] as Message | null;
          if (message['type'] === 0 && stat !== null) stats.push(stat);
          else if (message['type'] === 0) {
            for (const [id, each] of stats.entries())
              if ((each['mode'] as number) < 2 ** 20) {
                wanted++;
                await answer({ type: 1, ID: id });
              } else got.set(each['path'] as string, each['linkname'] as string);
          } else if (message['type'] === 2) {
            const path = stats[message['ID'] as number]!['path'] as string;
            const data = message['data'] as Buffer;
            got.set(path, (got.get(path) ?? '') + data.toString());
            if (data.length === 0 && --wanted === 0) await answer({ type: 3 });
          } else break;
        }
        return undefined;
      },
    },
  });
  await bench.build({}, { Exporters: [{ Type: 'local' }] });
  assert.deepEqual(
    [...got].sort(([a], [b]) => (a < b ? -1 : 1)),
    [
      ['e', ''],
      ['x', ''],
      ['x/large', 'x'.repeat(1000)],
      ['x/link', 'x'.repeat(1000)],
    ],
  );
});

test('a result goes to the client as an archive, of files or of an image', async (t) => {
  const archives: Buffer[] = [];
  const bench = await makeBench(t, {
    files: dockerfile('FROM scratch\nCOPY d/large /f\n'),
    serves: {
      [send]: async ({ messages }) => {
        const parts: Buffer[] = [];
        for await (const message of messages) parts.push(message['data'] as Buffer);
        archives.push(Buffer.concat(parts));
        return undefined;
      },
    },
  });
  await bench.build({}, { Exporters: [{ Type: 'tar' }, { Type: 'oci', Attrs: { name: 'away:1' } }] });
  const names: string[][] = [];
  for (const archive of archives) {
    const found: string[] = [];
    for await (const { header } of readTar(bytesOf(archive))) found.push(header.path);
    names.push(found);
  }
  assert.deepEqual(names[0], ['f']);
  assert.ok(['index.json', 'oci-layout'].every((name) => names[1]!.includes(name)));
  assert.equal(bench.records.find('away:1'), undefined);
  for (const [attributes, expected] of [
    [{ compression: 'zstd' }, /compression=zstd is not carried out here/],
    [{ push: 'true' }, /tag is needed when pushing/],
  ] as const)
    await assert.rejects(bench.solve({ Ref: 'x', Exporters: [{ Type: 'image', Attrs: attributes }] }), expected);
});

test("a step talks with the client's agent by a socket of its own", async (t) => {
  let answer = '';
  const bench = await makeBench(
    t,
    {
      files: dockerfile('FROM base\nRUN --mount=type=ssh ["say","x"]\nRUN --mount=type=ssh,id=other ["say","y"]\n'),
      serves: {
        '/moby.sshforward.v1.SSH/CheckAgent': unary(async ({ request }) => {
          if (request['ID'] !== 'default') throw new GrpcError(code.unknown, 'unset ssh forward key');
          return {};
        }),
        '/moby.sshforward.v1.SSH/ForwardAgent': async ({ messages, send: reply }) => {
          for await (const { data } of messages) await reply({ data: Buffer.from(`${String(data)}!`) });
          return undefined;
        },
      },
    },
    async ({ mounts, env }) => {
      const source = mounts.find(({ target }) => target === '/run/buildkit/ssh_agent.0')?.source;
      if (source === undefined) return;
      assert.ok(env.includes('SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0'));
      const directory = openSync(dirname(source), 'r');
      const socket = connect(`/proc/self/fd/${directory}/${basename(source)}`);
      socket.end('sign');
      for await (const bytes of socket) answer += String(bytes);
      closeSync(directory);
    },
  );
  await bench.build({});
  assert.deepEqual([answer, bench.runs.length, bench.runs[1]!.mounts.length], ['sign!', 2, 0]);
});

test('a front end reads what it made, and the images that it stands on', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nCOPY d /d\n') });
  const solving = bench.client.call(control('Solve'), { Ref: 'f', Session: 's1' }, forever);
  const ask = async (name: string, request: Message): Promise<Message> => {
    using stream = bench.client.open(bridge(name), { 'buildkit-controlapi-buildid': 'f' }, forever);
    await stream.send(request);
    const { value } = await stream.messages.next();
    return value as Message;
  };
  const { result } = await ask('Solve', { Frontend: 'dockerfile.v0' });
  const Ref = ((result as Message)['ref'] as Message)['id'];
  const read = await ask('ReadFile', { Ref, FilePath: '/d/large', Range: { Offset: 990, Length: 100 } });
  assert.equal(String(read['Data']), 'x'.repeat(10));
  const { entries } = await ask('ReadDir', { Ref, DirPath: '/' });
  assert.deepEqual(
    (entries as Message[]).map((each) => each['path']),
    ['bin', 'd', 'etc', 'usr'],
  );
  const { stat } = await ask('StatFile', { Ref, Path: '/d' });
  assert.equal((stat as Message)['mode'], goDirectory);
  await assert.rejects(ask('ReadFile', { Ref, FilePath: '/none' }), /no such file or directory/);
  await assert.rejects(ask('StatFile', { Ref: '77', Path: '/' }), /no such reference: 77/);
  const image = await ask('ResolveImageConfig', { Ref: 'docker.io/library/base:latest' });
  assert.equal(JSON.parse(String(image['Config'])).os, 'linux');
  await ask('Return', { result: {} });
  await solving;
});
