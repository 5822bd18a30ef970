/**
 * The registry over HTTP on loopback: who may do what, how clients are asked who they are, uploads, and names that are
 * none.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import type { Content } from '#content/content.ts';
import { createImageRecords } from '#content/image-records.ts';
import { uploadEvictableIdleMs, uploadIdleMs, uploadsPerUserMax } from '#content/limits.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import type { TestScope } from '#content/testing.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { Clock } from '#os/clock.ts';
import { createAccess, internalUser } from './access.ts';
import type { Access } from './access.ts';
import { createRegistry } from './registry.ts';
import { createRegistryServer, createSecureRegistryServer } from './server.ts';

interface Bench {
  content: Content;
  access: Access;
  call(
    method: string,
    path: string,
    options?: { user?: string; token?: string; headers?: Record<string, string>; body?: string },
  ): Promise<Response>;
  clock: Clock & { skewMs: number };
}

/** Real time that can be moved on. */
function skewedClock(): Clock & { skewMs: number } {
  const clock = {
    skewMs: 0,
    now: () => realClock.now() + clock.skewMs,
    monotonic: () => realClock.monotonic() + clock.skewMs,
    setTimer: realClock.setTimer.bind(realClock),
    sleep: realClock.sleep.bind(realClock),
  };
  return clock;
}

async function makeBench(t: TestScope, users: string[] = ['root', 'ann', 'bob']): Promise<Bench> {
  const clock = skewedClock();
  const content = await openTestContent(t, undefined, clock);
  const access = createAccess({ content, clock, random: realRandom });
  for (const user of users) await access.setUser(user, `${user}-pass`, true);
  const server = createRegistryServer(
    createRegistry({ content, images: createImageRecords(content), access, log: silentLogger, clock, domains: [] }),
  );
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    content,
    access,
    clock,
    call(method, path, options = {}) {
      const authorization =
        options.user !== undefined
          ? {
              authorization: `Basic ${Buffer.from(options.user.includes(':') ? options.user : `${options.user}:${options.user}-pass`).toString('base64')}`,
            }
          : options.token !== undefined
            ? { authorization: `Bearer ${options.token}` }
            : {};
      return fetch(path.startsWith('http') ? path : `${url}${path}`, {
        method,
        headers: { ...authorization, ...options.headers },
        ...(options.body === undefined ? {} : { body: options.body }),
      });
    },
  };
}

const digestOf = (bytes: string): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const begin = async (bench: Bench, user: string, repository: string): Promise<{ status: number; location: string }> => {
  const answer = await bench.call('POST', `/v2/${repository}/blobs/uploads/`, { user });
  return { status: answer.status, location: answer.headers.get('location') ?? '' };
};

async function putImage(bench: Bench, user: string, repository: string, tag: string): Promise<number> {
  for (const blob of ['{}', 'layer'])
    await bench.call('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(blob)}`, { user, body: blob });
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/x', digest: digestOf('{}'), size: 2 },
    layers: [{ mediaType: 'application/y', digest: digestOf('layer'), size: 5 }],
  });
  return (
    await bench.call('PUT', `/v2/${repository}/manifests/${tag}`, {
      user,
      body,
      headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    })
  ).status;
}

test('a user writes and deletes below his own name, an administrator everywhere, and the first user is one', async (t) => {
  const bench = await makeBench(t);
  assert.deepEqual(
    [
      await putImage(bench, 'ann', 'ann/x', '1'),
      await putImage(bench, 'ann', 'ann', '1'),
      await putImage(bench, 'root', 'library/busybox', '1'),
    ],
    [201, 201, 201],
  );
  for (const repository of ['ann/x', 'ann', 'library/busybox', 'annex', 'bobby/x']) {
    const refused = [
      await begin(bench, 'bob', repository).then(({ status }) => status),
      await putImage(bench, 'bob', repository, '1'),
      (await bench.call('DELETE', `/v2/${repository}/manifests/1`, { user: 'bob' })).status,
      (await bench.call('DELETE', `/v2/${repository}/blobs/${digestOf('layer')}`, { user: 'bob' })).status,
    ];
    assert.deepEqual(refused, [403, 403, 403, 403], repository);
  }
  assert.match(
    await (await bench.call('POST', '/v2/ann/x/blobs/uploads/', { user: 'bob' })).text(),
    /DENIED.*bob writes to bob and bob\/\.\.\. only/,
  );
  assert.equal((await bench.call('GET', '/v2/ann/x/manifests/1', { user: 'bob' })).status, 200);
  assert.equal((await bench.call('DELETE', '/v2/ann/x/manifests/1', { user: 'root' })).status, 202);
});

