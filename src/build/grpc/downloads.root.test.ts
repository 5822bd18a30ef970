/** Files of the web that are fetched again: their server is asked whether they are still the same. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestScope } from '#content/testing.ts';
import { dispositionName } from '../llb/download.ts';
import { dockerfile, makeBench } from './testing.ts';

const digestOfText = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;

interface Page {
  text: string;
  etag: string;
  /** What is asked with HEAD is not known. */
  refusesHead?: boolean;
}

async function serve(t: TestScope, page: Page): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer(({ method = '', url, headers }, response) => {
    asked.push(`${method} ${url ?? ''} ${headers['if-none-match'] ?? ''}`.trim());
    assert.match(headers['user-agent'] ?? '', /buildkit\/v/);
    if (url === '/moved') return void response.writeHead(302, { location: '/f' }).end();
    if (method === 'HEAD' && page.refusesHead === true) return void response.writeHead(405).end();
    response.setHeader('ETag', page.etag);
    response.setHeader('Content-Disposition', 'attachment; filename="named"');
    if (headers['if-none-match'] === page.etag) return void response.writeHead(304).end();
    response.end(method === 'HEAD' ? undefined : page.text);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

test('a file that has not changed is asked for once, also through a redirect', async (t) => {
  const page: Page = { text: 'one', etag: '"1"' };
  const { url, asked } = await serve(t, page);
  const bench = await makeBench(t, { files: dockerfile(`FROM scratch\nADD ${url}/moved /f\n`) });
  const build = async (): Promise<string> => {
    await bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
    let text = '';
    await bench.read(bench.records.find('x')!.layers, (root) => (text = readFileSync(join(root, 'f'), 'utf8')));
    return text;
  };
  assert.equal(await build(), 'one');
  assert.equal(await build(), 'one');
  assert.deepEqual(asked.splice(0), ['GET /moved', 'GET /f', 'HEAD /moved "1"', 'HEAD /f "1"']);
  page.text = 'two';
  page.etag = '"2"';
  assert.equal(await build(), 'two');
  assert.deepEqual(asked.splice(0), ['HEAD /moved "1"', 'HEAD /f "1"', 'GET /moved', 'GET /f']);
  // What was made of it is gone, and so is the file.
  await bench.builder.cache.prune({ all: true });
  page.refusesHead = true;
  page.text = 'three';
  assert.equal(await build(), 'three');
  assert.deepEqual(asked.splice(0), ['HEAD /moved "2"', 'HEAD /f "2"', 'GET /moved', 'GET /f']);
});

test('a file with a checksum that is here is not asked for again', async (t) => {
  const { url, asked } = await serve(t, { text: 'one', etag: '' });
  const checksum = digestOfText('one');
  const files = dockerfile(`FROM scratch\nADD --checksum=${checksum} ${url}/f /f\n`);
  const bench = await makeBench(t, { files });
  const build = (): Promise<unknown> => bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  await build();
  await build();
  assert.deepEqual(asked.splice(0), ['GET /f']);
  files['dockerfile'] = { Dockerfile: { text: `FROM scratch\nADD --checksum=${digestOfText('two')} ${url}/f /f\n` } };
  await assert.rejects(
    build(),
    /failed to load cache key: digest mismatch for http\S+: sha256:\w+ \(expected: sha256:/,
  );
  assert.deepEqual(asked, ['GET /f']);
});

test('a file that is not to be had is told in the words of the client that asked', async (t) => {
  const server = createServer((_request, response) => void response.writeHead(404).end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const files = dockerfile('');
  const bench = await makeBench(t, { files });
  const build = (source: string): Promise<unknown> => {
    files['dockerfile'] = { Dockerfile: { text: `FROM scratch\nADD ${source} /d/\n` } };
    return bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  };
  await assert.rejects(build(`${url}/f`), { message: 'failed to load cache key: invalid response status 404' });
  await assert.rejects(build('http://127.0.0.1:1/f'), /failed to load cache key: Get "http:\/\/127.0.0.1:1\/f": /);
  await assert.rejects(build('http://[1/f'), /failed to load cache key: parse "http:\/\/\[1\/f": invalid URL/);
  await assert.rejects(build('link/none'), /failed to compute cache key: .*"\/link\/none": not found/);
});

test('the name that a server gives is the last part of a path', () => {
  for (const [header, name] of [
    ['attachment; filename="a b.tar"', 'a b.tar'],
    ['attachment; filename=a.tar; x=y', 'a.tar'],
    ['attachment; filename="q\\"q"', 'q"q'],
    ["attachment; filename=plain; filename*=UTF-8''%e2%82%ac.txt", '\u20ac.txt'],
    ["attachment; filename=plain; filename*=UTF-8''%zz", 'plain'],
    ['attachment; filename="../../etc/passwd"', 'passwd'],
    ['attachment; filename="dir/"', undefined],
    ['attachment; filename=".."', undefined],
    ['attachment', undefined],
    [undefined, undefined],
  ] as const)
    assert.equal(dispositionName(header), name, String(header));
});
