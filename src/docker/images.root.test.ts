/** Images between stores and registries: two data directories, one registry, real connections. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar.ts';
import type { Content } from '#content/content.ts';
import { createImageRecords } from '#content/image-records.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { HttpTransport, RemoteError, RemoteRepository } from '#content/remote.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { createImages } from '#engine/images.ts';
import type { ImageStore, ImagesOptions } from '#engine/images.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createAccess, hashInternalSecret, internalUser } from '#registry/access.ts';
import { createRegistry } from '#registry/registry.ts';
import type { Registry } from '#registry/registry.ts';

interface Store { content: Content; records: ImageRecords; images: ImageStore }
interface Site extends Store { registry: Registry; domain: string; url: string; secret: string }

async function makeStore(t: TestScope, options: Partial<ImagesOptions> = {}, content?: Content): Promise<Store> {
  const own = content ?? await openTestContent(t);
  const records = createImageRecords(own);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  return { content: own, records, images: createImages({ content: own, records, clock: realClock, log: silentLogger, transport, emit: () => {}, ...options }) };
}

/** A store with a registry that listens. */
async function makeSite(t: TestScope): Promise<Site> {
  const content = await openTestContent(t);
  const records = createImageRecords(content);
  const access = createAccess({ content, clock: realClock, random: realRandom, internalSecretHash: hashInternalSecret('inner') });
  await access.setUser('ann', 'pass:word', true);
  await access.setUser('reader', 'r', false);
  const domains: string[] = [];
  const registry = createRegistry({ content, images: records, access, log: silentLogger, clock: realClock, domains });
  const server = createServer((request, response) => registry.handle(request, response));
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => { server.closeAllConnections(); server.close(); });
  const domain = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  domains.push(domain);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const images = createImages({ content, records, clock: realClock, log: silentLogger, transport, emit: () => {}, localRegistry: registry.local });
  return { content, records, images, registry, domain, url: `http://${domain}`, secret: 'inner' };
}

const root = (text: string): AsyncGenerator<Uint8Array> => bytesOf(encodeTarHeader({ path: 'd', type: 'directory', mode: 0o755 }), encodeTarFile({ path: 'd/f' }, text), tarEnd);
const ann = { username: 'ann', password: 'pass:word' };

test('nobody writes without a credential, and a reader does not write either', async (t) => {
  const site = await makeSite(t);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const push = (credential?: { username: string; password: string }): Promise<boolean> =>
    new RemoteRepository(transport, { url: site.url, ...(credential === undefined ? {} : { credential }) }, 'a/b', 'pull,push').putBlob(`sha256:${'0'.repeat(64)}`, 1, () => bytesOf('x'));
  const isRefused = (status: number) => (error: unknown): boolean => error instanceof RemoteError && error.status === status;
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
  await site.images.push(`${site.domain}/team/app:v1`, { onProgress: (event) => lines.push(String(event['status'] ?? '')) });
  assert.equal([...site.content.blobs.list()].length, before);
  assert.ok(lines.some((line) => line.startsWith('v1: digest: sha256:')));
  await site.images.remove(`${site.domain}/team/app:v1`);
  await site.content.collect({ evenYoung: true });
  assert.equal(site.images.list().length, 0);
  const pulled = await site.images.pull(`${site.domain}/team/app:v1`);
  assert.equal(pulled.id, record.id);
});

test('another node runs what was built here: any name is found through the platform\'s registry', async (t) => {
  const site = await makeSite(t);
  const record = await site.images.import(root('two'), { name: 'app' });
  const node = await makeStore(t, { platformRegistry: { url: site.url, credential: { username: internalUser, password: site.secret }, domains: [site.domain] } });
  const pulled = await node.images.pull('app');
  assert.equal(pulled.id, record.id);
  assert.ok(node.content.layers.has(record.layers[0]!.diffId));
  // And names of the registry itself, under the address that node 1 uses.
  await site.images.tag('app', `${site.domain}/x/app:v2`);
  await site.images.push(`${site.domain}/x/app:v2`, {});
  assert.equal((await node.images.pull(`${site.domain}/x/app:v2`)).id, record.id);
});

test('an outsider cannot read the engine\'s own names through the registry', async (t) => {
  const site = await makeSite(t);
  await site.images.import(root('three'), { name: 'private' });
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  for (const credential of [undefined, ann]) {
    const repository = new RemoteRepository(transport, { url: site.url, mirrorOf: 'docker.io', ...(credential === undefined ? {} : { credential }) }, 'library/private', 'pull');
    await assert.rejects(repository.manifest('latest'), (error: unknown) => error instanceof RemoteError && error.status === 404);
  }
});

test('push and pull over the wire keep the image id, and the second push sends no layer', async (t) => {
  const site = await makeSite(t);
  const store = await makeStore(t);
  const record = await store.images.import(root('four'), { name: `${site.domain}/wire:1` });
  const push = async (): Promise<string[]> => { const lines: string[] = []; await store.images.push(`${site.domain}/wire:1`, { credential: ann, onProgress: (event) => lines.push(String(event['status'])) }); return lines; };
  assert.ok((await push()).includes('Pushed'));
  assert.ok((await push()).includes('Layer already exists'));
  await assert.rejects(store.images.push(`${site.domain}/wire:1`, {}), /no basic auth credentials|authentication required/);
  const other = await makeStore(t);
  const events: Record<string, unknown>[] = [];
  const pulled = await other.images.pull(`${site.domain}/wire:1`, { onProgress: (event) => events.push(event) });
  assert.equal(pulled.id, record.id);
  assert.ok(events.some((event) => event['status'] === 'Pull complete') && events.at(-1)!['status'] === `Status: Downloaded newer image for ${site.domain}/wire:1`);
  await assert.rejects(other.images.pull(`${site.domain}/wire:none`), /manifest for .*wire:none not found: manifest unknown/);
  await assert.rejects(other.images.pull(`${site.domain}/nosuch:1`), /not found|pull access denied/);
});

