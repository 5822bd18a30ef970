/** Names that stand for indexes: what is kept, shown, pushed, saved and removed of several platforms. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { hostPlatform } from '#base/platform.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import { imageRoutes } from './images.ts';
import { type Store, ann, contextOf, makeSite, makeStore, pushIndex, root, textOf } from './testing.ts';

const arm64 = { os: 'linux', architecture: 'arm64' };

/** Blobs that stay when everything that nothing names is collected. */
async function keptBlobs({ content }: Store): Promise<number> {
  await content.collect({ evenYoung: true });
  return [...content.blobs.list()].length;
}

test('a name that is an index keeps it, its digest is the name’s, and platforms come side by side', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const store = await makeStore(t);
  const { images, records } = store;
  const name = `${site.domain}/x:1`;
  assert.equal((await images.pull(name, { platform: arm64 })).id, pushed.arm);
  // The only one that is here is what the name stands for.
  assert.equal(images.record(name).id, pushed.arm);
  assert.equal((await images.pull(name)).id, pushed.host);
  assert.equal(images.record(name).id, pushed.host);
  assert.equal(images.record(name, arm64).id, pushed.arm);
  assert.equal(images.record(name, hostPlatform()).id, pushed.host);
  // As a list of manifests shows it.
  assert.equal(images.record(pushed.armManifest.slice(7, 19)).id, pushed.arm);
  assert.match(
    await textOf(async () => images.record(name, { os: 'linux', architecture: 's390x' })),
    /was found but does not provide the specified platform \(linux\/s390x\)/,
  );
  assert.deepEqual(
    images.list().map(({ id, names, digests }) => ({ id, names, digests })),
    [{ id: pushed.host, names: [name], digests: [`${site.domain}/x@${pushed.index}`] }],
  );
  for (const digest of [pushed.index, pushed.hostManifest, pushed.armManifest])
    assert.equal(
      records.find(`${site.domain}/x@${digest}`)?.id,
      digest === pushed.armManifest ? pushed.arm : pushed.host,
      digest,
    );
  assert.deepEqual(
    records.findTarget(name)!.index!.manifests.map(({ kind, content }) => [kind, content !== undefined]),
    [
      ['image', true],
      ['attestation', false],
      ['image', true],
    ],
  );
  // Two configurations and manifests, one layer, the index.
  assert.equal(await keptBlobs(store), 6);
});

test('removing the name takes all of its platforms; one platform is removed alone, and its default is another one then', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const store = await makeStore(t);
  const { images } = store;
  const name = `${site.domain}/x:1`;
  await images.pull(name);
  await images.pull(name, { platform: arm64 });
  await images.tag(name, 'also:1');
  assert.deepEqual((await images.remove('also:1')).deleted, []);
  assert.match(
    await textOf(() => images.remove(name, { platforms: [hostPlatform()] })),
    /Content will be removed from all images referencing this variant/,
  );
  assert.deepEqual(await images.remove(name, { platforms: [hostPlatform()], force: true }), {
    untagged: [],
    deleted: [pushed.hostManifest],
  });
  assert.equal(images.record(name).id, pushed.arm);
  assert.equal(await keptBlobs(store), 4);
  assert.equal((await images.pull(name)).id, pushed.host);
  const { untagged, deleted } = await images.remove(name);
  assert.deepEqual(untagged, [name, `${site.domain}/x@${pushed.index}`]);
  assert.deepEqual(deleted.toSorted(), [pushed.arm, pushed.host].toSorted());
  assert.deepEqual([images.list(), store.records.list(), await keptBlobs(store)], [[], [], 0]);
});

