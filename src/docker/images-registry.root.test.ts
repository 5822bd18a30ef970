/** Images between stores and registries: two data directories, one registry, real connections. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { HttpTransport, RemoteError, RemoteRepository } from '#content/remote.ts';
import { bytesOf } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { realClock } from '#os/clock.real.ts';
import { internalUser } from '#registry/access.ts';
import { type Store, makeSite, makeStore, root, ann, listen, pushIndex, textOf } from './testing.ts';

test('nobody writes without a credential, and a reader does not write either', async (t) => {
  const site = await makeSite(t);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const push = (credential?: { username: string; password: string }): Promise<boolean> =>
    new RemoteRepository(
      transport,
      { url: site.url, ...(credential === undefined ? {} : { credential }) },
      'a/b',
      'pull,push',
    ).putBlob(`sha256:${'0'.repeat(64)}`, 1, () => bytesOf('x'));
  const isRefused =
    (status: number) =>
    (error: unknown): boolean =>
      error instanceof RemoteError && error.status === status;
  await assert.rejects(push(), isRefused(401));
  await assert.rejects(push({ username: 'ann', password: 'wrong' }), isRefused(401));
  await assert.rejects(push({ username: internalUser, password: 'wrong' }), isRefused(401));
  await assert.rejects(push({ username: 'reader', password: 'r' }), isRefused(403));
  // The right one gets as far as the digest, which is wrong.
  await assert.rejects(push(ann), isRefused(400));
  assert.deepEqual(readdirSync(`${site.content.root}/uploads`).length <= 1, true);
});

test('a password is not on disk in plain text', async (t) => {
  const site = await makeSite(t);
  const journal = readFileSync(`${site.content.root}/records.log`, 'utf8');
  assert.ok(journal.includes('registry-users') && !journal.includes('pass:word'));
});

test('a push to the registry of the process copies nothing, and its name resolves without a tag of the engine', async (t) => {
  const site = await makeSite(t);
  const record = await site.images.import(root('one'), { name: `${site.domain}/team/app:v1` });
  const before = [...site.content.blobs.list()].length;
  const lines: string[] = [];
  await site.images.push(`${site.domain}/team/app:v1`, {
    onProgress: (event) => lines.push(String(event['status'] ?? '')),
  });
  assert.equal([...site.content.blobs.list()].length, before);
  assert.ok(lines.some((line) => line.startsWith('v1: digest: sha256:')));
  await site.images.remove(`${site.domain}/team/app:v1`);
  await site.content.collect({ evenYoung: true });
  assert.equal(site.images.list().length, 0);
  const pulled = await site.images.pull(`${site.domain}/team/app:v1`);
  assert.equal(pulled.id, record.id);
});

test("another node runs what was built here: any name is found through the platform's registry", async (t) => {
  const site = await makeSite(t);
  const record = await site.images.import(root('two'), { name: 'app' });
  const node = await makeStore(t, {
    platformRegistry: site.platform,
  });
  const pulled = await node.images.pull('app');
  assert.equal(pulled.id, record.id);
  assert.ok(node.content.layers.has(record.layers[0]!.diffId));
  // And names of the registry itself, under the address that node 1 uses.
  await site.images.tag('app', `${site.domain}/x/app:v2`);
  await site.images.push(`${site.domain}/x/app:v2`, {});
  assert.equal((await node.images.pull(`${site.domain}/x/app:v2`)).id, record.id);
});

test("an outsider cannot read the engine's own names through the registry", async (t) => {
  const site = await makeSite(t);
  await site.images.import(root('three'), { name: 'private' });
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  for (const credential of [undefined, ann]) {
    const repository = new RemoteRepository(
      transport,
      { url: site.url, mirrorOf: 'docker.io', ...(credential === undefined ? {} : { credential }) },
      'library/private',
      'pull',
    );
    await assert.rejects(
      repository.manifest('latest'),
      (error: unknown) => error instanceof RemoteError && error.status === 404,
    );
  }
});

test('layers that a push has compressed are kept while it compresses the others', async (t) => {
  const site = await makeSite(t);
  const store = await makeStore(t);
  const { content, records } = store;
  const parts = [await store.images.import(root('first'), {}), await store.images.import(root('second'), {})];
  const layers = parts.flatMap((part) => part.layers);
  const file = { ...parts[0]!.file, rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) } };
  const id = await content.blobs.writeBytes(Buffer.from(JSON.stringify(file)));
  const name = `${site.domain}/slow:1`;
  await records.put({ ...parts[0]!, id, file, layers, manifestDigest: '' }, [
    records.nameChange(name, { imageId: id }),
  ]);
  const compress = content.layers.compress.bind(content.layers);
  content.layers.compress = async (...words) => {
    await content.collect({ evenYoung: true });
    return compress(...words);
  };
  await store.images.push(name, { credential: ann });
  assert.equal((await (await makeStore(t)).images.pull(name)).id, id);
});

test('push and pull over the wire keep the image id, and the second push sends no layer', async (t) => {
  const site = await makeSite(t);
  const store = await makeStore(t);
  const record = await store.images.import(root('four'), { name: `${site.domain}/wire:1` });
  const push = async (): Promise<string[]> => {
    const lines: string[] = [];
    await store.images.push(`${site.domain}/wire:1`, {
      credential: ann,
      onProgress: (event) => lines.push(String(event['status'])),
    });
    return lines;
  };
  assert.ok((await push()).includes('Pushed'));
  assert.ok((await push()).includes('Layer already exists'));
  await assert.rejects(
    store.images.push(`${site.domain}/wire:1`, {}),
    /no basic auth credentials|authentication required/,
  );
  const other = await makeStore(t);
  const events: Record<string, unknown>[] = [];
  const pulled = await other.images.pull(`${site.domain}/wire:1`, { onProgress: (event) => events.push(event) });
  assert.equal(pulled.id, record.id);
  assert.ok(
    events.some((event) => event['status'] === 'Pull complete') &&
      events.at(-1)!['status'] === `Status: Downloaded newer image for ${site.domain}/wire:1`,
  );
  await assert.rejects(
    other.images.pull(`${site.domain}/wire:none`),
    /manifest for .*wire:none not found: manifest unknown/,
  );
  await assert.rejects(other.images.pull(`${site.domain}/nosuch:1`), /not found|pull access denied/);
});

/** A registry that serves one image, with a hand in the middle. */
async function makeFakeRegistry(
  t: TestScope,
  source: Store,
  name: string,
  serveBlob: (digest: string, bytes: Buffer, from: number) => { bytes: Buffer; breaksAt?: number },
): Promise<string> {
  const record = source.records.find(name)!;
  const server = createServer((request, response) => {
    void (async () => {
      const digest = decodeURIComponent(request.url!.split('/').pop()!);
      if (request.url!.includes('/manifests/')) {
        response.setHeader('content-type', record.manifestMediaType);
        response.end(await source.content.blobs.readBytes(record.manifestDigest, 1 << 20));
        return;
      }
      const whole = await source.content.blobs.readBytes(digest, 1 << 20);
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const { bytes, breaksAt } = serveBlob(digest, whole, from);
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from });
      if (breaksAt === undefined) {
        response.end(bytes.subarray(from));
        return;
      }
      response.write(bytes.subarray(from, breaksAt));
      // What the client has not read when the connection breaks is lost to it; give it the time.
      await realClock.sleep(150);
      response.destroy();
    })().catch(() => response.destroy());
  });
  return `127.0.0.1:${await listen(t, server)}`;
}

