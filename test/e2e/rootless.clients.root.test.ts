/** `tiphys engine` of an ordinary user: he is `daemon` here, who has numbers of his own in a mount namespace. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';

import { test, type TestContext } from 'node:test';
import { makeImage } from '#engine/testing.ts';
import { realClock } from '#os/clock.real.ts';
import { listDirectory, readIfExists, removeTree } from '#os/files.ts';
import { packageRoot } from '#platform/paths.ts';
import { freePort } from '#os/test-port.ts';
import { run, type Output } from './machine.ts';

const user = 1;
const first = 231_072;
const waitMsMax = 60_000;

class RootlessEngine {
  readonly home = mkdtempSync('/tmp/tiphys-rootless-');
  readonly host = `unix://${this.home}/run/docker.sock`;
  child: ChildProcess | undefined;
  log = '';

  constructor() {
    chmodSync(this.home, 0o755);
    for (const name of ['run', 'user']) {
      mkdirSync(`${this.home}/${name}`, { mode: 0o700 });
      chownSync(`${this.home}/${name}`, user, user);
    }
    mkdirSync(`${this.home}/package`);
    writeFileSync(`${this.home}/ranges`, `daemon:${first}:65536\n`);
    makeImage(this.home, ['sh', 'sleep', 'echo', 'cat', 'id', 'ls', 'ping', 'httpd', 'chown', 'stat', 'wget', 'kill']);
  }

  /** What runs as the user: in its namespace he has numbers, reads the checkout and may open the device of tunnels. */
  spawn(words: string[], environment: Record<string, string> = {}): ChildProcess {
    const { home } = this;
    const within = `
      for name in subuid subgid; do mount --bind ${home}/ranges /etc/$name; done
      [ -e ${home}/tun ] || mknod -m 666 ${home}/tun c 10 200
      mount --bind ${home}/tun /dev/net/tun
      mount --bind ${packageRoot} ${home}/package
      cd /
      exec setpriv --reuid ${user} --regid ${user} --clear-groups "$@"`;
    return spawn('unshare', ['-m', 'sh', '-ec', within, 'sh', `${home}/package/tiphys`, 'engine', ...words], {
      env: { PATH: process.env['PATH'] ?? '', HOME: `${home}/user`, XDG_RUNTIME_DIR: `${home}/run`, ...environment },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }

  async start(): Promise<void> {
    this.log = '';
    const child = this.spawn([]);
    this.child = child;
    child.stderr!.on('data', (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    await until(() => {
      if (child.exitCode !== null) throw new Error(`it does not start: ${this.log}`);
      return this.log.includes('completed initialization');
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  docker(...words: string[]): Promise<Output> {
    return run('docker', ['-H', this.host, ...words]);
  }

  async ok(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.docker(...words);
    assert.equal(code, 0, `docker ${words.join(' ')}: ${stderr}`);
    return stdout.trim();
  }

  /** Processes of the user that belong to this engine, by their command lines or their parents'. */
  processes(): number[] {
    const of = (pid: string, name: string): string => readIfExists(`/proc/${pid}/${name}`) ?? '';
    const named = new Set(
      listDirectory('/proc').filter((pid) => /^\d+$/.test(pid) && of(pid, 'cmdline').includes(this.home)),
    );
    const state = readIfExists(`${this.home}/run/tiphys-engine-rootless/state.json`);
    if (state !== undefined) named.add(String((JSON.parse(state) as { holder: { pid: number } }).holder.pid));
    return listDirectory('/proc')
      .filter((pid) => named.has(pid) || named.has(/^PPid:\s*(\d+)$/m.exec(of(pid, 'status'))?.[1] ?? ''))
      .map(Number)
      .filter((pid) => pid > 0 && existsSync(`/proc/${pid}`));
  }

  async remove(): Promise<void> {
    await this.end('SIGTERM');
    for (const pid of this.processes())
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone.
      }
    removeTree(this.home);
  }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = realClock.monotonic() + waitMsMax;
  while (!holds()) {
    assert.ok(realClock.monotonic() < deadline, 'it does not come');
    await realClock.sleep(50);
  }
}

async function startEngine(t: TestContext): Promise<RootlessEngine> {
  const engine = new RootlessEngine();
  t.after(() => engine.remove());
  await engine.start();
  const imported = spawnSync('sh', [
    '-c',
    `tar -C ${engine.home}/image -c . | docker -H ${engine.host} import - busybox`,
  ]);
  assert.equal(imported.status, 0, String(imported.stderr));
  return engine;
}

const serve = ['sh', '-c', 'echo hello > /index.html; exec httpd -f -h / -p 80'];

test('an ordinary user has an engine with networks, ports, volumes and builds, and no right that he has not', async (t) => {
  const engine = await startEngine(t);
  const { ok, docker } = { ok: engine.ok.bind(engine), docker: engine.docker.bind(engine) };
  assert.match(await ok('info', '-f', '{{.SecurityOptions}} {{.CgroupDriver}}'), /name=rootless.* (none|cgroupfs)$/);
  assert.match(await ok('run', '--rm', 'busybox', 'cat', '/proc/self/uid_map'), /^0 +1 +1\n +1 +231072 +65536$/);

  assert.match(await ok('run', '--rm', '--network=host', 'busybox', 'ping', '-c1', '127.0.0.1'), /1 packets received/);

  const port = await freePort();
  await ok('network', 'create', 'net');
  await ok('run', '-d', '--name', 'web', '--network', 'net', '-p', `${port}:80`, 'busybox', ...serve);
  await until(() => spawnSync('wget', ['-qO-', `http://127.0.0.1:${port}/`]).stdout.toString() === 'hello\n');
  assert.equal(await ok('run', '--rm', '--network', 'net', 'busybox', 'wget', '-qO-', 'http://web/'), 'hello');
  assert.match((await docker('run', '--rm', '-p', `${port}:80`, 'busybox', 'id')).stderr, /port is already allocated/);
  assert.match(
    (await docker('run', '--rm', '-p', '81:80', 'busybox', 'id')).stderr,
    /cannot expose privileged port 81, .*ip_unprivileged_port_start=81.*permission denied/,
  );
  assert.match(await ok('top', 'web'), /httpd -f/);
  assert.equal(await ok('exec', '-u', '33', 'web', 'id', '-u'), '33');
  await ok('commit', 'web', 'kept');
  await ok('rm', '-f', 'web');
  assert.notEqual(spawnSync('wget', ['-T1', '-t1', '-qO-', `http://127.0.0.1:${port}/`]).status, 0);
  await ok('run', '--rm', '-p', `${port}:80`, 'kept', 'cat', '/index.html');

  const made = 'echo x > /v/f; chown 7:8 /v/f; stat -c %u:%g /v/f';
  assert.equal(await ok('run', '--rm', '-v', 'vol:/v', 'busybox', 'sh', '-c', made), '7:8');
  mkdirSync(`${engine.home}/user/bound`);
  chownSync(`${engine.home}/user/bound`, user, user);
  await ok('run', '--rm', '-v', `${engine.home}/user/bound:/v`, 'busybox', 'sh', '-c', 'echo x > /v/f');
  assert.equal(statSync(`${engine.home}/user/bound/f`).uid, user);
  assert.match(
    (await docker('run', '--rm', '-v', '/etc/shadow:/s', 'busybox', 'cat', '/s')).stderr,
    /Permission denied/,
  );
  assert.match(
    (await docker('run', '--rm', '--privileged', '-v', '/etc:/e', 'busybox', 'sh', '-c', 'echo > /e/x')).stderr,
    /Permission denied|Read-only/,
  );

  mkdirSync(`${engine.home}/context`);
  writeFileSync(
    `${engine.home}/context/Dockerfile`,
    'FROM busybox\nRUN echo made > /made && chown 33:33 /made\nCOPY Dockerfile /d\n',
  );
  await ok('build', '-q', '-t', 'built', `${engine.home}/context`);
  assert.equal(await ok('run', '--rm', 'built', 'stat', '-c', '%u %n', '/made', '/d'), '33 /made\n0 /d');
});

test('containers and their ports outlive the engine, and an end in order leaves no process', async (t) => {
  const engine = await startEngine(t);
  const port = await freePort();
  await engine.ok('run', '-d', '--name', 'web', '-p', `${port}:80`, 'busybox', ...serve);
  await engine.ok(
    'run',
    '-d',
    '--name',
    'open',
    '--pid',
    'host',
    'busybox',
    'sh',
    '-c',
    'sleep 7771 & exec sleep 7772',
  );
  const fetch = (): string => spawnSync('wget', ['-qO-', `http://127.0.0.1:${port}/`]).stdout.toString();
  await until(() => fetch() === 'hello\n');
  const pid = await engine.ok('inspect', '-f', '{{.State.Pid}}', 'web');
  await engine.end('SIGKILL');
  assert.equal(fetch(), 'hello\n');
  await engine.start();
  assert.equal(await engine.ok('inspect', '-f', '{{.State.Pid}}', 'web'), pid);
  assert.equal(fetch(), 'hello\n');
  assert.match(await engine.ok('exec', 'web', 'cat', '/index.html'), /hello/);
  await engine.ok('rm', '-f', 'open');
  assert.equal(spawnSync('pgrep', ['-f', '^sleep 777[12]$']).status, 1);
  await engine.end('SIGTERM');
  await until(() => engine.processes().length === 0);
  await engine.start();
  assert.equal(await engine.ok('inspect', '-f', '{{.State.Status}}', 'web'), 'exited');
  assert.equal(readFileSync(`${engine.home}/run/docker.pid`, 'utf8').trim(), String(engine.child!.pid));
});

test('containers whose namespaces nobody holds any more are ended before they are started again', async (t) => {
  const engine = await startEngine(t);
  await engine.ok('run', '-d', '--name', 'one', '--restart', 'always', '-u', '33', 'busybox', 'sleep', '7773');
  const sleeping = (): string[] =>
    spawnSync('pgrep', ['-f', '^sleep 7773$']).stdout.toString().split('\n').filter(Boolean);
  const before = sleeping();
  assert.equal(before.length, 1);
  await engine.end('SIGKILL');
  const state = JSON.parse(readFileSync(`${engine.home}/run/tiphys-engine-rootless/state.json`, 'utf8')) as {
    holder: { pid: number };
  };
  process.kill(state.holder.pid, 'SIGKILL');
  await engine.start();
  await until(() => sleeping().length === 1 && sleeping()[0] !== before[0]);
  assert.equal(await engine.ok('inspect', '-f', '{{.State.Status}}', 'one'), 'running');
});

test('a further engine of the same user has namespaces of its own, and ends nothing of the first', async (t) => {
  const engine = await startEngine(t);
  const port = await freePort();
  await engine.ok('run', '-d', '--name', 'web', '-p', `${port}:80`, 'busybox', ...serve);
  const fetch = (): string => spawnSync('wget', ['-T2', '-t1', '-qO-', `http://127.0.0.1:${port}/`]).stdout.toString();
  await until(() => fetch() === 'hello\n');
  const { home } = engine;
  const other = ['--data-root', `${home}/user/two`, '-H', `unix://${home}/run/two.sock`, '-p', `${home}/run/two.pid`];
  const start = (...words: string[]): { child: ChildProcess; said(): string } => {
    const child = engine.spawn([...other, ...words]);
    let text = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    return { child, said: () => text };
  };
  const same = start();
  await new Promise((resolve) => same.child.once('exit', resolve));
  assert.match(same.said(), /another engine runs in the namespaces of .*: name another --exec-root/);
  const second = start('--exec-root', `${home}/run/two`);
  await until(() => second.said().includes('completed initialization') || second.child.exitCode !== null);
  const ended = new Promise((resolve) => second.child.once('exit', resolve));
  second.child.kill('SIGTERM');
  await ended;
  assert.match(second.said(), /completed initialization/);
  assert.equal(existsSync(`${home}/run/two-rootless/state.json`), false);
  assert.equal(fetch(), 'hello\n');
  assert.equal(await engine.ok('exec', 'web', 'echo', 'here'), 'here');
});

test('what a user lacks is said in words that he can type', async (t) => {
  const engine = new RootlessEngine();
  t.after(() => engine.remove());
  const refusal = async (environment: Record<string, string>, ...words: string[]): Promise<string> => {
    const child = engine.spawn(words, environment);
    let text = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await new Promise((resolve) => child.once('exit', resolve));
    return text;
  };
  assert.match(await refusal({ XDG_RUNTIME_DIR: '' }), /XDG_RUNTIME_DIR needs to be set/);
  assert.match(
    await refusal({ XDG_RUNTIME_DIR: `${engine.home}/run/${'long'.repeat(25)}` }),
    /name a shorter --exec-root/,
  );
  assert.match(await refusal({}, '-H', 'tcp://127.0.0.1:2375'), /hosts \(--host\) is not supported: without root/);
  assert.match(await refusal({}, '--metrics-addr', '127.0.0.1:9323'), /metrics-addr is not supported: without root/);
  writeFileSync(`${engine.home}/ranges`, '');
  assert.match(await refusal({}), /\/etc\/subuid has no numbers for daemon: sudo usermod --add-subuids/);
});
