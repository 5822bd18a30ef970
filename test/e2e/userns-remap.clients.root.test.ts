/** `--userns-remap`: root in containers is nobody on the host, and nobody sees it by the files. */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { importBusybox, makeDaemon, type TestDaemon } from './daemon.ts';

const first = 231_072;

async function startMapped(t: TestContext): Promise<{ daemon: TestDaemon; within: string }> {
  const daemon = await makeDaemon(t);
  chmodSync(daemon.home, 0o711);
  for (const applet of ['chown', 'stat', 'touch', 'ping'])
    symlinkSync('busybox', join(daemon.home, 'image/bin', applet));
  writeFileSync(`${daemon.home}/ranges`, `daemon:${first}:65536\n`);
  const within = ['subuid', 'subgid'].map((name) => `mount --bind ${daemon.home}/ranges /etc/${name}`).join('\n');
  await daemon.start(['--userns-remap=daemon:daemon'], { within });
  await importBusybox(daemon);
  return { daemon, within };
}

test('files of images, containers, volumes and copies have the owners that the container says', async (t) => {
  const { daemon } = await startMapped(t);
  const { ok } = daemon;
  assert.match(await ok('info', '-f', '{{.SecurityOptions}}'), /name=userns/);
  await ok('run', '-d', '--name', 'one', '-v', 'vol:/v', 'busybox', 'sleep', '1000');
  const pid = await ok('inspect', '-f', '{{.State.Pid}}', 'one');
  assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), new RegExp(`^Uid:\t${first}\t`, 'm'));
  assert.match(await ok('exec', 'one', 'cat', '/proc/self/uid_map'), new RegExp(`^0 +${first} +65536$`));
  const made = 'touch /made /v/made; chown 7:8 /made; stat -c %u:%g /made /v/made /bin/busybox /etc/hosts /v';
  assert.deepEqual((await ok('exec', 'one', 'sh', '-c', made)).split('\n'), ['7:8', '0:0', '0:0', '0:0', '0:0']);
  assert.equal(await ok('exec', '-u', '33:44', 'one', 'id', '-u'), '33');
  const volume = await ok('volume', 'inspect', '-f', '{{.Mountpoint}}', 'vol');
  assert.deepEqual([statSync(volume).uid, statSync(`${volume}/made`).gid], [first, first]);

  writeFileSync(`${daemon.home}/file`, 'x');
  chownSync(`${daemon.home}/file`, 5, 6);
  const copy = async (name: string): Promise<string> => ok('cp', '-a', `${daemon.home}/file`, `one:${name}`);
  await copy('/running');
  await ok('commit', 'one', 'kept');
  await ok('stop', '-t', '0', 'one');
  await copy('/stopped');
  await ok('start', 'one');
  const stat = ['stat', '-c', '%u:%g'];
  assert.deepEqual((await ok('exec', 'one', ...stat, '/running', '/stopped')).split('\n'), ['5:6', '5:6']);
  assert.equal(await ok('run', '--rm', 'kept', ...stat, '/made'), '7:8');
  // On disk they are what they are without remapping.
  assert.equal(await ok('run', '--rm', '--userns=host', 'kept', ...stat, '/made'), '7:8');
  assert.equal(await ok('run', '--rm', '--network', 'container:one', 'busybox', ...stat, '/etc/hosts'), '0:0');
  const shared = await ok(
    'run',
    '--rm',
    '--ipc',
    'shareable',
    'busybox',
    'sh',
    '-c',
    'echo > /dev/shm/x; stat -c %u /dev/shm',
  );
  assert.equal(shared, '0');
  assert.equal(
    await ok('run', '--rm', '--sysctl', 'net.ipv4.ip_forward=1', 'busybox', 'cat', '/proc/sys/net/ipv4/ip_forward'),
    '1',
  );
});

test('what needs root of the host is refused in dockerd’s words, and may be had with --userns=host', async (t) => {
  const { daemon } = await startMapped(t);
  const refusals: [string, RegExp][] = [
    [
      '--privileged',
      /privileged mode is incompatible with user namespaces\. {2}You must run the container in the host/,
    ],
    ['--network=host', /cannot share the host's network namespace when user namespaces are enabled/],
    ['--pid=host', /cannot share the host PID namespace when user namespaces are enabled/],
  ];
  for (const [word, expected] of refusals) {
    assert.match((await daemon.docker('run', '--rm', word, 'busybox', 'true')).stderr, expected);
    await daemon.ok('run', '--rm', '--userns=host', word, 'busybox', 'true');
  }
});

test('a container runs on when the engine starts anew, and without remapping when that is turned off', async (t) => {
  const { daemon, within } = await startMapped(t);
  await daemon.ok('run', '-d', '--name', 'one', 'busybox', 'sh', '-c', 'touch /made; chown 7:8 /made; sleep 1000');
  await daemon.end('SIGKILL');
  await daemon.start(['--userns-remap=daemon:daemon'], { within });
  assert.equal(await daemon.ok('inspect', '-f', '{{.State.Running}}', 'one'), 'true');
  await daemon.ok('restart', '-t', '0', 'one');
  assert.match(await daemon.ok('exec', 'one', 'cat', '/proc/self/uid_map'), new RegExp(`^0 +${first} `));
  await daemon.ok('stop', '-t', '0', 'one');
  await daemon.end('SIGTERM');
  await daemon.start();
  await daemon.ok('start', 'one');
  assert.match(await daemon.ok('exec', 'one', 'cat', '/proc/self/uid_map'), /^0 +0 /);
  assert.equal(await daemon.ok('exec', 'one', 'stat', '-c', '%u:%g', '/made', '/etc/hosts'), '7:8\n0:0');
});
