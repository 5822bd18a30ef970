/** Images between stores and registries: two data directories, one registry, real connections. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import { hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { readTar } from '#base/tar-read.ts';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { messageOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import { createImageRecords, mediaTypes } from '#content/image-records.ts';
import type { ImageRecords, Index } from '#content/image-records.ts';
import { HttpTransport, RemoteError, RemoteRepository } from '#content/remote.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { createImages } from '#engine/images.ts';
import type { ImageStore } from '#engine/images.ts';
import type { ImagesOptions } from '#engine/images-options.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createAccess, internalUser } from '#registry/access.ts';
import { createRegistry } from '#registry/registry.ts';
import type { Registry } from '#registry/registry.ts';
import { createSecureRegistryServer } from '#registry/server.ts';

interface Store {
  content: Content;
  records: ImageRecords;
  images: ImageStore;
}
interface Site extends Store {
  registry: Registry;
  domain: string;
  url: string;
  /** The same registry over TLS, as a node's engine reaches it. */
  platform: NonNullable<ImagesOptions['platformRegistry']>;
}

async function makeStore(t: TestScope, options: Partial<ImagesOptions> = {}, content?: Content): Promise<Store> {
  const own = content ?? (await openTestContent(t));
  const records = createImageRecords(own);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  return {
    content: own,
    records,
    images: createImages({
      content: own,
      records,
      clock: realClock,
      log: silentLogger,
      transport,
      emit: () => {},
      ...options,
    }),
  };
}

/** A store with a registry that listens. */
async function makeSite(t: TestScope): Promise<Site> {
  const content = await openTestContent(t);
  const records = createImageRecords(content);
  const access = createAccess({ content, clock: realClock, random: realRandom });
  await access.setUser('ann', 'pass:word', true);
  await access.setUser('reader', 'r', false);
  const domains: string[] = [];
  const registry = createRegistry({ content, images: records, access, log: silentLogger, clock: realClock, domains });
  const server = createServer((request, response) => registry.handle(request, response));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const domain = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  domains.push(domain);
  const transport = new HttpTransport({});
  t.after(() => transport.close());
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: silentLogger,
    transport,
    emit: () => {},
    localRegistry: registry.local,
  });
  const platform = await listenSecurely(t, registry, domains);
  return { content, records, images, registry, domain, url: `http://${domain}`, platform };
}

async function listenSecurely(t: TestScope, registry: Registry, domains: string[]): Promise<Site['platform']> {
  const ca = createCertificateAuthority('ca', realRandom, realClock);
  const issue = (names: Parameters<typeof issueCertificate>[0]): KeyPair =>
    issueCertificate(names, ca, realRandom, realClock);
  const serving = issue({ commonName: 'system:node:a', server: true, ipAddresses: ['127.0.0.1'] });
  const node = issue({ commonName: 'system:node:b', organizations: ['system:nodes'], client: true });
  const server = createSecureRegistryServer(registry);
  server.setSecureContext({ cert: serving.certificatePem, key: serving.keyPem, ca: ca.certificatePem });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `https://127.0.0.1:${port}`, tls: () => ({ ca: ca.certificatePem, ...node }), domains };
}

const root = (text: string): AsyncGenerator<Uint8Array> =>
  bytesOf(encodeTarHeader({ path: 'd', type: 'directory', mode: 0o755 }), encodeTarFile({ path: 'd/f' }, text), tarEnd);
const ann = { username: 'ann', password: 'pass:word' };

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
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
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

