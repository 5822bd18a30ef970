/** Plugins by sockets and files, well behaved and not: volumes, and who may ask what. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { test, type TestContext } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import { importBusybox, makeDaemon, type TestDaemon } from './daemon.ts';
import { run } from './machine.ts';

type Body = Record<string, unknown>;
type Answer = (body: Body) => unknown;

interface FakePlugin {
  calls: [string, Body][];
  close(): Promise<void>;
}

/** A plugin on a socket where the engine looks; `answers` by method, anything else is 404. */
async function serve(
  t: TestContext,
  path: string | number,
  answers: Record<string, Answer>,
): Promise<FakePlugin & { server: Server }> {
  const calls: [string, Body][] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (part: Buffer) => {
      text += part.toString();
    });
    request.on('end', () => {
      const method = (request.url ?? '').slice(1);
      const body: Body = text === '' ? {} : JSON.parse(text);
      calls.push([method, body]);
      const answer = answers[method];
      if (answer === undefined) {
        response.writeHead(404).end('404 page not found');
        return;
      }
      const said = answer(body);
      if (said !== undefined) response.end(typeof said === 'string' ? said : JSON.stringify(said));
    });
  });
  await new Promise<void>((resolve) => {
    if (typeof path === 'number') server.listen(path, '127.0.0.1', resolve);
    else server.listen(path, resolve);
  });
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  t.after(close);
  return { calls, close, server };
}

/** A volume driver that keeps directories below `home`. */
function volumeDriver(home: string): Record<string, Answer> {
  const volumes = new Set<string>();
  const at = (name: unknown): string => `${home}/${String(name)}`;
  return {
    'Plugin.Activate': () => ({ Implements: ['VolumeDriver'] }),
    'VolumeDriver.Capabilities': () => ({ Capabilities: { Scope: 'global' } }),
    'VolumeDriver.Create': ({ Name: name, Opts: options }) => {
      if ((options as Body | null)?.['fail'] !== undefined) return { Err: 'it does not like this' };
      volumes.add(String(name));
      mkdirSync(at(name), { recursive: true });
      return { Err: '' };
    },
    'VolumeDriver.Remove': ({ Name: name }) => {
      volumes.delete(String(name));
      rmSync(at(name), { recursive: true, force: true });
      return { Err: '' };
    },
    'VolumeDriver.Mount': ({ Name: name }) => ({ Mountpoint: at(name), Err: '' }),
    'VolumeDriver.Unmount': () => ({ Err: '' }),
    'VolumeDriver.Path': ({ Name: name }) => ({ Mountpoint: at(name) }),
    'VolumeDriver.Get': ({ Name: name }) =>
      volumes.has(String(name))
        ? { Volume: { Name: name, Mountpoint: at(name), Status: { used: 3 } } }
        : { Err: 'volume not found' },
    'VolumeDriver.List': () => ({ Volumes: [...volumes].map((name) => ({ Name: name, Mountpoint: at(name) })) }),
  };
}

async function open(t: TestContext, words: string[] = []): Promise<TestDaemon> {
  const daemon = await makeDaemon(t);
  mkdirSync(`${daemon.home}/run/plugins`, { recursive: true });
  mkdirSync(`${daemon.home}/plugins`);
  await daemon.start(words);
  return daemon;
}

test('volumes of a plugin are made, listed, mounted for their containers alone, and outlive the engine', async (t) => {
  const daemon = await open(t);
  await importBusybox(daemon);
  const plugin = await serve(t, `${daemon.home}/run/plugins/store.sock`, volumeDriver(`${daemon.home}/kept`));
  const called = (method: string): number => plugin.calls.filter(([name]) => name === method).length;
  assert.match(
    (await daemon.docker('volume', 'create', '-d', 'nope', 'x1')).stderr,
    /error looking up volume plugin nope: plugin "nope" not found/,
  );
  assert.match(
    (await daemon.docker('volume', 'create', '-d', 'store', '-o', 'fail=1', 'x1')).stderr,
    /it does not like this/,
  );
  await daemon.ok('volume', 'create', '-d', 'store', '-o', 'a=b', '--label', 'l=1', 'data');
  await daemon.ok('volume', 'create', 'plain');
  assert.equal(
    await daemon.ok('volume', 'ls', '--format', '{{.Driver}} {{.Name}} {{.Scope}}'),
    'store data global\nlocal plain local',
  );
  assert.equal(
    await daemon.ok('volume', 'inspect', '-f', '{{.Driver}} {{.Scope}} {{.Status}} {{.Labels}}', 'data'),
    'store global map[used:3] map[l:1]',
  );
  await daemon.ok('run', '--rm', '-v', 'data:/d', 'busybox', 'sh', '-c', 'echo here > /d/f');
  assert.equal(readFileSync(`${daemon.home}/kept/data/f`, 'utf8'), 'here\n');
  assert.equal(called('VolumeDriver.Mount'), called('VolumeDriver.Unmount'));
  await daemon.ok(
    'run',
    '-d',
    '--name',
    'long',
    '--mount',
    'type=volume,src=fresh,dst=/d,volume-driver=store',
    'busybox',
    'sleep',
    '1000',
  );
  assert.equal(called('VolumeDriver.Mount'), called('VolumeDriver.Unmount') + 1);
  assert.match((await daemon.docker('volume', 'rm', 'fresh')).stderr, /volume is in use/);
  await daemon.end('SIGKILL');
  await daemon.start();
  assert.equal(await daemon.ok('volume', 'inspect', '-f', '{{.Driver}}', 'fresh'), 'store');
  await daemon.ok('rm', '-f', 'long');
  assert.equal(called('VolumeDriver.Mount'), called('VolumeDriver.Unmount'));
  await daemon.ok('volume', 'rm', 'fresh', 'data');
  assert.ok(!existsSync(`${daemon.home}/kept/data`));
  assert.match(await daemon.ok('info', '-f', '{{.Plugins.Volume}}'), /local store/);
  assert.match(await daemon.ok('info', '-f', '{{.Plugins.Network}}'), /bridge host ipvlan macvlan null/);
});

