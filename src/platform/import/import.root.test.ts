/** What a dockerd left behind becomes an engine's: on a directory as dockerd writes it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { ContainerRecord } from '#engine/container-record.ts';
import type { NetworkRecord } from '#engine/network-record.ts';
import { silentLogger } from '#observe/log.ts';
import { tryLock } from '#os/files.ts';
import { getXattr } from '#os/special-files.ts';
import { openStore } from '../open-store.ts';
import { importDocker } from './import.ts';
import { makeDockerData, type DockerData } from './testing.ts';

function targetOf(t: TestContext): string {
  const data = mkdtempSync('/tmp/tiphys-import-');
  t.after(() => rmSync(data, { recursive: true, force: true }));
  return data;
}

async function importInto(data: string, { directory }: DockerData): Promise<{ isWhole: boolean; lines: string[] }> {
  const lines: string[] = [];
  const print = (line: string): number => lines.push(line);
  const isWhole = await importDocker({ directory, data, instanceId: 'ab12', log: silentLogger, print });
  return { isWhole, lines };
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

/** Everything below, with what could change. */
function look(directory: string): string[] {
  return readdirSync(directory, { recursive: true })
    .map(String)
    .sort()
    .map((name) => {
      const { ino, size, mtimeMs, mode } = statSync(join(directory, name), { throwIfNoEntry: false }) ?? {};
      return [name, ino, size, mtimeMs, mode].join();
    });
}

test('images, volumes, networks and containers come with their ids, and the source stays as it was', async (t) => {
  const source = makeDockerData(t);
  const before = look(source.directory);
  const data = targetOf(t);
  const { isWhole, lines } = await importInto(data, source);
  assert.deepEqual(look(source.directory), before);
  assert.equal(isWhole, false);
  assert.deepEqual(
    lines.filter((line) => /left|archive/.test(line)).map((line) => line.replace(/ [0-9a-f]{12}/, '')),
    [
      'note: layer has no archive: images of it run, and cannot be pushed or saved',
      'network swarm is left: it is a swarm’s',
    ],
  );
  await using stack = new AsyncDisposableStack();
  const { content, records } = await openStore(join(data, 'content'), silentLogger, stack);
  const image = records.find('app:1')!;
  assert.equal(image.id, source.imageId);
  assert.deepEqual(records.repoDigestsOf(image.id), [`docker.io/library/app@sha256:${'ab'.repeat(32)}`]);
  const [lower, upper] = image.layers.map(({ diffId }) => join(data, 'content', content.layers.directory(diffId)));
  assert.equal(statSync(join(lower!, 'd/owned')).uid, 12);
  assert.equal(statSync(join(lower!, 'd/owned')).ino, statSync(join(lower!, 'd/linked')).ino);
  assert.equal(statSync(join(upper!, 'd/gone')).rdev, 0);
  assert.equal(Buffer.from(getXattr(join(upper!, 'o'), 'trusted.overlay.opaque')!).toString(), 'y');

  const volume = join(data, 'engine/volumes/data');
  const { uid, gid, mode, nlink } = statSync(join(volume, '_data/f'));
  assert.deepEqual([uid, gid, mode & 0o7777, nlink], [5, 6, 0o4640, 2]);
  assert.equal(Buffer.from(getXattr(join(volume, '_data/g'), 'user.note')!).toString(), 'x');
  assert.deepEqual((readJson(join(volume, 'volume.json')) as { labels: unknown }).labels, { a: 'b' });

  const network = readJson(join(data, `engine/networks/${source.networkId}.json`)) as NetworkRecord;
  assert.deepEqual(network.blocks, [{ subnet: '10.231.7.0/24', gateway: '10.231.7.1', isAsked: true }]);
  assert.equal(network.options['com.docker.network.driver.mtu'], '1400');

  const directory = join(data, 'engine/containers', source.containerId);
  const container = readJson(join(directory, 'container.json')) as ContainerRecord;
  assert.deepEqual([container.state, container.exitCode, container.spec.name], ['exited', 3, 'one']);
  assert.deepEqual(container.networks, [{ networkId: source.networkId, aliases: ['al'] }]);
  assert.equal(container.spec.mounts[0]?.source, 'data');
  assert.equal(
    readFileSync(join(directory, 'container.log'), 'utf8'),
    '2020-01-02T03:04:07.5Z stdout F line\n2020-01-02T03:04:07.6Z stderr P half\n',
  );
  const written = join(data, 'content/containers', source.containerId, 'upper');
  assert.equal(readFileSync(join(written, 'written'), 'utf8'), 'written');
  assert.equal(statSync(join(written, 'etc')).isCharacterDevice(), true);
});

test('done again it adds nothing, and what is here under a name keeps it', async (t) => {
  const source = makeDockerData(t);
  const data = targetOf(t);
  await importInto(data, source);
  writeFileSync(join(data, 'engine/volumes/data/_data/f'), 'changed here');
  const before = look(join(data, 'engine'));
  const { lines } = await importInto(data, source);
  assert.deepEqual(look(join(data, 'engine')), before);
  assert.ok(lines.includes('containers: 0 taken over, 1 were here'), lines.join('\n'));
});

test('a directory that a daemon works on is refused with its pid', async (t) => {
  const source = makeDockerData(t);
  const lock = tryLock(join(source.directory, 'volumes/metadata.db'))!;
  await assert.rejects(importInto(targetOf(t), source), new RegExp(`in use by process with PID ${process.pid}:`));
  lock.release();
});

test('an archive that is not what its layer is called is refused, and no image is made of it', async (t) => {
  const source = makeDockerData(t);
  writeFileSync(join(source.directory, 'overlay2/lower/diff/d/owned'), 'other');
  const data = targetOf(t);
  const { lines } = await importInto(data, source);
  assert.ok(
    lines.some((line) => /^image .* is left: /.test(line)),
    lines.join('\n'),
  );
  assert.deepEqual(readdirSync(join(data, 'content/l')), []);
});
