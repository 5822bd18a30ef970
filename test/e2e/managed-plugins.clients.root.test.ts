/** Managed plugins through the docker client: made, set, enabled, used, pushed, installed elsewhere; and killed between. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { readIfExists } from '#os/files.ts';
import { testSeed } from '#os/test-seed.ts';
import { freePort } from '#os/test-port.ts';
import { ask, importBusybox, makeDaemon, startRegistry, type TestDaemon } from './daemon.ts';
import { run } from './machine.ts';

/** A volume driver that mounts a file system of its own below the directory which the host sees too. */
const program = `
import { createServer } from 'node:http';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
process.on('SIGTERM', () => process.exit());
const volumes = new Map();
const answers = {
  'VolumeDriver.Capabilities': () => ({ Capabilities: { Scope: 'local' } }),
  'VolumeDriver.Create': ({ Name }) => { volumes.set(Name, ''); return {}; },
  'VolumeDriver.Get': ({ Name }) => volumes.has(Name) ? { Volume: { Name, Mountpoint: volumes.get(Name) } } : { Err: 'no such volume' },
  'VolumeDriver.List': () => ({ Volumes: [...volumes].map(([Name, Mountpoint]) => ({ Name, Mountpoint })) }),
  'VolumeDriver.Path': ({ Name }) => ({ Mountpoint: volumes.get(Name) }),
  'VolumeDriver.Remove': ({ Name }) => { volumes.delete(Name); return {}; },
  'VolumeDriver.Unmount': () => ({}),
  'VolumeDriver.Mount': ({ Name }) => {
    const path = '/mnt/volumes/' + Name;
    mkdirSync(path, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', path]);
    writeFileSync(path + '/greeting', process.env.GREETING + ' ' + process.argv.slice(2).join(' '));
    volumes.set(Name, path);
    return { Mountpoint: path };
  },
};
createServer(async (request, response) => {
  let text = '';
  for await (const part of request) text += part;
  const answer = answers[request.url.slice(1)];
  response.end(JSON.stringify(answer === undefined ? { Err: 'unknown' } : answer(JSON.parse(text || '{}'))));
}).listen('/run/docker/plugins/vol.sock');
`;

const lower = (name: string, source: string): object => ({
  name,
  description: '',
  source,
  destination: source,
  type: 'bind',
  options: ['rbind', 'ro'],
});

/** Programs and libraries are the host's, so that the plugin is small. */
function writePlugin(directory: string, change: object = {}): void {
  mkdirSync(`${directory}/rootfs/mnt/volumes`, { recursive: true });
  writeFileSync(`${directory}/rootfs/plugin.mjs`, program);
  const shared = ['/usr', '/lib', '/lib64', '/bin'].filter((path) => existsSync(path));
  const config = {
    description: 'volumes for a test',
    documentation: '',
    entrypoint: [process.execPath, '/plugin.mjs'],
    interface: { types: ['docker.volumedriver/1.0'], socket: 'vol.sock' },
    linux: { capabilities: ['CAP_SYS_ADMIN'] },
    propagatedMount: '/mnt/volumes',
    mounts: [...shared, dirname(process.execPath)].map((path, at) => lower(`m${at}`, path)),
    env: [{ name: 'GREETING', description: '', settable: ['value'], value: 'hello' }],
    args: { name: 'words', description: '', settable: ['value'], value: ['one', 'two'] },
    ...change,
  };
  writeFileSync(`${directory}/config.json`, JSON.stringify(config));
}

async function start(t: TestContext, words: string[] = []): Promise<{ daemon: TestDaemon; source: string }> {
  const daemon = await makeDaemon(t);
  await daemon.start(words);
  await importBusybox(daemon);
  const source = mkdtempSync('/tmp/tiphys-plugin-');
  t.after(() => rmSync(source, { recursive: true, force: true }));
  writePlugin(source);
  return { daemon, source };
}

async function fails(daemon: TestDaemon, words: string[], expected: RegExp): Promise<void> {
  const { code, stderr } = await daemon.docker(...words);
  assert.notEqual(code, 0, words.join(' '));
  assert.match(stderr, expected);
}

