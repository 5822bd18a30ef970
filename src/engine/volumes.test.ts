/** Volumes whose removal and creation meet. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import type { EngineContext } from './context.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock } from '#os/clock.real.ts';
import { Plugins } from '#plugins/plugins.ts';
import { VolumeDrivers } from '#plugins/volume-driver.ts';
import { Volumes } from './volumes.ts';

let home = '';
let volumes: Volumes;
/** What `unmountBelow` waits for. */
let unmounting: PromiseWithResolvers<void>;

beforeEach(() => {
  home = mkdtempSync('/tmp/tiphys-volumes-');
  unmounting = Promise.withResolvers();
  let drawn = 0;
  const plugins = new Plugins({ places: { sockets: home, specs: [] }, clock: realClock, log: silentLogger });
  const context = {
    directories: { data: home },
    clock: { now: () => 0 },
    random: { bytes: (count: number) => Buffer.alloc(count, ++drawn) },
    events: { emit: () => undefined },
    os: { mounts: { unmountBelow: () => unmounting.promise } },
  } as unknown as EngineContext;
  volumes = new Volumes(context, new VolumeDrivers(plugins));
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

test('a volume made while its namesake is removed keeps its own directory and files', async () => {
  volumes.create({ name: 'data' });
  const removal = volumes.remove('data');
  volumes.create({ name: 'data' });
  writeFileSync(`${volumes.mountpoint('data')}/kept`, '');
  unmounting.resolve();
  await removal;
  assert.ok(volumes.find('data') !== undefined);
  assert.ok(existsSync(`${volumes.mountpoint('data')}/kept`));
});

test('of two removals at once the second finds no volume', async () => {
  volumes.create({ name: 'data' });
  const first = volumes.remove('data');
  await assert.rejects(volumes.remove('data'), /get data: no such volume/);
  unmounting.resolve();
  await first;
  assert.equal(volumes.find('data'), undefined);
});

test('a volume that is promised to a container is in use', async () => {
  volumes.create({ name: 'data' });
  unmounting.resolve();
  const pins = new DisposableStack();
  pins.use(volumes.pin('data'));
  pins.use(volumes.pin('data'));
  await assert.rejects(volumes.remove('data'), /remove data: volume is in use/);
  assert.ok(existsSync(volumes.mountpoint('data')));
  pins.dispose();
  assert.equal(volumes.isPinned('data'), false);
  await volumes.remove('data');
});

test('a name that no directory can have is refused', () => {
  assert.throws(() => volumes.create({ name: 'a'.repeat(256) }), /a volume's name has at most 255 bytes/);
  assert.throws(() => volumes.create({ name: 'a' }), /volume name is too short/);
  volumes.create({ name: 'a'.repeat(255) });
});