test('what a container uses of an index stays; its last platform goes with the name', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const users = new Map<string, { id: string; isRunning: boolean; owner: 'docker' }[]>();
  const store = await makeStore(t, { containersOf: (id) => users.get(id) ?? [] });
  const { images } = store;
  const name = `${site.domain}/x:1`;
  await images.pull(name, { platform: arm64 });
  await images.pull(name);
  users.set(pushed.arm, [{ id: 'c'.repeat(64), isRunning: false, owner: 'docker' }]);
  assert.match(await textOf(() => images.remove(name)), /container cccccccccccc is using its referenced image/);
  const all = { all: true, labels: (): boolean => true };
  assert.deepEqual((await images.prune(all)).deleted, []);
  await images.remove(name, { force: true });
  assert.deepEqual(
    images.list().map(({ id }) => id),
    [pushed.arm],
  );
  users.clear();
  await images.prune(all);
  assert.equal(await keptBlobs(store), 0);
  await images.pull(name, { platform: arm64 });
  await images.remove(name, { platforms: [arm64], force: true });
  assert.deepEqual([images.list(), await keptBlobs(store)], [[], 0]);
  // By the digest that a build or a pull told.
  await images.pull(name);
  await images.remove(pushed.index);
  const { manifestDigest } = await images.import(root('x'), { name: 'plain' });
  await images.remove(manifestDigest);
  assert.deepEqual([images.list(), await keptBlobs(store)], [[], 0]);
});

test('an index that is here whole is pushed whole; else the image that is here, and the client is told', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const store = await makeStore(t);
  const { images } = store;
  await images.pull(`${site.domain}/x:1`);
  const push = async (tag: string, platform?: typeof arm64): Promise<Record<string, unknown>[]> => {
    await images.tag(`${site.domain}/x:1`, `${site.domain}/y:${tag}`);
    const events: Record<string, unknown>[] = [];
    await images.push(`${site.domain}/y:${tag}`, {
      credential: ann,
      onProgress: (event) => events.push(event),
      ...(platform === undefined ? {} : { platform }),
    });
    return events;
  };
  const aux = (await push('part')).at(-1)!['aux'] as Record<string, unknown>;
  assert.equal(aux['manifestPushedInsteadOfIndex'], true);
  assert.equal(site.registry.repositories.resolve('y', 'part'), pushed.hostManifest);
  assert.match(await textOf(() => push('arm', arm64)), /does not provide the specified platform \(linux\/arm64\)/);
  // From where all of it is: over the wire, and within the process.
  const whole = await makeStore(t, { platformRegistry: site.platform });
  await site.images.pull(`${site.domain}/x:1`);
  await site.images.tag(`${site.domain}/x:1`, `${site.domain}/z:1`);
  await site.images.push(`${site.domain}/z:1`, {});
  assert.equal(site.registry.repositories.resolve('z', '1'), pushed.index);
  await site.images.push(`${site.domain}/z:1`, { platform: arm64 });
  assert.equal(site.registry.repositories.resolve('z', '1'), pushed.armManifest);
  await whole.images.load(await site.images.save([`${site.domain}/x:1`]), () => {});
  await whole.images.tag(`${site.domain}/x:1`, `${site.domain}/w:1`);
  const other = await makeSite(t);
  await whole.images.tag(`${site.domain}/x:1`, `${other.domain}/w:1`);
  await whole.images.push(`${other.domain}/w:1`, { credential: ann });
  assert.equal(other.registry.repositories.resolve('w', '1'), pushed.index);
  assert.ok(whole.images.record(`${other.domain}/w@${pushed.index}`));
});