test('a plugin that was made is set, enabled and used; what is in use stays', async (t) => {
  const { daemon, source } = await start(t);
  await daemon.ok('plugin', 'create', 'me/vol', source);
  assert.equal(await daemon.ok('plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}'), 'me/vol:latest false');
  await fails(daemon, ['plugin', 'create', 'me/vol', source], /already exists/);
  await fails(daemon, ['volume', 'create', '-d', 'me/vol', 'kept'], /plugin .* not found/);
  await fails(daemon, ['plugin', 'set', 'me/vol', 'm0.source=/x'], /not settable/);
  await fails(daemon, ['plugin', 'set', 'me/vol', 'NOPE=1'], /setting "NOPE" not found/);
  await daemon.ok('plugin', 'set', 'me/vol', 'GREETING=good day', 'words=a b c');
  await daemon.ok('plugin', 'enable', 'me/vol');
  await fails(daemon, ['plugin', 'set', 'me/vol', 'GREETING=x'], /disable plugin before setting/);
  assert.equal(await daemon.ok('ps', '-aq'), '', 'its container is the engine’s own');
  assert.match(await daemon.ok('info', '-f', '{{.Plugins.Volume}}'), /me\/vol:latest/);
  await daemon.ok('volume', 'create', '-d', 'me/vol', 'kept');
  assert.equal(await daemon.ok('run', '--rm', '-v', 'kept:/v', 'busybox', 'cat', '/v/greeting'), 'good day a b c');
  await fails(daemon, ['plugin', 'disable', 'me/vol'], /in use/);
  await daemon.ok('volume', 'rm', 'kept');
  await fails(daemon, ['plugin', 'rm', 'me/vol'], /is enabled/);
  const id = await daemon.ok('plugin', 'inspect', '-f', '{{.Id}}', 'me/vol');
  await daemon.ok('plugin', 'disable', id.slice(0, 12));
  await daemon.ok('plugin', 'rm', 'me/vol');
  assert.equal(await daemon.ok('plugin', 'ls', '-q'), '');
  assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(id));
});

test('a plugin outlives kill -9 of the engine, and comes back with it', async (t) => {
  const { daemon, source } = await start(t);
  await daemon.ok('plugin', 'create', 'me/vol', source);
  await daemon.ok('plugin', 'enable', 'me/vol');
  await daemon.ok('volume', 'create', '-d', 'me/vol', 'kept');
  await daemon.end('SIGKILL');
  await daemon.start();
  assert.equal(await daemon.ok('volume', 'inspect', '-f', '{{.Driver}}', 'kept'), 'me/vol');
  const [pid] = await pluginPids(daemon);
  await daemon.end('SIGTERM');
  assert.ok(!existsSync(`/proc/${pid}`));
  await daemon.start();
  assert.equal(await daemon.ok('plugin', 'ls', '--format', '{{.Enabled}}'), 'true');
  // Its own memory of volumes went with its process.
  await daemon.ok('volume', 'create', '-d', 'me/vol', 'kept');
  assert.equal(await daemon.ok('run', '--rm', '-v', 'kept:/v', 'busybox', 'cat', '/v/greeting'), 'hello one two');
});

test('a plugin goes through a registry; what it wants beyond what was granted is refused', async (t) => {
  const { daemon, source } = await start(t);
  const address = `127.0.0.1:${await freePort()}`;
  const data = `${daemon.home}/registry`;
  await startRegistry(t, [`--data=${data}`, `--listen=${address}`]);
  await run('./tiphys', ['registry-user', 'me', '--registry', data], {}, { input: 'secret-word' });
  const push = async (tagged: string): Promise<void> => {
    await daemon.ok('--config', `${daemon.home}/docker`, 'plugin', 'push', tagged);
  };
  await daemon.ok('--config', `${daemon.home}/docker`, 'login', '-u', 'me', '-p', 'secret-word', address);
  const name = `${address}/me/vol`;
  await daemon.ok('plugin', 'create', `${name}:1`, source);
  await fails(daemon, ['plugin', 'push', `${name}:1`], /denied|unauthorized|authentication/);
  await push(`${name}:1`);
  await daemon.ok('plugin', 'rm', `${name}:1`);
  await fails(daemon, ['pull', `${name}:1`], /plugin/);
  const refused = await ask(daemon.home, 'POST', `/v1.56/plugins/pull?remote=${name}:1&name=vol`, []);
  assert.match(refused.body, /incorrect privileges/);
  await daemon.ok('plugin', 'install', '--grant-all-permissions', '--alias', 'vol', `${name}:1`, 'GREETING=from afar');
  assert.equal(
    await daemon.ok('plugin', 'inspect', '-f', '{{.PluginReference}} {{.Enabled}}', 'vol'),
    `${name}:1 true`,
  );
  assert.equal(
    await daemon.ok(
      'run',
      '--rm',
      '--mount',
      'type=volume,src=given,dst=/v,volume-driver=vol',
      'busybox',
      'cat',
      '/v/greeting',
    ),
    'from afar one two',
  );
  await daemon.ok('volume', 'rm', 'given');
  writePlugin(source, { description: 'the second' });
  cpSync(`${source}/config.json`, `${source}/rootfs/second`);
  await daemon.ok('plugin', 'create', `${name}:2`, source);
  await push(`${name}:2`);
  await fails(daemon, ['plugin', 'upgrade', '--grant-all-permissions', 'vol', `${name}:2`], /must be disabled/);
  await daemon.ok('plugin', 'disable', 'vol');
  await daemon.ok('plugin', 'upgrade', '--grant-all-permissions', '--skip-remote-check', 'vol', `${name}:2`);
  assert.equal(await daemon.ok('plugin', 'inspect', '-f', '{{.Config.Description}}', 'vol'), 'the second');
});

