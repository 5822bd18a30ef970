/**
 * Nothing is taken in silence: every parameter that the Engine API 1.56 has for images and builds is read by its
 * endpoint. What is not is listed here, with the reason; the list may only shrink.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createBuilder } from '#build/builder.ts';
import { createImageRecords } from '#content/image-records.ts';
import type { HttpTransport } from '#content/remote.ts';
import { createSnapshots } from '#content/snapshots.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import { createImages } from '#engine/images.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { buildParameters, parseBuildRequest } from './build-request.ts';
import { buildRoutes } from './build.ts';
import { imageRoutes } from './images.ts';
import { contextOf } from './testing.ts';

/** `METHOD path` → parameters of the query with a value that each takes. */
const parameters: Record<string, Record<string, string>> = {
  'GET /images/json': { all: '1', filters: '{}', 'shared-size': '1', digests: '1', manifests: '1', identity: '1' },
  'POST /build': {
    dockerfile: 'D',
    t: 'a:1',
    extrahosts: 'a:1.2.3.4',
    remote: 'http://127.0.0.1:1/',
    q: '1',
    nocache: '1',
    cachefrom: '["a"]',
    pull: '1',
    rm: '1',
    forcerm: '1',
    memory: '1',
    memswap: '1',
    cpushares: '1',
    cpusetcpus: '0',
    cpuperiod: '1',
    cpuquota: '1',
    buildargs: '{}',
    shmsize: '1',
    squash: '0',
    labels: '{}',
    networkmode: 'host',
    platform: 'linux',
    target: 't',
    outputs: '[]',
    version: '1',
    ulimits: '[]',
    cgroupparent: '/a',
    cpusetmems: '',
    isolation: '',
    securityopt: '',
    session: '',
    buildid: 'x',
  },
  'POST /build/prune': {
    'keep-storage': '1',
    'reserved-space': '0',
    'max-used-space': '1',
    'min-free-space': '1',
    all: '1',
    filters: '{}',
  },
  'POST /images/create': {
    fromImage: '',
    fromSrc: '-',
    repo: 'x',
    tag: 'y',
    message: 'm',
    changes: 'ENV a=1',
    platform: 'linux/amd64',
  },
  'GET /images/{name*}/json': { manifests: '1', platform: '' },
  'GET /images/{name*}/history': { platform: '' },
  'POST /images/{name*}/push': { tag: '1', platform: '' },
  'POST /images/{name*}/tag': { repo: 'x', tag: 'y' },
  'DELETE /images/{name*}': { force: '1', noprune: '1', platforms: '' },
  'POST /images/prune': { filters: '{}' },
  'GET /images/{name*}/get': { platform: '' },
  'GET /images/{name*}/attestations': { platform: '', type: '', statement: '' },
  'GET /images/get': { names: 'base', platform: '' },
  'POST /images/load': { quiet: '1', platform: '' },
};

const unread: Record<string, string> = {
  'GET /images/json digests': 'digests are always in the answer',
  'POST /build forcerm': 'containers of steps are always removed',
};

class ReadQuery extends URLSearchParams {
  readonly names = new Set<string>();
  override get(name: string): string | null {
    this.names.add(name);
    return super.get(name);
  }
  override getAll(name: string): string[] {
    this.names.add(name);
    return super.getAll(name);
  }
}

test('every parameter of builds and images is read, or is on the list', async (t) => {
  const content = await openTestContent(t);
  const records = createImageRecords(content);
  const images = createImages({
    content,
    records,
    clock: realClock,
    log: silentLogger,
    transport: {
      call: async () => {
        throw new Error('unreachable');
      },
    } as unknown as HttpTransport,
    emit: () => {},
  });
  const mounts = createMounts();
  const snapshots = createSnapshots({ content, images: records, mounts });
  const runner = { run: async () => ({ exitCode: 0 }), remove: async () => {}, removeStale: async () => {} };
  const builder = createBuilder({
    content,
    images,
    records,
    snapshots,
    runner,
    mounts,
    processes: linuxProcesses,
    clock: realClock,
    random: realRandom,
  });
  const routes = [...imageRoutes({ images }), ...buildRoutes({ builder, images })];
  const missing: string[] = [];
  for (const [endpoint, values] of Object.entries(parameters)) {
    await images.import(bytesOf(encodeTarFile({ path: 'f' }, 'x'), tarEnd), { name: 'base' });
    const route = routes.find((each) => `${each.method} ${each.path}` === endpoint)!;
    const query = new ReadQuery(values);
    // What becomes of the request does not matter here, only that it was read.
    await route.handle(contextOf(query, [encodeTarFile({ path: 'f' }, 'x'), tarEnd])).catch(() => {});
    if (endpoint === 'POST /images/create') {
      query.delete('fromSrc');
      // Which parameters it read is all that counts.
      await route.handle(contextOf(query)).catch(() => {});
    }
    for (const name of Object.keys(values)) if (!query.names.has(name)) missing.push(`${endpoint} ${name}`);
  }
  assert.deepEqual(missing.sort(), Object.keys(unread).sort());
});

