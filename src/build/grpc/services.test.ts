/** The protocol from first call to last, driven as BuildKit's clients do; the builder behind it is a fake. */
import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';
import { readTar } from '#base/tar-read.ts';
import type { ImageRecord } from '#content/image-records.ts';
import { createFakeClock } from '#store/fake-clock.ts';
import { BuildStepError } from '../dockerfile/stage.ts';
import type { Builder } from '../builder.ts';
import type { BuildContext } from '../context.ts';
import { GrpcClient, GrpcError, serveGrpc } from './grpc.ts';
import type { Call, Handler } from './grpc.ts';
import type { Message } from './messages.ts';
import { buildServices } from './services.ts';
import { Sessions } from './session.ts';

const forever = new AbortController().signal;
const control = (name: string): string => `/moby.buildkit.v1.Control/${name}`;
const bridge = (name: string): string => `/moby.buildkit.v1.frontend.LLBBridge/${name}`;
const sync = '/moby.filesync.v1.FileSync/DiffCopy';

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

interface Bench {
  client: GrpcClient;
  requests: Parameters<Builder['build']>[0][];
  contexts: Map<string, string>[];
  build(attributes: Record<string, string>, exporters?: Message[]): Promise<{ answer: Message; shown: string[] }>;
}

interface Options {
  files?: Record<string, Record<string, File>>;
  build?: Builder['build'];
}

