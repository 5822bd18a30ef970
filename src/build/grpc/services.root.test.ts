/** The protocol from first call to last, driven as BuildKit's clients do. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hostPlatform } from '#base/platform.ts';
import { mediaTypes } from '#content/image-records.ts';
import { encodeDefinition, makeVertex } from '../llb/codec.ts';
import { realClock } from '#os/clock.real.ts';
import { GrpcError } from '#grpc/errors.ts';
import { BuildHistory } from './history.ts';
import { messagesIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';

import { bridge, control, dockerfile, forever, goDirectory, makeBench, waitFor } from './testing.ts';

test('files come from the session, the builder builds, and the client gets names and digests', async (t) => {
  const bench = await makeBench(t, {
    files: dockerfile('FROM base\nARG A\nCOPY . /all/\nRUN ["write","/$A","1"]\nENV B=$A\n'),
  });
  const exporters = [{ Type: 'moby', Attrs: { name: 'one,two:2' } }];
  const { answer, shown } = await bench.build({ 'build-arg:A': 'x', target: '' }, { Exporters: exporters });
  const record = bench.records.find('one')!;
  const { 'containerimage.descriptor': descriptor, ...told } = answer['ExporterResponse'] as Record<string, string>;
  assert.deepEqual(JSON.parse(Buffer.from(descriptor!, 'base64').toString()), {
    mediaType: mediaTypes.dockerManifest,
    digest: record.manifestDigest,
    size: bench.content.blobs.size(record.manifestDigest),
    platform: hostPlatform(),
  });
  assert.deepEqual(told, {
    'containerimage.config.digest': record.id,
    'containerimage.digest': record.manifestDigest,
    'image.name': 'docker.io/library/one:latest,docker.io/library/two:2',
  });
  assert.deepEqual(shown, [
    '[internal] load build definition from Dockerfile',
    '[internal] load metadata for docker.io/library/base:latest',
    '[internal] load .dockerignore',
    '[1/3] FROM docker.io/library/base:latest',
    '[internal] load build context',
    '[2/3] COPY . /all/',
    '[3/3] RUN ["write","/x","1"]',
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

test('the history shows instructions as they were expanded, with what decides the files', async (t) => {
  const lines = [
    'ARG A=1',
    'ENV B=$A C="two words"',
    'WORKDIR /w/$A',
    'COPY --chown=$A --chmod=600 ["empty", "x$A"]',
    'COPY --chmod=700 <<-E empty d/',
    '\ttext',
    '\tE',
    'ONBUILD RUN x',
    'CMD x $B',
  ];
  const bench = await makeBench(t, { files: dockerfile(`FROM scratch\n${lines.join('\n')}\n`) });
  await bench.build({ 'build-arg:A': '7' }, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  const { file } = bench.records.find('x')!;
  assert.deepEqual(
    file.history?.map((entry) => entry.created_by),
    [
      'ARG A=7',
      'ENV B=7 C=two words',
      'WORKDIR /w/7',
      'COPY --chown=7 --chmod=600 empty x7 # buildkit',
      'COPY --chmod=700 empty <<E d/ # buildkit',
      'CMD ["/bin/sh" "-c" "x $B"]',
    ],
  );
});

test('what copies nothing asks for no and what is not exported has no name', async (t) => {
  const bench = await makeBench(t, {
    files: { dockerfile: { D: { text: 'FROM base\nCOPY --from=base etc/passwd b\n' } } },
  });
  const { answer, shown } = await bench.build({ filename: 'D' });
  assert.deepEqual(answer['ExporterResponse'], {});
  assert.deepEqual(shown, [
    '[internal] load build definition from D',
    '[internal] load metadata for docker.io/library/base:latest',
    '[1/2] FROM docker.io/library/base:latest',
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

test('a failure says where in the Dockerfile it stands', async (t) => {
  const text = 'FROM base\nRUN ["say","x"]\nRUN ["fail", \\\n  "3"]\n';
  for (const [file, lines] of [
    [text, [3, 4]],
    ['FROM base\nCOPY none /\n', [2, 2]],
    ['FROM base\n\nRUNN x\n', [3, 3]],
  ] as const) {
    const bench = await makeBench(t, { files: { dockerfile: { Dockerfile: { text: file } }, context: {} } });
    await assert.rejects(bench.solve({ Ref: 'e', Session: 's1', Frontend: 'dockerfile.v0' }), (error: unknown) => {
      assert.ok(error instanceof GrpcError);
      const detail = error.details.find((each) => String(each['type_url']).endsWith('/errdefs.Source+json'));
      assert.ok(detail !== undefined);
      const { info, ranges } = JSON.parse(String(detail['value']));
      assert.deepEqual(
        [info.filename, Buffer.from(info.data, 'base64').toString(), ranges[0].start.line, ranges.at(-1).end.line],
        ['Dockerfile', file, ...lines],
      );
      return true;
    });
  }
});

test('builds of before are told of, with what they told, also by the next process', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["say","hello"]\nRUN ["fail","3"]\n') });
  await assert.rejects(bench.build({}));
  const history = new BuildHistory(bench.content, realClock);
  const events: Message[] = [];
  const listen = (request: Message): Promise<void> =>
    history.listen({ EarlyExit: true, ...request }, forever, async (event) => void events.push(event));
  await listen({});
  const [{ record, type }] = events as [{ record: Message; type: number }];
  assert.deepEqual(
    [type, record['Ref'], record['numTotalSteps'], (record['error'] as Message)['message']],
    [1, 'ref0', 5, 'process "fail 3" did not complete successfully: exit code: 3'],
  );
  const told = (await history.log('ref0'))!.flatMap(({ logs }) => logs as { msg: Buffer }[]);
  assert.equal(told.map(({ msg }) => String(msg)).join(''), 'hello\n');
  await bench.content.collect({ evenYoung: true });
  assert.ok(await history.log('ref0'));
  await history.update({ Ref: 'ref0', Delete: true });
  events.length = 0;
  await listen({ Ref: 'ref0' });
  assert.deepEqual([events, await history.log('ref0')], [[], undefined]);
});

test('a step that is stopped by the failure of another is shown as cancelled, not as failed', async (t) => {
  const text =
    'FROM base AS slow\nRUN ["wait"]\nFROM base AS bad\nRUN ["fail","3"]\nFROM base\nCOPY --from=slow / /\nCOPY --from=bad / /\n';
  const bench = await makeBench(t, { files: dockerfile(text) });
  const solving = bench.solve({ Ref: 'stopped', Session: 's1', Frontend: 'dockerfile.v0' });
  const shown: string[] = [];
  const watching = (async () => {
    using stream = bench.client.open(control('Status'), {}, forever);
    await stream.send({ Ref: 'stopped' });
    for await (const response of stream.messages)
      for (const vertex of messagesIn(response, 'vertexes'))
        if (vertex['error'] !== '') shown.push(`${String(vertex['name'])}: ${String(vertex['error'])}`);
  })();
  await assert.rejects(solving, /process "fail 3" did not complete successfully: exit code: 3/);
  await watching;
  assert.deepEqual(shown.sort(), [
    '[bad 2/2] RUN ["fail","3"]: process "fail 3" did not complete successfully: exit code: 3',
    '[slow 2/2] RUN ["wait"]: context canceled',
  ]);
});