test('what is no plugin, or does not listen, is told and leaves nothing', async (t) => {
  const { daemon, source } = await start(t);
  rmSync(`${source}/config.json`);
  await fails(daemon, ['plugin', 'create', 'me/none', source], /config\.json/);
  // Links that lead out of the archive.
  const outside = join(source, 'outside');
  for (const [name, words] of [
    ['rootfs', /no rootfs found/],
    ['config.json', /config not found/],
  ] as const) {
    rmSync(outside, { recursive: true, force: true });
    mkdirSync(`${outside}/rootfs`, { recursive: true });
    writeFileSync(`${outside}/config.json`, '{}');
    rmSync(`${outside}/${name}`, { recursive: true });
    symlinkSync(name === 'rootfs' ? '/etc' : '/etc/passwd', `${outside}/${name}`);
    const archive = execFileSync('tar', ['-C', outside, '-c', 'config.json', 'rootfs']);
    assert.match((await ask(daemon.home, 'POST', '/v1.56/plugins/create?name=me/none', archive)).body, words);
  }
  writePlugin(source, { entrypoint: ['/nothing'] });
  await daemon.ok('plugin', 'create', 'me/broken', source);
  await fails(daemon, ['plugin', 'enable', 'me/broken'], /no such file|not found/);
  writePlugin(source, { entrypoint: [process.execPath, '-e', '0'] });
  await daemon.ok('plugin', 'create', 'me/short', source);
  await fails(daemon, ['plugin', 'enable', 'me/short'], /dial unix .*vol\.sock/);
  assert.equal(await daemon.ok('plugin', 'ls', '--format', '{{.Enabled}}', '--filter', 'enabled=true'), '');
  await fails(daemon, ['plugin', 'install', '--grant-all-permissions', '127.0.0.1:9/x'], /127\.0\.0\.1:9/);
  await fails(daemon, ['plugin', 'inspect', 'nobody'], /plugin "nobody" not found|No such plugin/);
});

const rounds = 6;
const random = new SimRandom(testSeed());

test(`killed while a plugin is made, enabled, disabled and removed, all is there or gone (${rounds} rounds)`, async (t) => {
  const { daemon, source } = await start(t);
  const steps = [
    ['create', 'me/vol', source],
    ['enable', 'me/vol'],
    ['disable', 'me/vol'],
    ['rm', '-f', 'me/vol'],
  ];
  for (let round = 0; round < rounds; round++) {
    let isOver = false;
    const work = async (): Promise<void> => {
      for (let at = 0; !isOver; at++) await daemon.docker('plugin', ...steps[at % steps.length]!);
    };
    const working = work();
    await realClock.sleep(100 + random.float() * 1500);
    await daemon.end('SIGKILL');
    isOver = true;
    await working;
    await daemon.start();
    const states = (await daemon.ok('plugin', 'ls', '--format', '{{.Enabled}}')).split('\n').filter(Boolean);
    assert.ok(states.length <= 1);
    const running = (await pluginPids(daemon)).length;
    assert.equal(running, states[0] === 'true' ? 1 : 0, `round ${round}: ${states.join()}`);
    if (states.length === 1) await daemon.ok('plugin', 'rm', '-f', 'me/vol');
    assert.deepEqual(readdirSync(`${daemon.home}/engine/engine/plugins`), []);
    assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(`${daemon.home}.*/plugins/`));
  }
});

/** Processes of plugins that run. */
async function pluginPids(daemon: TestDaemon): Promise<number[]> {
  const isPlugin = (pid: string): boolean => {
    // It may end meanwhile.
    const words = readIfExists(`/proc/${pid}/cmdline`) ?? '';
    return words.includes('/plugin.mjs') && (readIfExists(`/proc/${pid}/mountinfo`) ?? '').includes(daemon.home);
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isPlugin(name))
    .map(Number);
}
