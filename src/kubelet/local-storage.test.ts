import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Pod, PodSpec } from '#api/core.v1.ts';
import { boundsStorage, exceededStorage, storageOf, type StorageReading } from './local-storage.ts';
import { containerLogPath, podDir } from './pod-paths.ts';
import { measureStorage } from './pod-storage.ts';

const mebi = 2 ** 20;
const use = (bytes: number): { bytes: number; inodes: number } => ({ bytes, inodes: 1 });
const podOf = (spec: PodSpec): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'it',
    namespace: 'default',
    uid: 'u',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec,
});
const limited = (name: string, limit?: string): PodSpec['containers'][number] => ({
  name,
  image: 'i',
  ...(limit === undefined ? {} : { resources: { limits: { 'ephemeral-storage': limit } } }),
});
const readingOf = (part: Partial<StorageReading>): StorageReading => ({
  atMs: 0,
  volumes: new Map(),
  claims: new Map(),
  logs: new Map(),
  roots: new Map(),
  others: use(0),
  ...part,
});

test('an emptyDir on disk is held to its size limit, one in memory is not, and neither is one that sets none', () => {
  const volumes = (medium: string, sizeLimit?: string): PodSpec => ({
    containers: [limited('c')],
    volumes: [{ name: 'v', emptyDir: { medium, ...(sizeLimit === undefined ? {} : { sizeLimit }) } }],
  });
  const holds = (bytes: number): StorageReading =>
    readingOf({ volumes: new Map([['v', { ...use(bytes), isOnDisk: true }]]) });
  const pod = podOf(volumes('', '10Mi'));
  assert.equal(exceededStorage(pod, holds(10 * mebi), false), undefined);
  assert.equal(
    exceededStorage(pod, holds(10 * mebi + 1), false),
    'Usage of EmptyDir volume "v" exceeds the limit "10Mi". ',
  );
  for (const each of [volumes('Memory', '10Mi'), volumes('', '0'), volumes('')]) {
    assert.equal(boundsStorage(podOf(each)), false);
    assert.equal(exceededStorage(podOf(each), holds(2 ** 40), false), undefined);
  }
});

test('a container is held to what it and its log take, and to its log alone where images have a disk of their own', () => {
  const pod = podOf({ containers: [limited('a', '10Mi'), limited('b')] });
  const reading = readingOf({
    roots: new Map([
      ['a', use(6 * mebi)],
      ['b', use(1)],
    ]),
    logs: new Map([['a', use(3 * mebi)]]),
  });
  assert.equal(exceededStorage(pod, reading, false), undefined);
  const more = { ...reading, logs: new Map([['a', use(5 * mebi)]]), roots: new Map([['a', use(5 * mebi + 1)]]) };
  assert.equal(
    exceededStorage(podOf({ containers: [limited('a', '10Mi'), limited('b', '1Gi')] }), more, true),
    undefined,
  );
  assert.equal(
    exceededStorage(podOf({ containers: [limited('a', '10Mi'), limited('b', '1Gi')] }), more, false),
    'Container a exceeded its local ephemeral storage limit "10Mi". ',
  );
});

test('all containers together are held to the sum of what they set, whoever of them used it', () => {
  const pod = podOf({ containers: [limited('a', '10Mi'), limited('b', '20Mi')] });
  const volumes = new Map([
    ['disk', { ...use(15 * mebi), isOnDisk: true }],
    ['memory', { ...use(2 ** 40), isOnDisk: false }],
  ]);
  const reading = readingOf({ volumes, roots: new Map([['b', use(15 * mebi)]]) });
  assert.equal(storageOf(reading).bytes, 30 * mebi);
  assert.equal(exceededStorage(pod, reading, false), undefined);
  assert.equal(
    exceededStorage(pod, { ...reading, others: use(1) }, false),
    'Pod ephemeral local storage usage exceeds the total limit of containers 30Mi. ',
  );
});

test('what lies on a node for a Pod: volumes by name, logs by container, other files; claims as their file system', async () => {
  const top = mkdtempSync(join(tmpdir(), 'storage-'));
  try {
    const paths = { podsDir: join(top, 'pods'), secretsDir: join(top, 'secrets'), logsDir: join(top, 'logs') };
    const pod = podOf({
      containers: [limited('c')],
      volumes: [
        { name: 'v', emptyDir: {} },
        { name: 'host', hostPath: { path: top } },
        { name: 'claim', persistentVolumeClaim: { claimName: 'x' } },
        { name: 'later', emptyDir: {} },
      ],
    });
    const volume = join(podDir(paths, 'u'), 'volumes', 'kubernetes.io~empty-dir', 'v');
    for (const path of [volume, join(podDir(paths, 'u'), 'containers'), join(top, 'claimed')])
      mkdirSync(path, { recursive: true });
    writeFileSync(join(volume, 'a'), Buffer.alloc(mebi, 1));
    linkSync(join(volume, 'a'), join(volume, 'again'));
    writeFileSync(join(podDir(paths, 'u'), 'etc-hosts'), 'x');
    const log = containerLogPath(paths, pod, 'c', 0);
    mkdirSync(join(log, '..'), { recursive: true });
    writeFileSync(log, Buffer.alloc(2 * mebi, 1));
    const mounted = new Map(
      Object.entries({ v: volume, host: top, claim: join(top, 'claimed') }).map(([name, path]) => [
        name,
        { path, readOnly: false },
      ]),
    );
    const { volumes, claims, logs, others } = await measureStorage(paths, pod, mounted);
    assert.deepEqual([...volumes.keys()], ['v']);
    const held = volumes.get('v');
    assert.ok(held !== undefined && held.isOnDisk && held.inodes === 2);
    assert.ok(held.bytes >= mebi && held.bytes < 1.5 * mebi, `${held.bytes}`);
    assert.ok((logs.get('c')?.bytes ?? 0) >= 2 * mebi);
    assert.ok((claims.get('claim')?.capacityBytes ?? 0) > 0);
    assert.equal(others.inodes, 2);
  } finally {
    rmSync(top, { recursive: true });
  }
});