test('content whose digest does not match is refused and nothing of it stays', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('five'), { name: 'x' });
  const domain = await makeFakeRegistry(t, source, 'x', (digest, bytes) => ({
    bytes:
      digest === record.layers[0]!.digest ? Buffer.from(bytes.map((byte, at) => (at === 20 ? byte ^ 1 : byte))) : bytes,
  }));
  const store = await makeStore(t);
  await assert.rejects(store.images.pull(`${domain}/x:1`), /verification failed/);
  await store.content.collect({ evenYoung: true });
  assert.deepEqual(
    [
      readdirSync(`${store.content.root}/uploads`),
      [...store.content.blobs.list()],
      readdirSync(`${store.content.root}/l`),
      store.images.list(),
    ],
    [[], [], [], []],
  );
});

test('a transfer that breaks goes on where it stopped', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('six'.repeat(1000)), { name: 'x' });
  const starts: number[] = [];
  const domain = await makeFakeRegistry(t, source, 'x', (digest, bytes, from) => {
    if (digest !== record.layers[0]!.digest) return { bytes };
    starts.push(from);
    return starts.length === 1 ? { bytes, breaksAt: 50 } : { bytes };
  });
  const store = await makeStore(t);
  assert.equal((await store.images.pull(`${domain}/x:1`)).id, record.id);
  assert.deepEqual(starts, [0, 50]);
});