test('several platforms are saved and loaded with their index, and one of them alone', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  await site.images.pull(`${site.domain}/x:1`);
  await site.images.tag(`${site.domain}/x:1`, 'both:1');
  type Platforms = readonly (typeof arm64)[];
  const load = async (from: Platforms = [], into: Platforms = []): Promise<Store> => {
    const store = await makeStore(t);
    await store.images.load(await site.images.save(['both:1'], from), () => {}, into);
    return store;
  };
  const both = await load();
  assert.equal(both.images.record('both:1').id, pushed.host);
  assert.equal(both.images.record('both:1', arm64).id, pushed.arm);
  assert.equal(both.records.findTarget('both:1')!.index!.digest, pushed.index);
  assert.equal(await keptBlobs(both), 8);
  assert.equal(both.images.list().length, 1);
  const chosen = await load([], [arm64]);
  assert.equal(chosen.images.record('both:1').id, pushed.arm);
  assert.equal(await keptBlobs(chosen), 6);
  const single = await load([arm64]);
  assert.equal(single.images.record('both:1').id, pushed.arm);
  assert.equal(single.records.findTarget('both:1')!.index, undefined);
  const several = await load([arm64, hostPlatform()]);
  assert.equal(several.records.findTarget('both:1')!.index!.digest, pushed.index);
  assert.equal(several.images.record('both:1', arm64).id, pushed.arm);
  const named = await load([], [hostPlatform(), arm64]);
  assert.equal(named.images.record('both:1').id, pushed.host);
  assert.equal(named.images.record('both:1', arm64).id, pushed.arm);
  await assert.rejects(
    load([arm64, { os: 'linux', architecture: 's390x' }]),
    /does not provide the specified platform/,
  );
});

test('two who bring one platform each, at the same time, both have theirs', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x', 'another');
  const name = `${site.domain}/x:1`;
  for (let round = 0; round < 10; round++) {
    const { images } = await makeStore(t);
    await Promise.all([images.pull(name, { platform: arm64 }), images.pull(name, { platform: hostPlatform() })]);
    assert.equal(images.record(name).id, pushed.host);
    assert.equal(images.record(name, arm64).id, pushed.arm);
    assert.equal(images.list().length, 1);
  }
});

test('the next process finds the index as it was', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const store = await makeStore(t);
  const name = `${site.domain}/x:1`;
  await store.images.pull(name);
  await store.images.pull(name, { platform: arm64 });
  // Nothing is closed, as when it is killed.
  const content = await openTestContent(t, store.content.root);
  const next = await makeStore(t, {}, content);
  await content.collect({ evenYoung: true });
  assert.equal(next.images.record(name).id, pushed.host);
  assert.equal(next.images.record(name, arm64).id, pushed.arm);
  assert.deepEqual((await next.images.remove(name)).deleted.length, 2);
});

test('another node has an index by its own digest, and the platform that it needs', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  await site.images.pull(`${site.domain}/x:1`);
  await site.images.tag(`${site.domain}/x:1`, 'app:1');
  const node = await makeStore(t, { platformRegistry: site.platform });
  assert.equal((await node.images.pull('app:1')).id, pushed.host);
  assert.deepEqual(node.images.list()[0]!.digests, [`app@${pushed.index}`]);
  assert.equal((await node.images.pull('app:1', { platform: arm64 })).id, pushed.arm);
});

test('what the registry serves of an index outlives its names here, and goes when a client deletes it', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const name = `${site.domain}/x:1`;
  await site.images.pull(name);
  await site.images.remove(name);
  assert.deepEqual(site.images.list(), []);
  // All of it is here: what was hidden is shown under the name, whichever platform was asked for.
  await site.images.pull(name, { platform: arm64 });
  assert.deepEqual(
    site.images.list().map(({ id, names }) => [id, names]),
    [[pushed.host, [name]]],
  );
  await site.images.remove(name, { platforms: [arm64], force: true });
  assert.match(await textOf(async () => site.images.record(name, arm64)), /does not provide/);
  await site.images.pull(name, { platform: arm64 });
  await site.images.remove(name);
  await site.content.collect({ evenYoung: true });
  // By the registry's tag alone.
  assert.equal(site.records.find(name)?.id, pushed.host);
  assert.equal(site.images.record(name, arm64).id, pushed.arm);
  const { repositories } = site.registry;
  for (const digest of [pushed.armManifest, pushed.hostManifest, pushed.index])
    await repositories.removeManifest('x', digest);
  assert.equal(site.records.find(name), undefined);
  assert.deepEqual(
    site.records.list().filter(({ id }) => id === pushed.host || id === pushed.arm),
    [],
  );
});