async function withBench(options: Options, check: (bench: Bench) => Promise<void>): Promise<void> {
  const sockets: Duplex[] = [];
  const connect = (handlers: ReadonlyMap<string, Handler>): Duplex => {
    const pair = duplexPair();
    sockets.push(...pair);
    serveGrpc(pair[1], handlers);
    return pair[0];
  };
  const requests: Bench['requests'] = [];
  const contexts: Bench['contexts'] = [];
  const record = { id: 'sha256:image', manifestDigest: 'sha256:manifest', file: { os: 'linux' } } as ImageRecord;
  const builder = {
    cache: { list: () => [], prune: async () => ({ ids: [], freedBytes: 0 }) },
    async receiveContext(source: AsyncIterable<Uint8Array>) {
      const texts = new Map<string, string>();
      for await (const { header, content } of readTar(source)) {
        let text = '';
        for await (const chunk of content) text += Buffer.from(chunk).toString();
        texts.set(header.path, header.type === 'file' ? text : `${header.type} ${header.linkTarget}`);
      }
      contexts.push(texts);
      return {
        text: (path: string) => texts.get(path),
        async [Symbol.asyncDispose]() {},
      } as unknown as BuildContext;
    },
    async build(request: Parameters<Builder['build']>[0]) {
      requests.push(request);
      const stage = request.output!.stage({ index: 0, name: undefined, base: 'base', instructions: [] });
      stage.begin('FROM', 'FROM base');
      try {
        return (await options.build?.(request)) ?? record;
      } catch (error) {
        stage.fail(error);
        throw error;
      } finally {
        stage.finish();
      }
    },
  } as unknown as Builder;
  const clock = createFakeClock();
  const sessions = new Sessions(clock);
  const client = new GrpcClient(connect(buildServices({ builder, sessions, clock, version: 'v1' })));
  sessions.add(connect(new Map([[sync, (call: Call) => shareFiles(call, options.files ?? {})]])), {
    id: 's1',
    methods: [sync],
  });
  let builds = 0;
  const build: Bench['build'] = async (attributes, exporters = []) => {
    const Ref = `ref${builds++}`;
    const solved = client.call(control('Solve'), { Ref, Session: 's1', Exporters: exporters }, forever);
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
  try {
    await check({ client, requests, contexts, build });
  } finally {
    client.close();
    for (const socket of sockets) socket.destroy();
  }
}

const goDirectory = 2 ** 31 + 0o755;
const goSymlink = 2 ** 27 + 0o777;

test('files come from the session, the builder builds, and the client gets names and digests', () =>
  withBench(
    {
      files: {
        dockerfile: { Dockerfile: { text: 'FROM base\nCOPY . /\n' }, other: { text: 'not asked for' } },
        context: {
          '.dockerignore': { text: 'out\n# no\n!out/keep\n' },
          d: { mode: goDirectory },
          'd/large': { text: 'x'.repeat(1000) },
          empty: { text: '' },
          link: { mode: goSymlink, link: 'd/large' },
        },
      },
    },
    async ({ build, requests, contexts }) => {
      const { answer, shown } = await build({ 'build-arg:A': '1', target: '' }, [
        { Type: 'moby', Attrs: { name: 'one,two:2' } },
      ]);
      assert.deepEqual(answer['ExporterResponse'], {
        'containerimage.config.digest': 'sha256:image',
        'containerimage.digest': 'sha256:manifest',
        'image.name': 'docker.io/library/one:latest,docker.io/library/two:2',
      });
      assert.deepEqual(shown, [
        '[internal] load build definition from Dockerfile',
        '[internal] load .dockerignore',
        '[internal] load build context',
        '[1/1] FROM base',
        'exporting to image',
      ]);
      const [request] = requests;
      assert.deepEqual([request!.tags, request!.buildArgs], [['one', 'two:2'], { A: '1' }]);
      assert.equal(request!.dockerfile, 'FROM base\nCOPY . /\n');
      assert.deepEqual([...contexts[0]!.keys()], ['Dockerfile']);
      assert.deepEqual(
        [...contexts[2]!],
        [
          ['.dockerignore', 'out\n# no\n!out/keep\n'],
          ['d/', 'directory '],
          ['d/large', 'x'.repeat(1000)],
          ['empty', ''],
          ['link', 'symlink d/large'],
        ],
      );
    },
  ));

test('what copies nothing asks for no context, and what is not exported has no name', () =>
  withBench({ files: { dockerfile: { D: { text: 'FROM base\nRUN x\nCOPY --from=base a b\n' } } } }, async (bench) => {
    const { answer, shown } = await bench.build({ filename: 'D' });
    assert.deepEqual(answer['ExporterResponse'], {
      'containerimage.config.digest': 'sha256:image',
      'containerimage.digest': 'sha256:manifest',
    });
    assert.deepEqual(shown, ['[internal] load build definition from D', '[1/1] FROM base']);
    assert.deepEqual([bench.requests[0]!.tags, bench.requests[0]!.context], [undefined, undefined]);
  }));

test('a step that fails is shown and told in the words of BuildKit', () =>
  withBench(
    {
      files: { dockerfile: { Dockerfile: { text: 'FROM base\n' } } },
      build: async () => {
        throw new BuildStepError('/bin/sh -c "x"', 3);
      },
    },
    async ({ build, client }) => {
      const message = 'process "/bin/sh -c \\"x\\"" did not complete successfully: exit code: 3';
      await assert.rejects(build({}), (error: unknown) => error instanceof GrpcError && error.message === message);
      await assert.rejects(build({ filename: 'none' }), /failed to read dockerfile: open none: no such file/);
      const solve = (request: Message): Promise<Message> => client.call(control('Solve'), request, forever);
      await assert.rejects(solve({ Ref: 'a', Exporters: [{ Type: 'local' }] }), /exporter "local" could not be found/);
      await assert.rejects(solve({ Ref: 'a', Frontend: 'gateway.v0' }), /unknown frontend: gateway\.v0/);
      await assert.rejects(
        solve({ Ref: 'a', Entitlements: ['security.insecure'] }),
        /security\.insecure is not allowed/,
      );
      await assert.rejects(solve({}), /a build needs a ref/);
    },
  ));

test('a build ends with the client that asked for it', async () => {
  const begun = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  await withBench(
    {
      files: { dockerfile: { Dockerfile: { text: 'FROM base\n' } } },
      build: ({ signal }) =>
        new Promise((_resolve, reject) => {
          begun.resolve();
          signal.addEventListener('abort', () => {
            aborted.resolve();
            reject(signal.reason as Error);
          });
        }),
    },
    async ({ client }) => {
      const gone = new AbortController();
      const solved = client.call(control('Solve'), { Ref: 'r', Session: 's1', Frontend: 'dockerfile.v0' }, gone.signal);
      await begun.promise;
      gone.abort();
      await assert.rejects(solved);
      await aborted.promise;
    },
  );
});