test('an upload belongs to its user and repository', async (t) => {
  const bench = await makeBench(t);
  const { location } = await begin(bench, 'ann', 'ann/x');
  const id = location.split('/').pop()!;
  const statuses = [];
  for (const [user, repository] of [
    ['bob', 'bob/x'],
    ['root', 'ann/x'],
    ['ann', 'ann/y'],
  ] as const)
    statuses.push((await bench.call('DELETE', `/v2/${repository}/blobs/uploads/${id}`, { user })).status);
  assert.deepEqual(statuses, [404, 404, 404]);
  assert.deepEqual(
    [(await bench.call('GET', location)).status, (await bench.call('GET', location, { user: 'ann' })).status],
    [401, 204],
  );
  assert.equal(
    (await bench.call('PUT', `${location}?digest=${digestOf('x')}`, { user: 'ann', body: 'x' })).status,
    201,
  );
});

test('reserved names, names that are no repository, and roles that stay with a new password', async (t) => {
  const bench = await makeBench(t, ['root']);
  for (const name of ['library', internalUser, 'a:b', '', 'a..b', 'A'])
    await assert.rejects(bench.access.setUser(name, 'x', true), /invalid user name|reserved/, name);
  assert.deepEqual(
    [
      await bench.access.setUser('root', 'new', true),
      await bench.access.setUser('eve', 'x', true),
      await bench.access.setUser('eve', 'y', true, true),
      await bench.access.setUser('eve', 'z', true),
    ].map((each) => each.isAdministrator),
    [true, false, true, true],
  );
});

test('the only user of before there were administrators keeps writing everywhere, also when others come', async (t) => {
  const bench = await makeBench(t, ['old']);
  const record = bench.content.records.get<Record<string, unknown>>('registry-users', 'old')!;
  await bench.content.records.commit([
    { table: 'registry-users', key: 'old', value: { ...record, isAdministrator: undefined } },
  ]);
  assert.equal((await begin(bench, 'old', 'team/app')).status, 202);
  await bench.access.setUser('new', 'new-pass', true);
  assert.deepEqual(
    [(await begin(bench, 'old', 'team/app')).status, (await begin(bench, 'new', 'team/app')).status],
    [202, 403],
  );
});

test('/v2/ asks who is there though pulls are open, and a token answers it', async (t) => {
  const bench = await makeBench(t);
  await putImage(bench, 'ann', 'ann/x', '1');
  const asked = await bench.call('GET', '/v2/');
  const challenge = /^Bearer realm="(http:[^"]*\/v2\/token)",service="([^"]*)"$/.exec(
    asked.headers.get('www-authenticate') ?? '',
  );
  assert.equal(asked.status, 401);
  const tokenOf = async (user?: string): Promise<{ status: number; token: string }> => {
    const answer = await bench.call(
      'GET',
      `${challenge![1]!}?service=${challenge![2]!}&scope=repository:ann/x:pull`,
      user === undefined ? {} : { user },
    );
    return {
      status: answer.status,
      token: answer.status === 200 ? ((await answer.json()) as { token: string }).token : '',
    };
  };
  assert.deepEqual(
    [
      (await tokenOf('ann:wrong')).status,
      (await bench.call('GET', '/v2/', { user: 'ann' })).status,
      (await bench.call('GET', '/v2/', { token: 'x.y' })).status,
    ],
    [401, 200, 401],
  );
  const nobody = await tokenOf();
  const ann = await tokenOf('ann');
  const tried = async (token: string): Promise<number[]> => [
    (await bench.call('GET', '/v2/', { token })).status,
    (await bench.call('GET', '/v2/ann/x/manifests/1', { token })).status,
    (await bench.call('POST', '/v2/ann/x/blobs/uploads/', { token })).status,
  ];
  assert.deepEqual(
    [await tried(nobody.token), await tried(ann.token)],
    [
      [200, 200, 401],
      [200, 200, 202],
    ],
  );
  // Clients that know no password send an empty one.
  assert.equal((await bench.call('GET', '/v2/ann/x/manifests/1', { user: ':' })).status, 200);
  assert.match(
    (await bench.call('POST', '/v2/ann/x/blobs/uploads/', { token: nobody.token })).headers.get('www-authenticate') ??
      '',
    /scope="repository:ann\/x:pull,push"/,
  );
  await bench.access.setUser('ann', 'changed', true);
  assert.equal((await bench.call('GET', '/v2/', { token: ann.token })).status, 401);
  bench.clock.skewMs = 3600_000;
  assert.equal((await bench.call('GET', '/v2/', { token: nobody.token })).status, 401);
});