test('indexes that lie are pulled or refused, and nothing of them stays', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const store = await makeStore(t);
  const arm = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: pushed.armManifest, platform: arm64 };
  const host = { ...arm, digest: pushed.hostManifest, platform: hostPlatform() };
  const load = (manifests: object[]): Promise<string> => textOf(() => loadIndex(store, site, manifests));
  // The same twice, one without a type, one that is not here, what is no descriptor.
  const twice = [
    host,
    host,
    { digest: host.digest, platform: host.platform },
    { ...arm, digest: `sha256:${'0'.repeat(64)}` },
  ];
  assert.equal(await load([...twice, { ...arm, platform: { os: 5 } }]), 'nothing was wrong');
  assert.equal(store.images.record('made:1').id, pushed.host);
  await store.images.remove('made:1');
  assert.match(await load(Array.from({ length: 10_001 }, () => host)), /at most 10000|more than 10000 manifests/);
  assert.equal(
    await load([
      ...Array.from({ length: 2000 }, (_, at) => ({ ...arm, digest: `sha256:${String(at).padStart(64, '0')}` })),
      host,
    ]),
    'nothing was wrong',
  );
  await store.images.remove('made:1');
  assert.equal(await keptBlobs(store), 0);
});

/** Loads an archive whose one name is an index of these manifests, with all blobs of the site. */
async function loadIndex(store: Store, site: Store, manifests: object[]): Promise<void> {
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
  const digest = `sha256:${createHash('sha256').update(index).digest('hex')}`;
  const parts = [encodeTarFile({ path: `blobs/sha256/${digest.slice(7)}` }, index)];
  for (const [each] of site.content.blobs.list())
    parts.push(
      encodeTarFile({ path: `blobs/sha256/${each.slice(7)}` }, await site.content.blobs.readBytes(each, 1 << 20)),
    );
  const descriptor = {
    mediaType: 'application/vnd.oci.image.index.v1+json',
    digest,
    size: index.length,
    annotations: { 'io.containerd.image.name': 'docker.io/library/made:1' },
  };
  parts.push(encodeTarFile({ path: 'index.json' }, JSON.stringify({ schemaVersion: 2, manifests: [descriptor] })));
  await store.images.load(bytesOf(...parts, tarEnd), () => {});
}

type Answer = Record<string, unknown>;

/** Asks a route of the images. */
async function ask(store: Store, endpoint: string, query: Record<string, string>, minor = 50): Promise<unknown> {
  const route = imageRoutes(store).find((each) => `${each.method} ${each.path}` === endpoint);
  assert.ok(route, endpoint);
  const { name = '', ...rest } = query;
  return route.handle(contextOf(new URLSearchParams(rest), [], { name, minor }));
}

