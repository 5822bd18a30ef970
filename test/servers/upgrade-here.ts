/**
 * One program takes over from another one on a machine, under load: from what commit 7f2ff36 kept, to a program that
 * knows a newer format, and back. No container is restarted, watchers miss nothing; how long requests failed is told.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '#os/test-port.ts';
import { createMachine, run, type Machine, type Output } from '../e2e/machine.ts';
import { steadyLoad, type Came, type SteadyLoad } from './steady-load.ts';

const checkout = resolve(fileURLToPath(import.meta.url), '../../..');
const before = '7f2ff36';

const workloads = `
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 6
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sh, -c, "mkdir /www; echo hello >/www/index.html; exec busybox httpd -f -h /www"]}
`;

/** The program of a commit, in a directory of its own. */
function programOf(commit: string, directory: string): void {
  try {
    execFileSync('git', ['-C', checkout, 'cat-file', '-e', commit], { stdio: 'pipe' });
  } catch {
    assert.fail(`this clone has no commit ${commit}, whose data is to be taken over: git fetch --unshallow`);
  }
  mkdirSync(directory);
  const archive = execFileSync('git', ['-C', checkout, 'archive', commit], { maxBuffer: 256 * 1024 * 1024 });
  execFileSync('tar', ['x', '-C', directory], { input: archive });
  symlinkSync(join(checkout, 'node_modules'), join(directory, 'node_modules'));
}

/** This program with something else in it. */
function changedProgram(directory: string, file: string, change: (text: string) => string): void {
  mkdirSync(directory);
  for (const entry of ['src', 'tiphys', 'package.json'])
    cpSync(join(checkout, entry), join(directory, entry), { recursive: true });
  symlinkSync(join(checkout, 'node_modules'), join(directory, 'node_modules'));
  const text = readFileSync(join(checkout, file), 'utf8');
  const changed = change(text);
  assert.notEqual(changed, text, file);
  writeFileSync(join(directory, file), changed);
}

/** Runs until it is stopped, which answers what came of it. */
async function startLoad(machine: Machine, url: string): Promise<Disposable & { stop(): Promise<SteadyLoad> }> {
  const stopFile = join(machine.home, 'stop-load');
  rmSync(stopFile, { force: true });
  const child = spawn(process.execPath, [steadyLoad, url, join(machine.home, 'run/admin.conf'), 'default', stopFile], {
    cwd: checkout,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  const { promise: begun, resolve: begins } = Promise.withResolvers<void>();
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    if (text.startsWith('begun\n')) begins();
  });
  const ended = new Promise<void>((done) => child.once('close', () => done()));
  await Promise.race([begun, ended]);
  return {
    async stop() {
      writeFileSync(stopFile, '');
      await ended;
      return JSON.parse(text.trim().split('\n').at(-1) ?? '') as SteadyLoad;
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}

/** How long it was away is told, not judged: the machine may be busy. */
function report(what: string, { count, failed, longestOutageMs, slowestMs, errors }: Came): void {
  console.log(`# ${what}: ${failed} of ${count} failed ${JSON.stringify(errors)}, for ${longestOutageMs} ms at most`);
  console.log(`#   the slowest took ${slowestMs} ms`);
}

/** Of each Pod: its container, and how often it was started. */
const containers = (machine: Machine): Promise<string> =>
  machine.kube(
    'get',
    'pods',
    '-o',
    'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\\n"}{end}',
  );

test('one program takes over from another under load, and back', { timeout: 1_800_000 }, async () => {
  await using machine = createMachine();
  const { home } = machine;
  const by = (directory: string, ...words: string[]): Promise<Output> =>
    run(join(directory, 'tiphys'), words, machine.environment, { timeoutMs: 900_000 });
  const good = async (directory: string, ...words: string[]): Promise<string> => {
    const begun = Date.now();
    const { code, stdout, stderr } = await by(directory, ...words);
    assert.equal(code, 0, `${words.join(' ')}: ${stdout}${stderr}`);
    console.log(`# ${words.join(' ')}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    return stdout;
  };
  const bad = async (directory: string, words: string[], says: RegExp): Promise<void> => {
    const { code, stdout, stderr } = await by(directory, ...words);
    assert.notEqual(code, 0, stdout);
    assert.match(stderr, says);
  };
  const [old, newer, broken] = ['old', 'newer', 'broken'].map((name) => join(home, name)) as [string, string, string];
  programOf(before, old);
  changedProgram(newer, 'src/platform/instance.ts', (text) =>
    text.replace('newestFormat: number = severalFormat', 'newestFormat: number = severalFormat + 1'),
  );
  changedProgram(
    broken,
    'src/platform/server.ts',
    (text) => `throw new Error('a program that does not start');\n${text}`,
  );

  const ports = ['--api-port', String(await freePort()), '--registry-port', String(await freePort())];
  // On a busy machine the program of then takes a process that has not begun for one that has ended.
  for (let tries = 0; tries < 3 && (await by(old, 'up', '--yes', ...ports)).code !== 0; tries++);
  await good(old, 'up', '--yes');
  machine.file('image/Dockerfile', 'FROM scratch\nCOPY bin /bin\nENV PATH=/bin\n');
  mkdirSync(join(home, 'image/bin'));
  cpSync('/bin/busybox', join(home, 'image/bin/busybox'), { dereference: true });
  symlinkSync('busybox', join(home, 'image/bin/sh'));
  const built = await machine.docker('build', '-q', '-t', 'app:1', join(home, 'image'));
  assert.equal(built.code, 0, built.stderr);
  await machine.apply(workloads);
  await machine.until(
    'six',
    () => machine.kube('get', 'deployment', 'app', '-o', 'jsonpath={.status.readyReplicas}'),
    /^6$/,
    120_000,
  );
  const address = await machine.kube('get', 'service', 'app', '-o', 'jsonpath={.spec.clusterIP}');
  const running = await containers(machine);
  using load = await startLoad(machine, `http://${address}/`);

  assert.match(
    await good(checkout, 'upgrade', '--yes'),
    /This machine runs Tiphys .*no container was restarted.*\n.*--back/,
  );
  assert.match(await good(checkout, 'upgrade', '--yes'), /runs Tiphys .* already/);
  await bad(old, ['up'], /newer version of Tiphys \(format 2; this one knows 1\)/);
  await bad(
    broken,
    ['upgrade', '--yes'],
    /does not start here, and this machine runs .* as before: server does not start/,
  );
  assert.match(await good(checkout, 'status'), /was tried and does not run here/);
  await good(newer, 'upgrade', '--yes');
  await good(checkout, 'upgrade', '--yes', '--back');
  await good(newer, 'upgrade', '--yes');
  await good(newer, 'upgrade', '--finish');
  await bad(checkout, ['upgrade', '--yes'], /\(format 5; this one knows 4\)/);
  await bad(newer, ['upgrade', '--back'], /no program of before is kept/);
  rmSync(newer, { recursive: true });
  // Of whatever version a command is, the program that runs here does it.
  assert.match(await good(checkout, 'status'), /server +ready/);

  const { requests, writes, watches, unseen } = await load.stop();
  report('requests to the application', requests);
  report('writes', writes);
  report('beginnings of watches', watches);
  assert.deepEqual(
    unseen,
    unseen.map(() => 0),
    'each watcher saw all that was acknowledged',
  );
  assert.ok(requests.count > 1_000 && writes.count > 10, 'there was load');
  assert.equal(await containers(machine), running, 'no container was restarted');
});