test('abandoned uploads of one user keep nobody from pushing, and go in time', async (t) => {
  const bench = await makeBench(t);
  const owner = { user: 'bob', repository: 'bob/x' };
  const first = await bench.content.blobs.startUpload(owner);
  for (let count = 1; count < uploadsPerUserMax; count++) await bench.content.blobs.startUpload(owner);
  // While they may still be in use, bob has to wait; ann has not.
  assert.deepEqual(
    [(await begin(bench, 'bob', 'bob/x')).status, (await begin(bench, 'ann', 'ann/x')).status],
    [429, 202],
  );
  bench.clock.skewMs += uploadEvictableIdleMs;
  await bench.content.blobs.upload(first.id, owner)!.append(bytesOf('still coming'));
  assert.equal((await begin(bench, 'bob', 'bob/x')).status, 202);
  assert.ok(bench.content.blobs.upload(first.id, owner) !== undefined);
  bench.clock.skewMs += uploadIdleMs + 1;
  await begin(bench, 'ann', 'ann/x');
  assert.equal(readdirSync(`${bench.content.root}/uploads`).length, 1);
});

test('a finished upload is finished once, whoever else comes at the same moment', async (t) => {
  const bench = await makeBench(t);
  for (const finish of ['PUT', 'DELETE', 'PATCH']) {
    const { location } = await begin(bench, 'ann', 'ann/x');
    await bench.call('PATCH', location, { user: 'ann', body: 'content' });
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, index) =>
        bench.call(
          index === 0 ? 'PUT' : finish,
          index === 0 || finish === 'PUT' ? `${location}?digest=${digestOf('content')}` : location,
          { user: 'ann' },
        ),
      ),
    );
    const statuses = answers.map((answer) => answer.status);
    assert.ok(
      statuses.every((status) => [201, 202, 204, 404].includes(status)),
      `${finish}: ${statuses.join(' ')}`,
    );
    assert.ok(
      statuses.filter((status) => status === 201).length <= 1 && (finish === 'PATCH' || statuses.includes(404)),
      `${finish}: ${statuses.join(' ')}`,
    );
  }
});

test('escapes that are none are wrong names, not failures', async (t) => {
  const bench = await makeBench(t);
  const paths = [
    '/v2/r/manifests/%zz',
    '/v2/r/manifests/%',
    '/v2/r/blobs/%zz',
    '/v2/r/blobs/uploads/%zz',
    '/v2/r/referrers/%zz',
    '/v2/%zz/tags/list',
    '/v2/r/tags/%zz',
    '/v2/_catalog?last=%zz',
    '//',
    '//v2/',
    '/v2//tags/list',
  ];
  const statuses: [string, number][] = [];
  for (const path of paths) statuses.push([path, (await bench.call('GET', path)).status]);
  assert.deepEqual(
    statuses.filter(([, status]) => status >= 500),
    [],
  );
  assert.deepEqual(
    statuses.slice(0, 3).map(([, status]) => status),
    [400, 400, 400],
  );
});