test('a plugin that is away is waited for when it is needed, and holds up no list; a hostile one is bounded', async (t) => {
  const daemon = await open(t);
  const path = `${daemon.home}/run/plugins/late.sock`;
  const first = await serve(t, path, volumeDriver(`${daemon.home}/late`));
  await daemon.ok('volume', 'create', '-d', 'late', 'v1');
  await first.close();
  writeFileSync(`${daemon.home}/plugins/tcp.spec`, 'tcp://127.0.0.1:1');
  const begun = realClock.monotonic();
  assert.equal((await daemon.docker('volume', 'ls', '-q')).code, 0);
  assert.ok(realClock.monotonic() - begun < 8000, 'a list waits for a plugin');
  const hostile = volumeDriver(`${daemon.home}/hostile`);
  const huge = await serve(t, `${daemon.home}/run/plugins/huge.sock`, {
    ...hostile,
    'VolumeDriver.List': () => `{"Volumes":["${'x'.repeat(20 * 1024 * 1024)}"]}`,
    'VolumeDriver.Create': () => 'not JSON',
    'VolumeDriver.Mount': () => ({ Mountpoint: '../../etc' }),
  });
  const socket = `${daemon.home}/run/docker.sock`;
  const listed = await run('curl', ['-s', '--unix-socket', socket, 'http://docker/v1.50/volumes']);
  assert.match(listed.stdout, /"Warnings":\["list huge: .*too long/);
  assert.match((await daemon.docker('volume', 'create', '-d', 'huge', 'v2')).stderr, /did not answer with JSON/);
  assert.match((await daemon.docker('volume', 'create', '-d', '../../etc/passwd', 'v3')).stderr, /not found/);
  await huge.close();
  const silent = await serve(t, `${daemon.home}/run/plugins/silent.sock`, { 'Plugin.Activate': () => undefined });
  const slow = realClock.monotonic();
  assert.equal((await daemon.docker('volume', 'ls', '-q')).code, 0);
  assert.ok(realClock.monotonic() - slow < 12_000, 'a list waits for a plugin that says nothing');
  assert.ok(silent.calls.length > 0);
});

test('authorisation plugins are asked in order about each request and its answer, and the first no decides', async (t) => {
  const daemon = await makeDaemon(t);
  mkdirSync(`${daemon.home}/run/plugins`, { recursive: true });
  const missing = await run('./tiphys', ['engine', '--config-file=/dev/null', '--authorization-plugin=gate'], {
    TIPHYS_HOME: daemon.home,
  });
  assert.match(missing.stderr, /Error validating authorization plugin: plugin "gate" not found/);
  const order: string[] = [];
  let hidesVolumes = false;
  const allow = { Allow: true };
  const plugin = (name: string): Record<string, Answer> => ({
    'Plugin.Activate': () => ({ Implements: ['authz'] }),
    'AuthZPlugin.AuthZReq': (body) => {
      order.push(name);
      if (name === 'gate' && /\/containers\/create/.test(String(body['RequestUri'])))
        return Buffer.from(String(body['RequestBody']), 'base64').toString().includes('"Privileged":true')
          ? { Allow: false, Msg: 'no privileges here' }
          : allow;
      return allow;
    },
    'AuthZPlugin.AuthZRes': (body) =>
      hidesVolumes && /\/volumes/.test(String(body['RequestUri'])) ? { Allow: false, Msg: 'hidden' } : allow,
  });
  const gate = await serve(t, `${daemon.home}/run/plugins/gate.sock`, plugin('gate'));
  const second = await serve(t, `${daemon.home}/run/plugins/second.sock`, plugin('second'));
  await daemon.start(['--authorization-plugin=gate', '--authorization-plugin=second']);
  await importBusybox(daemon);
  assert.equal(await daemon.ok('run', '--rm', 'busybox', 'echo', 'allowed'), 'allowed');
  const denied = await daemon.docker('run', '--rm', '--privileged', 'busybox', 'true');
  assert.match(denied.stderr, /authorization denied by plugin gate: no privileges here/);
  assert.ok(order.indexOf('gate') < order.indexOf('second'));
  assert.ok(gate.calls.length > second.calls.length);
  const headers = gate.calls.find(([method]) => method === 'AuthZPlugin.AuthZReq')?.[1]['RequestHeaders'];
  assert.ok(headers !== undefined && JSON.stringify(headers).includes('"User-Agent"'));
  hidesVolumes = true;
  assert.match((await daemon.docker('volume', 'ls')).stderr, /authorization denied by plugin gate: hidden/);
  await second.close();
  assert.match((await daemon.docker('ps')).stderr, /plugin second failed with error/);
});