/** A registry that serves one image, with a hand in the middle. */
async function makeFakeRegistry(t: TestScope, source: Store, name: string, serveBlob: (digest: string, bytes: Buffer, from: number) => { bytes: Buffer; breaksAt?: number }): Promise<string> {
  const record = source.records.find(name)!;
  const server = createServer((request, response) => {
    void (async () => {
      const digest = decodeURIComponent(request.url!.split('/').pop()!);
      if (request.url!.includes('/manifests/')) { response.setHeader('content-type', record.manifestMediaType); response.end(await source.content.blobs.readBytes(record.manifestDigest, 1 << 20)); return; }
      const whole = await source.content.blobs.readBytes(digest, 1 << 20);
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const { bytes, breaksAt } = serveBlob(digest, whole, from);
      response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from });
      if (breaksAt === undefined) { response.end(bytes.subarray(from)); return; }
      response.write(bytes.subarray(from, breaksAt));
      // What the client has not read when the connection breaks is lost to it; give it the time.
      await realClock.sleep(150);
      response.destroy();
    })().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('content whose digest does not match is refused and nothing of it stays', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('five'), { name: 'x' });
  const domain = await makeFakeRegistry(t, source, 'x', (digest, bytes) => ({ bytes: digest === record.layers[0]!.digest ? Buffer.from(bytes.map((byte, at) => (at === 20 ? byte ^ 1 : byte))) : bytes }));
  const store = await makeStore(t);
  await assert.rejects(store.images.pull(`${domain}/x:1`), /verification failed/);
  await store.content.collect({ evenYoung: true });
  assert.deepEqual([readdirSync(`${store.content.root}/uploads`), [...store.content.blobs.list()], readdirSync(`${store.content.root}/l`), store.images.list()], [[], [], [], []]);
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

test('what was saved is loaded with the same id and names', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('seven'), { name: 'a/b:1' });
  await source.images.tag('a/b:1', 'c:2');
  const store = await makeStore(t);
  const lines: string[] = [];
  await store.images.load(await source.images.save(['a/b:1', 'c:2']), (event) => { if (typeof event['stream'] === 'string') lines.push(event['stream']); });
  assert.deepEqual(lines, ['Loaded image: a/b:1\n', 'Loaded image: c:2\n']);
  assert.deepEqual([store.images.find('c:2')!.id, store.images.find('a/b:1')!.names], [record.id, ['a/b:1', 'c:2']]);
  await assert.rejects(store.images.load(bytesOf(encodeTarFile({ path: 'x' }, 'y'), tarEnd), () => {}), /does not contain a manifest.json/);
  await assert.rejects(store.images.load(bytesOf(encodeTarFile({ path: 'manifest.json' }, '[{"Config":"../../x","Layers":[]}]'), tarEnd), () => {}), /outside of it|missing/);
});

test('what a Pod leases is neither removed nor pruned, by whatever force', async (t) => {
  const store = await makeStore(t);
  const record = await store.images.import(root('eight'), { name: 'pod-image' });
  await store.images.lease('kubelet', record.id, 'pod/1');
  await assert.rejects(store.images.remove('pod-image', { force: true, owner: 'docker' }), /cannot be forced/);
  await assert.rejects(store.images.remove(record.id, { force: true, owner: 'docker' }), /cannot be forced/);
  assert.deepEqual((await store.images.prune({ all: true, labels: () => true })).deleted, []);
  await store.images.releaseLease('kubelet', 'pod/1');
  assert.equal((await store.images.prune({ all: true, labels: () => true })).deleted.length, 2);
});

test('the kubelet may collect what it alone brought, and nothing that a Pod leases or a user named', async (t) => {
  const site = await makeSite(t);
  for (const name of ['only', 'leased', 'named', 'wanted']) await site.images.import(root(`collect ${name}`), { name });
  const node = await makeStore(t, { platformRegistry: { url: site.url, credential: { username: internalUser, password: site.secret }, domains: [site.domain] } });
  const own = await node.images.import(root('collect own'), { name: 'own' });
  const ids = new Map<string, string>();
  for (const name of ['only', 'leased', 'named', 'wanted']) ids.set(name, (await node.images.pull(name, { owner: 'kubelet' })).id);
  await node.images.lease('kubelet', ids.get('leased')!, 'pod/c');
  await node.images.lease('kubelet', ids.get('only')!, 'gone/a');
  await node.images.lease('kubelet', ids.get('only')!, 'gone/b');
  await node.images.tag('named', 'mine:1');
  await node.images.pull('wanted');
  const collectable = (): string[] => node.images.list().filter((image) => image.isCollectable).map((image) => image.id);
  assert.deepEqual(collectable(), []);
  await node.images.releaseLease('kubelet', 'gone');
  assert.deepEqual(collectable(), [ids.get('only')]);
  await node.images.remove(ids.get('only')!, { owner: 'kubelet' });
  assert.deepEqual(node.images.list().map((image) => image.id).sort(), [own.id, ids.get('leased'), ids.get('named'), ids.get('wanted')].sort());
});