test('what was saved is loaded with the same id and names', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('seven'), { name: 'a/b:1' });
  await source.images.tag('a/b:1', 'c:2');
  const store = await makeStore(t);
  const lines: string[] = [];
  await store.images.load(await source.images.save(['a/b:1', 'c:2']), (event) => {
    if (typeof event['stream'] === 'string') lines.push(event['stream']);
  });
  assert.deepEqual(lines, ['Loaded image: a/b:1\n', 'Loaded image: c:2\n']);
  assert.deepEqual([store.images.find('c:2')!.id, store.images.find('a/b:1')!.names], [record.id, ['a/b:1', 'c:2']]);
  assert.equal(store.records.get(record.id)!.manifestDigest, source.records.get(record.id)!.manifestDigest);
  // Readers of OCI layouts know OCI's types alone.
  for await (const entry of readTar(await source.images.save(['c:2']))) {
    if (entry.header.path !== 'index.json') continue;
    const parts: Uint8Array[] = [];
    for await (const part of entry.content) parts.push(Uint8Array.from(part));
    assert.deepEqual(
      (JSON.parse(Buffer.concat(parts).toString()) as Index).manifests.map((each) => each.mediaType),
      [mediaTypes.ociManifest],
    );
  }
  await assert.rejects(
    store.images.load(bytesOf(encodeTarFile({ path: 'x' }, 'y'), tarEnd), () => {}),
    /does not contain a manifest.json/,
  );
  await assert.rejects(
    store.images.load(
      bytesOf(encodeTarFile({ path: 'manifest.json' }, '[{"Config":"../../x","Layers":[]}]'), tarEnd),
      () => {},
    ),
    /outside of it|missing/,
  );
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
  const node = await makeStore(t, {
    platformRegistry: site.platform,
  });
  const own = await node.images.import(root('collect own'), { name: 'own' });
  const ids = new Map<string, string>();
  for (const name of ['only', 'leased', 'named', 'wanted'])
    ids.set(name, (await node.images.pull(name, { owner: 'kubelet' })).id);
  await node.images.lease('kubelet', ids.get('leased')!, 'pod/c');
  await node.images.lease('kubelet', ids.get('only')!, 'gone/a');
  await node.images.lease('kubelet', ids.get('only')!, 'gone/b');
  await node.images.tag('named', 'mine:1');
  await node.images.pull('wanted');
  const collectable = (): string[] =>
    node.images
      .list()
      .filter((image) => image.isCollectable)
      .map((image) => image.id);
  assert.deepEqual(collectable(), []);
  await node.images.releaseLease('kubelet', 'gone');
  assert.deepEqual(collectable(), [ids.get('only')]);
  await node.images.remove(ids.get('only')!, { owner: 'kubelet' });
  assert.deepEqual(
    node.images
      .list()
      .map((image) => image.id)
      .toSorted(),
    [own.id, ...['leased', 'named', 'wanted'].map((name) => ids.get(name)!)].toSorted(),
  );
});

const textOf = async (run: () => Promise<unknown>): Promise<string> => {
  try {
    await run();
    return 'nothing was wrong';
  } catch (error) {
    return messageOf(error);
  }
};