test('every parameter of a build is carried out, refused or warned about', async () => {
  assert.deepEqual(
    Object.keys(parameters['POST /build']!).filter((name) => buildParameters[name] === undefined),
    [],
  );
  const parse = (
    values: Record<string, string>,
    headers: Record<string, string> = {},
  ): ReturnType<typeof parseBuildRequest> => {
    const context = contextOf(new URLSearchParams(values));
    Object.assign(context.request.headers, headers);
    return parseBuildRequest(context);
  };
  const refused: Record<string, string> = {
    squash: '1',
    outputs: '[{}]',
    version: '2',
    isolation: 'hyperv',
    securityopt: 'seccomp=unconfined',
    session: 'x',
  };
  const warned: Record<string, string> = { cachefrom: '["a"]', rm: '0' };
  for (const [name, what] of Object.entries(buildParameters)) {
    if (what === 'refused') assert.throws(() => parse({ [name]: refused[name]! }), /./, name);
    if (what === 'warned') assert.equal(parse({ [name]: warned[name]! }).warnings.length, 1, name);
  }
  for (const [name, value] of [
    ['memory', 'x'],
    ['memory', '-1'],
    ['cpuquota', '1.5'],
    ['shmsize', '99999999999999999999'],
    ['ulimits', '{}'],
    ['ulimits', '[{"Name":5}]'],
    ['buildargs', '[]'],
    ['buildargs', '{"a":5}'],
    ['labels', '{"a":null}'],
    ['cachefrom', '{}'],
    ['platform', 'a/b/c/d'],
    ['version', '7'],
    ['t', 'UPPER'],
    ['cpusetmems', '7-'],
    ['outputs', '{'],
  ] as const) {
    assert.throws(() => parse({ [name]: value }), /./, `${name}=${value}`);
  }
  const { request } = parse(
    {
      ulimits: '[{"Name":"nofile","Soft":99,"Hard":99}]',
      memory: '67108864',
      cpuquota: '5',
      cgroupparent: '/p',
      shmsize: '9',
      extrahosts: 'a:1.2.3.4',
      networkmode: 'none',
      platform: 'arm64',
    },
    {
      'x-registry-config': Buffer.from(
        JSON.stringify({
          'https://index.docker.io/v1/': { username: 'u', password: 'p' },
          'r:5000': { identitytoken: 't' },
        }),
      ).toString('base64url'),
    },
  );
  assert.deepEqual(
    [
      request.run.resources?.ulimits,
      request.run.resources?.memoryLimitBytes,
      request.run.resources?.cpuQuotaUs,
      request.run.cgroupParent,
      request.run.shmSizeBytes,
      request.run.extraHosts,
      request.run.network,
      request.platform,
    ],
    [
      [{ name: 'nofile', soft: 99, hard: 99 }],
      67_108_864,
      5,
      '/p',
      9,
      ['a:1.2.3.4'],
      'none',
      { os: 'linux', architecture: 'arm64' },
    ],
  );
  assert.deepEqual(await Promise.all(['docker.io', 'r:5000', 'other'].map((domain) => request.credential!(domain))), [
    { username: 'u', password: 'p' },
    { identityToken: 't' },
    undefined,
  ]);
});

test('filters that are true or false are nothing else, and a digest is not pushed', async (t) => {
  const content = await openTestContent(t);
  const images = createImages({
    content,
    records: createImageRecords(content),
    clock: realClock,
    log: silentLogger,
    transport: {} as HttpTransport,
    emit: () => {},
  });
  const routes = imageRoutes({ images });
  const call = (endpoint: string, query: Record<string, string>): Promise<unknown> =>
    routes.find((each) => `${each.method} ${each.path}` === endpoint)!.handle(contextOf(new URLSearchParams(query)));
  for (const endpoint of ['GET /images/json', 'POST /images/prune']) {
    for (const value of ['maybe', ''])
      await assert.rejects(
        call(endpoint, { filters: JSON.stringify({ dangling: [value] }) }),
        /invalid filter 'dangling=/,
      );
    await call(endpoint, { filters: '{"dangling":["True"]}' });
  }
  await assert.rejects(images.push(`x@sha256:${'0'.repeat(64)}`, {}), /cannot push a digest reference/);
});