test('a manifest that says nonsense is refused', async (t) => {
  const bench = await makeBench(t);
  await putImage(bench, 'ann', 'ann/x', '1');
  const config = { mediaType: 'application/x', digest: digestOf('{}'), size: 2 };
  const layer = { mediaType: 'application/y', digest: digestOf('layer'), size: 5 };
  const image = { schemaVersion: 2, config, layers: [layer] };
  const child = { ...config, digest: digestOf('layer') };
  const wrong: Record<string, unknown>[] = [
    { ...image, config: { ...config, size: -1 } },
    { ...image, layers: [{ ...layer, size: 1.5 }] },
    { ...image, layers: [{ ...layer, size: 1e30 }] },
    { ...image, layers: [{ ...layer, digest: 'sha256:x' }] },
    { ...image, layers: [{ ...layer, mediaType: 7 }] },
    { ...image, annotations: { a: 1 } },
    { ...image, annotations: [] },
    { ...image, annotations: 'x' },
    { ...image, layers: [{ ...layer, annotations: { a: {} } }] },
    { ...image, artifactType: {} },
    { ...image, layers: [{ ...layer, urls: 'x' }] },
    { ...image, layers: [null] },
    { ...image, subject: { ...config, digest: 'nonsense' } },
    { ...image, subject: { ...config, size: -2 } },
    { ...image, subject: 'x' },
    { ...image, mediaType: 5 },
    { schemaVersion: 2, manifests: [{ ...child, size: -1 }] },
    { schemaVersion: 2, manifests: [{ ...child, platform: 'linux' }] },
    { schemaVersion: 2, manifests: [{ ...child, platform: { os: 5, architecture: 'x' } }] },
    { schemaVersion: 2, manifests: [], annotations: { a: null } },
    { schemaVersion: 2, manifests: {} },
    { schemaVersion: 2, manifests: [], layers: [layer], config },
    { schemaVersion: '2', manifests: [] },
  ];
  const taken: string[] = [];
  for (const manifest of wrong) {
    const type =
      'manifests' in manifest
        ? 'application/vnd.oci.image.index.v1+json'
        : 'application/vnd.oci.image.manifest.v1+json';
    const answer = await bench.call('PUT', '/v2/ann/x/manifests/wrong', {
      user: 'ann',
      body: JSON.stringify(manifest),
      headers: { 'content-type': type },
    });
    if (answer.status !== 400 || !(await answer.text()).includes('MANIFEST_INVALID'))
      taken.push(`${answer.status} ${JSON.stringify(manifest)}`);
  }
  assert.deepEqual(taken, []);
  for (const [type, manifest] of [
    ['application/vnd.oci.image.index.v1+json', image],
    ['application/vnd.oci.image.manifest.v1+json', { schemaVersion: 2, manifests: [] }],
  ] as const) {
    assert.equal(
      (
        await bench.call('PUT', '/v2/ann/x/manifests/wrong', {
          user: 'ann',
          body: JSON.stringify(manifest),
          headers: { 'content-type': type },
        })
      ).status,
      400,
    );
  }
});

test("over TLS an engine is known by its node's certificate, and by that of no other authority or group", async (t) => {
  const content = await openTestContent(t);
  const access = createAccess({ content, clock: realClock, random: realRandom });
  const images = createImageRecords(content);
  const registry = createRegistry({
    ...{ content, images, access, log: silentLogger, clock: realClock, domains: [] },
    isRemoved: ({ name, issuedAtMs }) => name === 'system:node:gone' && issuedAtMs <= realClock.now(),
  });
  const [ca, other] = ['ca', 'other'].map((name) => createCertificateAuthority(name, realRandom, realClock));
  const server = createSecureRegistryServer(registry);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const status = (names: Parameters<typeof issueCertificate>[0] | undefined, signer = ca!): Promise<number | string> =>
    new Promise((resolve) => {
      const pair = names === undefined ? undefined : issueCertificate(names, signer, realRandom, realClock);
      const identity = pair === undefined ? {} : { cert: pair.certificatePem, key: pair.keyPem };
      const path = '/v2/a/b/blobs/uploads/';
      const options = { port, path, method: 'POST', ca: ca!.certificatePem, agent: false as const, ...identity };
      const asked = request({ host: '127.0.0.1', ...options }, (answer) => {
        answer.resume();
        resolve(answer.statusCode ?? 0);
      });
      asked.on('error', () => resolve('no connection'));
      asked.end();
    });
  const node = { commonName: 'system:node:a', organizations: ['system:nodes'], client: true };
  assert.equal(await status(node), 'no connection', 'it has no certificate of its own yet');
  const serving = issueCertificate(
    { commonName: 'system:node:b', server: true, ipAddresses: ['127.0.0.1'] },
    ca!,
    realRandom,
    realClock,
  );
  server.setSecureContext({ cert: serving.certificatePem, key: serving.keyPem, ca: ca!.certificatePem });
  assert.equal(await status(node), 202);
  assert.equal(await status(undefined), 401);
  assert.equal(await status(node, other), 401);
  assert.equal(await status({ ...node, commonName: 'system:node:gone' }), 401, 'it was taken out of the cluster');
  assert.equal(await status({ commonName: 'jane', organizations: ['system:masters'], client: true }), 401);
});
