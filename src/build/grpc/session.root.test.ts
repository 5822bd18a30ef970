/** What a build asks of its client's session: files, secrets, agents; and what it gives to it. */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { readTar } from '#base/tar-read.ts';
import { bytesOf } from '#content/testing.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { unary } from './grpc.ts';
import type { Message } from '#grpc/fields.ts';

import { context, dockerfile, goSymlink, makeBench, send } from './testing.ts';
import type { File } from './testing.ts';

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

test('labels of the request are in the image in one order, whatever order they came in, and no step', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nLABEL z=1\n') });
  const ids = [];
  for (const labels of [
    { 'label:a': '1', 'label:b': '2' },
    { 'label:b': '2', 'label:a': '1' },
  ]) {
    await bench.build(labels, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
    ids.push(bench.records.find('x')!.id);
  }
  assert.equal(ids[0], ids[1]);
  const { file } = bench.records.find('x')!;
  assert.deepEqual(file.config?.Labels, { z: '1', a: '1', b: '2' });
  assert.deepEqual(file.history?.map((entry) => entry.created_by).slice(-1), ['LABEL z=1']);
});

test('what was made to mount over is in no layer, also where a symlink of the image leads to it', async (t) => {
  const bench = await makeBench(
    t,
    {
      files: dockerfile('FROM base\nRUN --mount=type=tmpfs,target=/bin/a/b --mount=type=tmpfs,target=/c ["say","x"]\n'),
    },
    // As the runtime does.
    (_request, root) => {
      for (const made of ['usr/bin/a/b', 'c']) mkdirSync(join(root, made), { recursive: true });
    },
  );
  await bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  await bench.read(bench.records.find('x')!.layers, (root) => {
    assert.deepEqual([readdirSync(root).sort(), readdirSync(join(root, 'usr/bin'))], [['bin', 'etc', 'usr'], []]);
  });
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

test('a directory that WORKDIR makes is of the user that the steps run as', async (t) => {
  const bench = await makeBench(t, {
    files: dockerfile('FROM base\nUSER web\nWORKDIR /a/b\nUSER 7:staff\nWORKDIR c\n'),
  });
  await bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  await bench.read(bench.records.find('x')!.layers, (root) => {
    const ownerOf = (path: string): number[] => [statSync(join(root, path)).uid, statSync(join(root, path)).gid];
    assert.deepEqual(['a', 'a/b', 'a/b/c'].map(ownerOf), [
      [33, 44],
      [33, 44],
      [7, 50],
    ]);
  });
});

test('a cache begins as the directory that it is given, owner and mode too', async (t) => {
  const seen: unknown[] = [];
  const bench = await makeBench(
    t,
    {
      files: dockerfile(
        'FROM base AS first\nCOPY --chown=5:6 --chmod=710 . /all\nFROM base\nRUN --mount=type=cache,target=/c,from=first,source=/all/d ["say","x"]\n',
      ),
    },
    ({ mounts }) => {
      const { uid, gid, mode } = statSync(mounts[0]!.source);
      seen.push([uid, gid, mode & 0o7777, readdirSync(mounts[0]!.source)]);
    },
  );
  await bench.build({});
  assert.deepEqual(seen, [[5, 6, 0o710, ['large']]]);
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
  const { counts } = await bench.build({}, { Exporters: [{ Type: 'local' }] });
  // This client asks for the link's content, too.
  assert.equal(counts.get('copying files'), 2000);
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
    [{ compression: 'lzma' }, /unsupported compression type lzma/],
    [{ 'compression-level': 'best' }, /non-integer value best/],
    [{ mode: 'link' }, /mode=link is not carried out here/],
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

test('a client that builds again is asked for what has changed, and what is gone is gone', async (t) => {
  const files = dockerfile('FROM scratch\nCOPY . /\n');
  const asked: number[] = [];
  const bench = await makeBench(t, {
    files,
    onRequest: (directory, path) => {
      if (directory === 'context' && path !== '.dockerignore') asked.push(path.length);
    },
  });
  const Exporters = [{ Type: 'moby', Attrs: { name: 'x' } }];
  const contents = async (): Promise<Record<string, string>> => {
    await bench.build({}, { Exporters });
    const out: Record<string, string> = {};
    await bench.read(bench.records.find('x')!.layers, (root) => {
      for (const path of readdirSync(root, { recursive: true, encoding: 'utf8' }).sort())
        if (statSync(join(root, path)).isFile()) out[path] = readFileSync(join(root, path), 'utf8').slice(0, 3);
    });
    return out;
  };
  assert.deepEqual(await contents(), { '.dockerignore': 'out', 'd/large': 'xxx', empty: '', link: 'xxx' });
  assert.deepEqual(asked.splice(0), ['d/large'.length]);
  const before = bench.records.find('x')!.layers;
  files['context'] = { ...context, d: { text: 'now a file' }, new: { text: 'new' } };
  delete files['context']['d/large'];
  files['context']['link'] = { mode: goSymlink, link: 'new' };
  assert.deepEqual(await contents(), { '.dockerignore': 'out', d: 'now', empty: '', link: 'new', new: 'new' });
  assert.deepEqual(asked.splice(0), ['d'.length, 'new'.length]);
  // What was built from the files as they were has them still.
  await bench.read(before, (root) => assert.equal(readFileSync(join(root, 'd/large'), 'utf8'), 'x'.repeat(1000)));
  assert.ok(bench.builder.cache.list().some((item) => item.type === 'source.local' && item.uses === 2));
  await bench.builder.cache.prune({ all: true });
  assert.deepEqual(readdirSync(join(bench.content.root, 'contexts')), []);
});

test("a client's list of files leads nowhere outside", async (t) => {
  for (const [entries, expected] of [
    [{ '../x': {} }, /invalid path in the client's list of files: \.\.\/x/],
    [{ '/x': {} }, /invalid path/],
    [{ 'a/../../x': {} }, /invalid path/],
    [{ out: { mode: goSymlink, link: '/' }, 'out/x': {} }, /no directory for out\/x/],
    [{ 'a/x': {} }, /no directory for a\/x/],
    [{ l: { link: '../../etc/passwd' } }, /no file for the link l/],
  ] as [Record<string, File>, RegExp][]) {
    const bench = await makeBench(t, {
      files: { dockerfile: { Dockerfile: { text: 'FROM scratch\nCOPY . /\n' } }, context: entries },
    });
    await assert.rejects(bench.build({}), expected);
  }
});

test('a cache that is to begin with files that are not there fails its step and leaves nothing', async (t) => {
  const bench = await makeBench(t, {
    files: dockerfile('FROM base\nRUN --mount=type=cache,target=/c,from=base,source=/none ["say","x"]\n'),
  });
  await assert.rejects(bench.build({}), /"\/none": not found/);
  assert.deepEqual(readdirSync(join(bench.content.root, 'containers')), []);
});

test('a command is not run again for another stage whose files at the mounted path are the same', async (t) => {
  const files = dockerfile('');
  const bench = await makeBench(t, { files });
  const build = (other: string, at = '/all/d'): Promise<unknown> => {
    const first = `FROM base AS first\nCOPY d /all/d\nRUN ["write","/other","${other}"]\n`;
    const text = `${first}FROM base\nRUN --mount=from=first,src=${at},target=/m,rw ["say","x"]\n`;
    files['dockerfile'] = { Dockerfile: { text } };
    return bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  };
  const ran = (): string[] => bench.runs.splice(0).map(({ command }) => command[0]!);
  await build('1');
  assert.deepEqual(ran(), ['write', 'say']);
  await build('2');
  assert.deepEqual(ran(), ['write']);
  files['context'] = { ...context, 'd/large': { text: 'changed' } };
  await build('2');
  assert.deepEqual(ran(), ['write', 'say']);
  await assert.rejects(build('2', '/none'), /"\/none": not found/);
});
