/** `SOURCE_DATE_EPOCH` that names what has a time. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import type { TestScope } from '#content/testing.ts';
import { commitTimeMs } from '../llb/git.ts';
import { dockerfile, makeBench } from './testing.ts';

const archiveMs = 1_700_000_002_000;
const changedMs = 1_700_000_009_000;

/** `/plain.tar`, and `/dated.tar`, whose server says when it was changed. */
async function serveArchives(t: TestScope): Promise<string> {
  const file = (path: string, mtimeMs: number, text: string): Uint8Array =>
    encodeTarFile({ path, mode: 0o644, mtimeMs }, Buffer.from(text));
  const archive = Buffer.concat([
    file('Dockerfile', archiveMs - 5000, 'FROM base\nARG SOURCE_DATE_EPOCH\nRUN ["write","/epoch","1"]\n'),
    file('new', archiveMs, 'x'),
    tarEnd,
  ]);
  const server = createServer(({ url }, response) => {
    if (url?.startsWith('/dated') === true) response.setHeader('Last-Modified', new Date(changedMs).toUTCString());
    response.end(archive);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('the time of a build is that of its context, of a named context, or of a stage that is one source', async (t) => {
  const url = await serveArchives(t);
  const stage = `ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD ${url}/plain.tar /\nFROM base\nRUN ["write","/a","1"]\n`;
  const bench = await makeBench(t, { files: dockerfile(stage) });
  const timeOf = async (attributes: Record<string, string>): Promise<string | undefined> => {
    await bench.build(attributes, { Exporters: [{ Type: 'moby', Attrs: { name: 'made' } }] });
    return bench.records.find('made')?.file.created;
  };
  const [archive, changed] = [archiveMs, changedMs].map((time) => new Date(time).toISOString());
  const remote = (name: string): Record<string, string> => ({
    context: `${url}/${name}.tar`,
    'build-arg:SOURCE_DATE_EPOCH': 'context',
  });
  assert.equal(await timeOf(remote('plain')), archive);
  assert.ok(bench.runs.at(-1)?.env.includes(`SOURCE_DATE_EPOCH=${archiveMs / 1000}`));
  assert.equal(await timeOf(remote('dated')), changed);
  assert.equal(await timeOf({}), archive);
  assert.equal(await timeOf({ 'build-arg:SOURCE_DATE_EPOCH': '5' }), new Date(5000).toISOString());
  const named = { 'build-arg:SOURCE_DATE_EPOCH': 'Other', 'context:other': `${url}/dated.tar` };
  assert.equal(await timeOf(named), changed);
  await assert.rejects(timeOf({ 'build-arg:SOURCE_DATE_EPOCH': 'now' }), /invalid SOURCE_DATE_EPOCH: now/);
});

test('a stage that is named for its time is one source and nothing else', async (t) => {
  for (const [lines, expected] of [
    ['FROM base AS src\nADD http://a/b /\n', /must use FROM scratch/],
    ['FROM scratch AS src\nCOPY d /\n', /source-only requirements: unsupported COPY instruction/],
    ['FROM scratch AS src\n', /must contain exactly one remote ADD/],
    ['FROM scratch AS src\nADD http://a/b /\nADD http://a/c /\n', /must contain exactly one remote ADD/],
    ['FROM scratch AS src\nADD d /\n', /must be a single HTTP\(S\) or Git ADD/],
    ['FROM scratch AS src\nADD http://a/b http://a/c /\n', /must be a single HTTP\(S\) or Git ADD/],
  ] as const) {
    const bench = await makeBench(t, { files: dockerfile(`ARG SOURCE_DATE_EPOCH=src\n${lines}FROM scratch\n`) });
    await assert.rejects(bench.build({}), expected, lines);
  }
});

test('a directory of the client has no time of its own', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["write","/a","1"]\n') });
  const before = Date.now();
  await bench.build(
    { 'build-arg:SOURCE_DATE_EPOCH': 'context' },
    { Exporters: [{ Type: 'moby', Attrs: { name: 'made' } }] },
  );
  assert.ok(Date.parse(bench.records.find('made')!.file.created!) >= before);
});

test('a commit says when it was made in its own head', () => {
  const commit = 'tree a\nauthor x <y> 1 +0000\ncommitter A <b> 1700000101 +0200\n\ncommitter A <b> 5 +0000\n';
  assert.equal(commitTimeMs(Buffer.from(commit)), 1_700_000_101_000);
  assert.equal(commitTimeMs(Buffer.from('tree a\n\ncommitter A <b> 5 +0000\n')), undefined);
});
