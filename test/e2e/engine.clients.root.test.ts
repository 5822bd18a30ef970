/** `tiphys engine` as people start it: the docker client, TLS, sockets of systemd's, signals, `kill -9`. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { realClock } from '#os/clock.real.ts';
import facts from '../tidy/engine-operations.json' with { type: 'json' };
import { call, withUnixAddress } from '#os/libc.linux.ts';
import { freePort } from '#os/test-port.ts';
import { ask, importBusybox, makeDaemon, startRegistry, writeCertificates } from './daemon.ts';
import { run } from './machine.ts';

test('containers outlive kill -9 of the engine, and end with it when it is told to, but for --live-restore', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start(['--shutdown-timeout=5']);
  await importBusybox(daemon);
  await daemon.ok('run', '-d', '--name', 'one', '--stop-timeout', '1', 'busybox', 'sleep', '1000');
  const pid = await daemon.ok('inspect', '-f', '{{.State.Pid}}', 'one');
  await daemon.end('SIGKILL');
  assert.ok(statSync(`/proc/${pid}`).isDirectory());
  await daemon.start(['--live-restore']);
  assert.equal(await daemon.ok('inspect', '-f', '{{.State.Pid}}', 'one'), pid);
  assert.equal(await daemon.ok('info', '-f', '{{.LiveRestoreEnabled}}'), 'true');
  assert.equal(await daemon.end('SIGTERM'), 0);
  assert.ok(statSync(`/proc/${pid}`).isDirectory());
  await daemon.start(['--shutdown-timeout=5']);
  assert.equal(await daemon.ok('exec', 'one', 'echo', 'there'), 'there');
  assert.equal(await daemon.end('SIGTERM'), 0);
  assert.throws(() => statSync(`/proc/${pid}`));
});

test('a second engine on the same directories is refused, with the first one’s pid', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start();
  const second = await run('env', [`TIPHYS_HOME=${daemon.home}`, './tiphys', 'engine', '--config-file=/dev/null']);
  assert.equal(second.code, 1);
  assert.match(second.stderr, new RegExp(`process with PID ${daemon.process.pid} is still running`));
});

test('over TLS only clients with a certificate of the authority come in', async (t) => {
  const daemon = await makeDaemon(t);
  const directory = `${daemon.home}/tls`;
  writeCertificates(`${daemon.home}/other`, { stranger: 'client' }, []);
  writeCertificates(directory, { server: 'server', client: 'client' }, ['127.0.0.1']);
  for (const name of ['stranger.pem', 'stranger-key.pem'])
    copyFileSync(`${daemon.home}/other/${name}`, `${directory}/${name}`);
  const port = await freePort();
  await daemon.start([
    '--tlsverify',
    `--tlscacert=${directory}/ca.pem`,
    `--tlscert=${directory}/server.pem`,
    `--tlskey=${directory}/server-key.pem`,
    '-H',
    `tcp://127.0.0.1:${port}`,
    '-H',
    daemon.host,
  ]);
  await importBusybox(daemon);
  const over = (name: string, ...words: string[]): ReturnType<typeof run> =>
    run('docker', [
      '-H',
      `tcp://127.0.0.1:${port}`,
      '--tlsverify',
      `--tlscacert=${directory}/ca.pem`,
      `--tlscert=${directory}/${name}.pem`,
      `--tlskey=${directory}/${name}-key.pem`,
      ...words,
    ]);
  const ran = await over('client', 'run', '--rm', '-i', 'busybox', 'echo', 'over TLS');
  assert.equal(ran.stdout, 'over TLS\n', ran.stderr);
  const refused = await over('stranger', 'ps');
  assert.notEqual(refused.code, 0);
  const plain = await run('docker', ['-H', `tcp://127.0.0.1:${port}`, 'ps']);
  assert.notEqual(plain.code, 0);
  assert.equal(
    await daemon.ok('info', '-f', '{{json .Warnings}}').then((text) => text.includes('API is accessible')),
    false,
  );
});

test('sockets that systemd opened are listened on', async (t) => {
  const daemon = await makeDaemon(t);
  mkdirSync(`${daemon.home}/run`);
  const path = `${daemon.home}/run/docker.sock`;
  const descriptor = call('socket', '', 1, 1, 0);
  t.after(() => call('close', '', descriptor));
  withUnixAddress(path, (address) => call('bind', path, descriptor, address, address.length));
  call('listen', path, descriptor, 16);
  await daemon.start(['-H', 'fd://'], { environment: { LISTEN_FDS: '1' }, descriptor });
  assert.equal(await daemon.ok('version', '-f', '{{.Server.Os}}'), 'linux');
});

test('SIGHUP reads the file again: what may change changes, an event says so, and a wrong file changes nothing', async (t) => {
  const daemon = await makeDaemon(t);
  const file = `${daemon.home}/daemon.json`;
  const write = (value: unknown): void =>
    writeFileSync(file, typeof value === 'string' ? value : JSON.stringify(value));
  write({ labels: ['a=b'], 'registry-mirrors': ['http://one.invalid'] });
  await daemon.start([`--config-file=${file}`]);
  const since = String(Math.floor(realClock.now() / 1000) - 1);
  const reload = async (): Promise<void> => {
    const before = daemon.log().length;
    daemon.process.kill('SIGHUP');
    while (!/eload/.test(daemon.log().slice(before))) await realClock.sleep(10);
  };
  write({
    labels: ['c=d'],
    debug: true,
    'registry-mirrors': [],
    'insecure-registries': ['r.invalid:5000', '10.0.0.0/8'],
  });
  await reload();
  assert.equal(await daemon.ok('info', '-f', '{{.Labels}} {{.Debug}} {{.RegistryConfig.Mirrors}}'), '[c=d] true []');
  assert.match(await daemon.ok('info'), /Insecure Registries:\n {2}r.invalid:5000\n {2}10.0.0.0\/8/);
  write('{');
  await reload();
  assert.match(daemon.log(), /Error reloading configuration/);
  assert.equal(await daemon.ok('info', '-f', '{{.Labels}}'), '[c=d]');
  const events = await daemon.ok(
    'events',
    '--since',
    since,
    '--until',
    String(Math.ceil(realClock.now() / 1000)),
    '--filter',
    'type=daemon',
    '--filter',
    'event=reload',
  );
  assert.equal(events.split('\n').length, 1);
  assert.match(events, /debug=true.*labels=\["c=d"\].*live-restore=false/);
});

test('defaults of the configuration reach containers, which may say otherwise', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start([
    '--default-ulimit=nofile=123:456',
    '--default-shm-size=8m',
    '--dns=192.0.2.53',
    '--log-opt=max-size=1m',
    '--no-new-privileges',
    '--init',
    '--bip=172.29.77.1/24',
    '--default-address-pool=base=10.213.0.0/16,size=24',
    '--ip=127.0.0.1',
    '--host-gateway-ip=192.0.2.9',
  ]);
  await importBusybox(daemon);
  const shown = await daemon.ok(
    'run',
    '--rm',
    '--add-host=up:host-gateway',
    'busybox',
    'sh',
    '-c',
    'ulimit -n; cat /etc/resolv.conf /etc/hosts; grep NoNewPrivs /proc/1/status; cat /proc/1/comm; grep shm /proc/mounts',
  );
  assert.match(shown, /^123\n/);
  assert.match(shown, /nameserver 192.0.2.53/);
  assert.match(shown, /192.0.2.9\tup/);
  assert.match(shown, /172.29.77.2/);
  assert.match(shown, /NoNewPrivs:\t1/);
  assert.match(shown, /(tini|catatonit|docker-init|init)\n/);
  assert.match(shown, /size=8192k/);
  assert.match(await daemon.ok('run', '--rm', '--dns=192.0.2.1', 'busybox', 'cat', '/etc/resolv.conf'), /192.0.2.1$/m);
  await daemon.ok('create', '--name', 'two', '-p', '80', 'busybox', 'sleep', '9');
  assert.equal(
    await daemon.ok('inspect', '-f', '{{.HostConfig.LogConfig.Config}} {{.HostConfig.ShmSize}}', 'two'),
    'map[max-size:1m] 8388608',
  );
  await daemon.ok('start', 'two');
  assert.match(await daemon.ok('port', 'two'), /127.0.0.1:\d+$/);
  await daemon.ok('network', 'create', 'own');
  assert.match(await daemon.ok('network', 'inspect', 'own'), /"Subnet": "10.213.0.0\/24"/);
  await daemon.ok('rm', '-f', 'two');
  await daemon.end('SIGKILL');
  await daemon.start(['--bip=172.29.78.1/24', '--ipv6', '--fixed-cidr-v6=fd29:78::/64']);
  const bridge = await daemon.ok('network', 'inspect', 'bridge');
  assert.match(bridge, /"Subnet": "172.29.78.0\/24"/);
  assert.match(bridge, /"Subnet": "fd29:78::\/64"/);
  assert.match(await daemon.ok('run', '--rm', 'busybox', 'cat', '/etc/hosts'), /fd29:78::2/);
  assert.match(await daemon.ok('run', '--rm', 'busybox', 'cat', '/etc/hosts'), /172.29.78.2/);
});

test('the socket is for the group that is asked for, and the pid is where it is looked for', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start(['-G', '12345', `--pidfile=${daemon.home}/p`, '--metrics-addr', `127.0.0.1:${await freePort()}`]);
  const { gid, mode } = statSync(`${daemon.home}/run/docker.sock`);
  assert.deepEqual([gid, mode & 0o777], [12_345, 0o660]);
  assert.equal(readFileSync(`${daemon.home}/p`, 'utf8'), `${daemon.process.pid}\n`);
  await daemon.end('SIGTERM');
  assert.throws(() => readFileSync(`${daemon.home}/p`));
});

test('a registry alone keeps what is pushed, over TLS and kill -9, and an engine trusts it only where it is told to', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start(['--bip=172.29.79.1/24', '--insecure-registry=172.29.79.0/24']);
  await importBusybox(daemon);
  const address = `172.29.79.1:${await freePort()}`;
  writeCertificates(`${daemon.home}/tls`, { registry: 'server' }, ['172.29.79.1']);
  const data = `${daemon.home}/registry`;
  const words = [`--data=${data}`, `--listen=${address}`, '--anonymous-pull=none'];
  const plain = await run('./tiphys', ['registry', ...words]);
  assert.match(plain.stderr, /passwords would go unencrypted/);
  const tls = [...words, `--tls-cert=${daemon.home}/tls/registry.pem`, `--tls-key=${daemon.home}/tls/registry-key.pem`];
  const registry = await startRegistry(t, tls);
  const made = await run('./tiphys', ['registry-user', 'ann', '--registry', data], {}, { input: 'secret-word' });
  assert.match(made.stdout, /push to every repository/, made.stderr);
  const docker = (...rest: string[]): ReturnType<typeof run> =>
    run('docker', ['--config', `${daemon.home}/docker`, '-H', daemon.host, ...rest]);
  await daemon.ok('tag', 'busybox', `${address}/some/box:1`);
  assert.match((await docker('push', `${address}/some/box:1`)).stderr, /denied|unauthorized|authentication/);
  const login = await docker('login', '-u', 'ann', '-p', 'secret-word', address);
  assert.equal(login.code, 0, login.stderr);
  const pushed = await docker('push', `${address}/some/box:1`);
  assert.equal(pushed.code, 0, pushed.stderr);
  await registry.end('SIGKILL');
  await startRegistry(t, tls);
  await daemon.ok('rmi', `${address}/some/box:1`);
  assert.notEqual((await daemon.docker('pull', `${address}/some/box:1`)).code, 0);
  const pulled = await docker('pull', `${address}/some/box:1`);
  assert.equal(pulled.code, 0, pulled.stderr);
  await daemon.end('SIGTERM');
  await daemon.start();
  await daemon.ok('rmi', `${address}/some/box:1`);
  assert.match((await docker('pull', `${address}/some/box:1`)).stderr, /certificate|unable to verify/);
});

test('a build makes events of its image alone, and its steps are not listed', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start();
  await importBusybox(daemon);
  mkdirSync(`${daemon.home}/context`);
  writeFileSync(`${daemon.home}/context/Dockerfile`, 'FROM busybox\nRUN sleep 2\n');
  let isOver = false;
  const build = daemon.ok('build', '-q', '-t', 'built', `${daemon.home}/context`).finally(() => (isOver = true));
  while (!isOver) assert.equal(await daemon.ok('ps', '-aq'), '');
  await build;
  const until = String(Math.ceil(realClock.now() / 1000));
  const told = await daemon.ok('events', '--since', '0', '--until', until, '--format', '{{.Type}} {{.Action}}');
  assert.deepEqual(told.split('\n'), ['image import', 'image create', 'image tag']);
});

test('every operation of the API is there, and what is a swarm’s answers as outside of one', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start();
  const { operations } = facts;
  const [absent, refused]: [string[], string[]] = [[], []];
  for (const [name, [, last]] of Object.entries(operations)) {
    const [method = '', path = ''] = name.split(' ');
    const { status, body } = await ask(daemon.home, method, `/v1.${last}${path.replace(/\{\w+\}/g, 'nothing')}`);
    if (body.includes('page not found')) absent.push(name);
    if (status === 501) refused.push(name);
    if (/^\/(services|nodes|tasks|secrets|configs)\b/.test(path)) {
      assert.equal(status, 503, name);
      assert.match(body, /This node is not a swarm manager/, name);
    }
  }
  assert.deepEqual(absent, []);
  assert.deepEqual(refused.sort(), ['POST /swarm/init', 'POST /swarm/join']);
});

test('attach by WebSocket carries input and output in binary messages', async (t) => {
  const daemon = await makeDaemon(t);
  await daemon.start();
  await importBusybox(daemon);
  await daemon.ok('create', '-i', '--name', 'echo', 'busybox', 'sh', '-c', 'read line; echo got $line; echo err >&2');
  const query = 'stream=1&stdin=1&stdout=1&stderr=1';
  const client = new WebSocket(`ws+unix://${daemon.home}/run/docker.sock:/v1.50/containers/echo/attach/ws?${query}`);
  const parts: Buffer[] = [];
  client.on('message', (bytes: Buffer, isBinary) => {
    assert.ok(isBinary);
    parts.push(bytes);
  });
  await new Promise((resolve, reject) => {
    client.once('open', resolve);
    client.once('error', reject);
  });
  const closed = new Promise((resolve) => {
    client.once('close', resolve);
  });
  await daemon.ok('start', 'echo');
  client.send(Buffer.from('hello\n'));
  await closed;
  const said = Buffer.concat(parts).toString();
  assert.match(said, /got hello\n/);
  assert.match(said, /err\n/);
});