test('manifests are listed and inspected with their sizes and users, from the versions on that have them', async (t) => {
  const site = await makeSite(t);
  const pushed = await pushIndex(site, 'x');
  const store = await makeStore(t, {
    containersOf: (id) => (id === pushed.host ? [{ id: 'c1', isRunning: true, owner: 'docker' }] : []),
  });
  const name = `${site.domain}/x:1`;
  await store.images.pull(name);
  const list = (minor: number): Promise<unknown> => ask(store, 'GET /images/json', { manifests: '1' }, minor);
  const [old] = (await list(46)) as Answer[];
  assert.deepEqual([old!['Manifests'], old!['Descriptor']], [undefined, undefined]);
  const [shown, ...others] = (await list(50)) as Answer[];
  assert.deepEqual([others, shown!['Id'], shown!['RepoTags']], [[], pushed.host, [name]]);
  assert.equal((shown!['Descriptor'] as Answer)['digest'], pushed.index);
  const [arm, attestation, host] = shown!['Manifests'] as Answer[];
  assert.deepEqual(
    [arm!['ID'], arm!['Available'], arm!['Kind'], arm!['ImageData']],
    [pushed.armManifest, false, 'image', { Platform: arm64, Size: { Unpacked: 0 }, Containers: [] }],
  );
  assert.deepEqual(
    [attestation!['Kind'], attestation!['AttestationData']],
    ['attestation', { For: pushed.hostManifest }],
  );
  const sizes = host!['Size'] as { Content: number; Total: number };
  const data = host!['ImageData'] as { Size: { Unpacked: number }; Containers: string[] };
  assert.deepEqual([host!['ID'], host!['Available'], data.Containers], [pushed.hostManifest, true, ['c1']]);
  assert.ok(sizes.Content > 0 && data.Size.Unpacked > 0 && sizes.Total === sizes.Content + data.Size.Unpacked);
  const inspect = (query: Record<string, string>, minor = 50): Promise<unknown> =>
    ask(store, 'GET /images/{name*}/json', { name, ...query }, minor);
  const whole = (await inspect({ manifests: '1' })) as Answer;
  assert.equal((whole['Manifests'] as Answer[]).length, 3);
  assert.equal(((await inspect({ manifests: '1' }, 47)) as Answer)['Manifests'], undefined);
  const counts = async (minor: number): Promise<unknown[]> =>
    ((await list(minor)) as Answer[]).map((image) => image['Containers']);
  assert.deepEqual([await counts(50), await counts(51)], [[-1], [1]]);
  const isOfContainers = async (minor: number): Promise<boolean> =>
    'Hostname' in (((await inspect({}, minor)) as Answer)['Config'] as Answer);
  assert.deepEqual([await isOfContainers(49), await isOfContainers(50)], [true, false]);
  const platform = JSON.stringify(arm64);
  assert.match(await textOf(() => inspect({ platform })), /does not provide the specified platform \(linux\/arm64\)/);
  await store.images.pull(name, { platform: arm64 });
  const one = (await inspect({ platform })) as Answer;
  assert.deepEqual(
    [one['Architecture'], one['RepoTags'], (one['Descriptor'] as Answer)['digest']],
    ['arm64', [name], pushed.armManifest],
  );
  assert.equal(((await inspect({ platform }, 48)) as Answer)['Architecture'], hostPlatform().architecture);
  assert.match(await textOf(() => inspect({ platform, manifests: '1' })), /cannot both be set/);
  assert.match(
    await textOf(() => inspect({ platform: '{"os":"linux"}' })),
    /both OS and Architecture must be provided/,
  );
  // One that came by an archive, and that nobody has run, is not unpacked.
  const other = await makeStore(t);
  const distinct = await makeSite(t);
  await pushIndex(distinct, 'x', 'another');
  await distinct.images.pull(`${distinct.domain}/x:1`);
  await other.images.load(await distinct.images.save([`${distinct.domain}/x:1`]), () => {});
  const query = { name: `${distinct.domain}/x:1`, platform };
  const loaded = (await ask(other, 'GET /images/{name*}/json', query)) as Answer;
  assert.deepEqual(loaded['GraphDriver'], { Data: null, Name: 'overlay2' });
  // What is named apart is shown apart.
  const { manifestDigest } = store.records.get(pushed.host)!;
  await store.images.pull(`${site.domain}/x@${manifestDigest}`);
  await store.images.tag(`${site.domain}/x@${manifestDigest}`, 'alone:1');
  assert.deepEqual(
    ((await list(50)) as Answer[]).map((each) => [each['RepoTags'], (each['Manifests'] as Answer[]).length]),
    [
      [['alone:1'], 1],
      [[name], 3],
    ],
  );
  // A plain image has one manifest.
  const made = await store.images.import(root('plain'), { name: 'plain' });
  const plain = (await ask(store, 'GET /images/{name*}/json', { name: 'plain', manifests: '1' })) as Answer;
  assert.deepEqual(
    (plain['Manifests'] as Answer[]).map((each) => [each['ID'], each['Kind'], each['Available']]),
    [[made.manifestDigest, 'image', true]],
  );
});
