/** Devices that vendors describe (CDI), by the docker client: `--device vendor/class=name`, `--gpus`. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { importBusybox, makeDaemon } from './daemon.ts';

test('described devices are in the container with all that belongs to them, and what is not there is said', async (t) => {
  const daemon = await makeDaemon(t);
  const directory = `${daemon.home}/cdi`;
  mkdirSync(directory);
  const [hook, seen] = [`${daemon.home}/hook`, `${daemon.home}/seen`];
  writeFileSync(hook, `#!/bin/sh\ncat > /dev/null\necho "$1" >> ${seen}\n`);
  chmodSync(hook, 0o755);
  const describe = (kind: string, devices: object): string =>
    JSON.stringify({
      cdiVersion: '0.6.0',
      kind,
      devices: Object.entries(devices).map(([name, containerEdits]) => ({ name, containerEdits })),
    });
  const thing = {
    env: ['THING=here'],
    deviceNodes: [{ path: '/dev/thing', hostPath: '/dev/zero' }],
    mounts: [{ hostPath: directory, containerPath: '/described', options: ['ro', 'rbind'] }],
    hooks: [{ hookName: 'createRuntime', path: hook, args: ['hook', 'ran'] }],
    additionalGids: [4321],
  };
  writeFileSync(`${directory}/vendor.json`, describe('vendor.test/thing', { one: thing }));
  writeFileSync(
    `${directory}/gpu.json`,
    describe('nvidia.com/gpu', { all: { env: ['GPU=all'] }, 0: { env: ['GPU=0'] } }),
  );
  await daemon.start([`--cdi-spec-dir=${directory}`]);
  await importBusybox(daemon);
  const { ok } = daemon;
  const look = 'echo $THING; ls /described; id -G; ls -l /dev/thing | grep -c "^c"; echo > /dev/thing';
  const shown = await ok('run', '--rm', '-u', '7:8', '--device', 'vendor.test/thing=one', 'busybox', 'sh', '-c', look);
  assert.deepEqual(shown.split('\n'), ['here', 'gpu.json', 'vendor.json', '8 4321', '1']);
  assert.equal(readFileSync(seen, 'utf8'), 'ran\n');
  const gpu = async (value: string): Promise<string> =>
    ok('run', '--rm', '--gpus', value, 'busybox', 'sh', '-c', 'echo $GPU');
  assert.deepEqual([await gpu('all'), await gpu('1'), await gpu('device=0')], ['all', '0', '0']);
  const info = await ok('info', '-f', '{{json .CDISpecDirs}} {{json .DiscoveredDevices}}');
  assert.ok(info.startsWith(`${JSON.stringify([directory])} [`) && info.includes('"vendor.test/thing=one"'), info);
  const missing = await daemon.docker('run', '--rm', '--device', 'vendor.test/thing=two', 'busybox', 'true');
  assert.match(missing.stderr, /CDI device injection failed: unresolvable CDI devices vendor\.test\/thing=two/);

  await daemon.end('SIGTERM');
  await daemon.start([`--cdi-spec-dir=${directory}`, '--feature', 'cdi=false']);
  const off = await daemon.docker('run', '--rm', '--device', 'vendor.test/thing=one', 'busybox', 'true');
  assert.match(off.stderr, /could not select device driver "cdi" with capabilities: \[\]/);
});