/** An OCI layout of images that differ in their platform. `edit` may spoil a file. */
async function ociLayout(
  images: { platform: Platform; named?: Platform | undefined; name?: string }[],
  edit: (path: string, bytes: Buffer) => Buffer = (_path, bytes) => bytes,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  const seen = new Set<string>();
  const put = (bytes: Buffer): { digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    if (!seen.has(hex)) parts.push(encodeTarFile({ path: `blobs/sha256/${hex}` }, edit(`blobs/sha256/${hex}`, bytes)));
    seen.add(hex);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const layer = Buffer.concat([encodeTarFile({ path: 'f' }, 'x'), tarEnd]);
  const manifests = images.map(({ platform, named, name }) => {
    const config = put(
      Buffer.from(
        JSON.stringify({
          ...platform,
          rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(layer).digest('hex')}`] },
          config: {},
        }),
      ),
    );
    const manifest = put(
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: mediaTypes.ociManifest,
          config: { mediaType: mediaTypes.ociConfig, ...config },
          layers: [{ mediaType: mediaTypes.ociLayer, ...put(layer) }],
        }),
      ),
    );
    return {
      mediaType: mediaTypes.ociManifest,
      ...manifest,
      ...(named === undefined ? {} : { platform: named }),
      ...(name === undefined ? {} : { annotations: { 'io.containerd.image.name': name } }),
    };
  });
  return Buffer.concat([
    encodeTarFile({ path: 'oci-layout' }, '{"imageLayoutVersion":"1.0.0"}'),
    ...parts,
    encodeTarFile({ path: 'index.json' }, JSON.stringify({ schemaVersion: 2, manifests })),
    tarEnd,
  ]);
}

test('a compressed archive is loaded as well, and one that ends without its end mark', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('packed'), { name: 'packed:1' });
  const parts: Uint8Array[] = [];
  for await (const part of await source.images.save(['packed:1'])) parts.push(part);
  const archive = Buffer.concat(parts);
  const forms = {
    plain: archive,
    short: archive.subarray(0, -1024),
    gzip: gzipSync(archive),
    zstd: zstdCompressSync(archive),
    xz: execFileSync('xz', ['-c'], { input: archive }),
    bzip2: execFileSync('bzip2', ['-c'], { input: archive }),
  };
  for (const [form, bytes] of Object.entries(forms)) {
    const store = await makeStore(t);
    await store.images.load(bytesOf(bytes), () => {});
    assert.equal(store.images.find('packed:1')?.id, record.id, form);
  }
});

test('a load that loads nothing, or whose content is not what its name says, is an error', async (t) => {
  const arm = { os: 'linux', architecture: 'arm64' };
  const load = async (bytes: Buffer, platform?: Platform): Promise<string> => {
    const store = await makeStore(t);
    return textOf(() => store.images.load(bytesOf(bytes), () => {}, platform));
  };
  assert.match(
    await load(await ociLayout([{ platform: arm, named: arm }])),
    /no image for linux\/amd64 in the archive, which has linux\/arm64/,
  );
  assert.equal(await load(await ociLayout([{ platform: arm, named: arm, name: 'x:1' }]), arm), 'nothing was wrong');
  assert.match(
    await load(
      await ociLayout([{ platform: hostPlatform() }], (path, bytes) =>
        bytes.includes('schemaVersion') ? Buffer.concat([bytes, Buffer.from(' ')]) : bytes,
      ),
    ),
    /unexpected commit digest/,
  );
  assert.match(
    await load(
      await ociLayout([{ platform: hostPlatform() }], (path, bytes) =>
        bytes.includes('ustar') ? Buffer.concat([bytes, Buffer.alloc(512)]) : bytes,
      ),
    ),
    /unexpected commit digest/,
  );
  assert.match(await load(await ociLayout([])), /holds no image/);
  assert.match(await load(Buffer.concat([encodeTarFile({ path: 'manifest.json' }, '[]'), tarEnd])), /holds no image/);
  for (const manifest of [
    '{}',
    'null',
    '[null]',
    '[{"Config":"x"}]',
    '[{"Config":"x","Layers":[5]}]',
    '[{"Config":"x","Layers":[],"RepoTags":[{}]}]',
    '[{"Config":"x","Layers":[]}]',
  ])
    assert.match(
      await load(Buffer.concat([encodeTarFile({ path: 'manifest.json' }, manifest), tarEnd])),
      /invalid archive/,
      manifest,
    );
  assert.match(
    await load(
      Buffer.concat([
        encodeTarFile({ path: 'index.json' }, `{"manifests":[{"digest":"sha256:${'0'.repeat(64)}"}]}`),
        tarEnd,
      ]),
    ),
    /not found/,
  );
  const both = await makeStore(t);
  await both.images.load(
    bytesOf(
      await ociLayout([
        { platform: arm, named: arm, name: 'two:1' },
        { platform: hostPlatform(), named: hostPlatform(), name: 'two:1' },
      ]),
    ),
    () => {},
  );
  assert.equal(both.records.find('two:1')!.file.architecture, hostPlatform().architecture);
});

/** An index of two platforms and an attestation, and an artifact, pushed by a client. */
async function pushIndex(site: Site, path: string): Promise<{ host: string; arm: string }> {
  const layer = Buffer.concat([encodeTarFile({ path: 'f' }, 'x'), tarEnd]);
  const transport = new HttpTransport({});
  const repository = new RemoteRepository(transport, { url: site.url, credential: ann }, path, 'pull,push');
  const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const put = async (bytes: Buffer): Promise<{ digest: string; size: number }> => {
    await repository.putBlob(digestOf(bytes), bytes.length, () => bytesOf(bytes));
    return { digest: digestOf(bytes), size: bytes.length };
  };
  const ids: string[] = [];
  const image = async (
    platform: Platform,
    configType: string = mediaTypes.ociConfig,
  ): Promise<{ mediaType: string; digest: string; size: number; platform: Platform }> => {
    const config = await put(
      Buffer.from(JSON.stringify({ ...platform, rootfs: { type: 'layers', diff_ids: [digestOf(layer)] }, config: {} })),
    );
    ids.push(config.digest);
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: mediaTypes.ociManifest,
        config: { mediaType: configType, ...config },
        layers: [{ mediaType: mediaTypes.ociLayer, ...(await put(layer)) }],
      }),
    );
    await repository.putManifest(digestOf(bytes), bytes, mediaTypes.ociManifest);
    return { mediaType: mediaTypes.ociManifest, digest: digestOf(bytes), size: bytes.length, platform };
  };
  const manifests = [
    await image({ os: 'linux', architecture: 'arm64' }),
    await image({ os: 'unknown', architecture: 'unknown' }),
    await image(hostPlatform()),
  ];
  const artifact = await image({ os: 'linux', architecture: 'chart' }, 'application/vnd.cncf.helm.config.v1+json');
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
  await repository.putManifest('1', index, mediaTypes.ociIndex);
  await repository.putManifest(
    'artifact',
    await site.content.blobs.readBytes(artifact.digest, 1 << 20),
    mediaTypes.ociManifest,
  );
  transport.close();
  return { arm: ids[0]!, host: ids[2]! };
}

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

test('a letter is a name where a name is meant, and the beginning of an id where docker takes one', async (t) => {
  const store = await makeStore(t);
  const record = await store.images.import(root('prefix'), { name: 'named' });
  const letter = record.id.slice(7, 8);
  assert.equal(store.images.find(letter)?.id, record.id);
  assert.deepEqual(
    [
      store.images.find(letter, { isWhole: true }),
      store.images.find(record.id.slice(7), { isWhole: true })?.id,
      store.images.find('named', { isWhole: true })?.id,
    ],
    [undefined, record.id, record.id],
  );
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
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { images } = await makeStore(t);
  for (const [name, , , , expected] of answers)
    assert.match(
      await textOf(() => images.pull(`127.0.0.1:${(server.address() as AddressInfo).port}/${name}:1`)),
      expected,
      name,
    );
});