test('an index with an attestation is pulled for this machine or another, from the registry of the process and over the wire', async (t) => {
  const site = await makeSite(t);
  const { host, arm } = await pushIndex(site, 'att/x');
  const name = `${site.domain}/att/x:1`;
  for (const images of [site.images, (await makeStore(t)).images]) {
    assert.equal((await images.pull(name)).id, host);
    assert.equal((await images.pull(name, { platform: { os: 'linux', architecture: 'arm64' } })).id, arm);
    assert.equal((await images.pull(name)).id, host);
    assert.match(
      await textOf(() => images.pull(name, { platform: { os: 'linux', architecture: 's390x' } })),
      /no matching manifest for linux\/s390x in the manifest list entries/,
    );
    assert.match(
      await textOf(() => images.pull(`${site.domain}/att/x:artifact`)),
      /Encountered remote "application\/vnd.cncf.helm.config.v1\+json"\(unknown\) when fetching/,
    );
    const lines: string[] = [];
    await images.pull(`${site.domain}/att/x@${images.options.records.get(host)!.manifestDigest}`, {
      platform: { os: 'linux', architecture: 'arm64' },
      onProgress: (event) => lines.push(String(event['status'])),
    });
    assert.match(
      lines.at(-1)!,
      /WARNING: image with reference .* does not match the specified platform \(linux\/arm64\)/,
    );
  }
});

test('what was pushed since to the registry of the process is what a pull of its name gives', async (t) => {
  const site = await makeSite(t);
  const store = await makeStore(t);
  const name = `${site.domain}/again:1`;
  await store.images.import(root('first'), { name });
  await store.images.push(name, { credential: ann });
  await site.images.pull(name);
  const second = await store.images.import(root('second'), { name });
  await store.images.push(name, { credential: ann });
  assert.equal((await site.images.pull(name)).id, second.id);
});

test('what a registry answers wrongly is told as its mistake', async (t) => {
  const image = { schemaVersion: 2, config: { digest: `sha256:${'0'.repeat(64)}`, size: 2 }, layers: [] as object[] };
  const answers: [string, number, Record<string, string>, string, RegExp][] = [
    ['realm', 401, { 'www-authenticate': 'Bearer realm="::no"' }, '', /invalid address: "::no"/],
    ['scheme', 401, { 'www-authenticate': 'Bearer realm="file:///etc/passwd"' }, '', /invalid address: "file/],
    ['redirect', 302, { location: 'http://[' }, '', /invalid address/],
    ['loop', 302, { location: '/v2/loop/manifests/1' }, '', /stopped after 10 redirects/],
    ['json', 200, {}, '{', /not valid JSON/],
    ['null', 200, {}, 'null', /is not an image manifest/],
    ['old', 200, {}, '{"schemaVersion":1}', /schema version 1, which is not supported/],
    ['size', 200, {}, JSON.stringify({ ...image, config: { ...image.config, size: -1 } }), /is not an image manifest/],
    [
      'huge',
      200,
      {},
      JSON.stringify({ ...image, layers: [{ ...image.config, size: 1e30 }] }),
      /is not an image manifest/,
    ],
    [
      'digest',
      200,
      {},
      JSON.stringify({ ...image, layers: [{ digest: 'sha256:../../x', size: 1 }] }),
      /is not an image manifest/,
    ],
    ['index', 200, {}, '{"schemaVersion":2,"manifests":[null,{"digest":5},{}]}', /no matching manifest/],
  ];
  const server = createServer((request, response) => {
    const [, status, headers, body] = answers.find(([name]) => request.url!.startsWith(`/v2/${name}/`))!;
    response.writeHead(status, headers);
    response.end(body);
  });
  const port = await listen(t, server);
  const { images } = await makeStore(t);
  for (const [name, , , , expected] of answers)
    assert.match(await textOf(() => images.pull(`127.0.0.1:${port}/${name}:1`)), expected, name);
});
