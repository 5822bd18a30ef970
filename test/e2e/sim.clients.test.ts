/**
 * The real kubectl against a simulated cluster: logs, exec, attach, cp, port-forward and top, through the API server
 * and the kubelet's own server.
 */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { buffer, text } from 'node:stream/consumers';
import type { Pod, PodSpec } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { type Cluster, createCluster, type PodScript } from '#sim/testing.ts';
import { type Output, run } from './machine.ts';

/** A program that runs on while the test goes on. */
class Running implements AsyncDisposable {
  readonly child: ChildProcessWithoutNullStreams;
  readonly exit: Promise<number>;
  stdout = '';
  stderr = '';
  constructor(file: string, args: string[], environment: Record<string, string>) {
    this.child = spawn(file, args, { env: { ...process.env, ...environment } });
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
    });
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    this.child.stdin.on('error', () => undefined);
    this.exit = new Promise((resolve) => {
      this.child.on('close', (code) => {
        resolve(code ?? -1);
      });
    });
  }
  async until(wanted: RegExp): Promise<RegExpExecArray> {
    for (let tries = 0; tries < 600; tries++) {
      const found = wanted.exec(this.stdout) ?? wanted.exec(this.stderr);
      if (found !== null) return found;
      await new Promise((resolve) => {
        setTimeout(resolve, 50);
      });
    }
    throw new Error(
      `waited for ${wanted}; stdout ${JSON.stringify(this.stdout)}, stderr ${JSON.stringify(this.stderr)}`,
    );
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exit;
  }
}

interface Bench extends AsyncDisposable {
  cluster: Cluster;
  directory: string;
  environment: Record<string, string>;
  kubectl(...args: string[]): Promise<Output>;
  start(...args: string[]): Running;
}

/** A cluster whose time moves only when the test says so, and kubectl for it. */
async function createBench(scripts: Record<string, PodScript>): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(
    await createCluster({
      nodes: 2,
      scripts: Object.entries(scripts).map(([app, script]) => ({ selector: `app=${app}`, script })),
    }),
  );
  const listening = stack.use(await cluster.listen());
  const directory = mkdtempSync('/var/tmp/tiphys-sim-kubectl-');
  stack.defer(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  writeFileSync(join(directory, 'config'), listening.kubeconfig, { mode: 0o600 });
  const environment = { KUBECONFIG: join(directory, 'config'), HOME: directory };
  const owned = stack.move();
  return {
    cluster,
    directory,
    environment,
    kubectl: (...args) => run('kubectl', args, environment, { timeoutMs: 60_000 }),
    start: (...args) => new Running('kubectl', args, environment),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function pod(app: string, spec: Partial<PodSpec> = {}): Manifest<Pod> {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: app, labels: { app } },
    spec: { containers: [{ name: 'c', image: 'app:1' }], ...spec },
  };
}

test('kubectl logs: lines with virtual time, chosen by tail, since and bytes, of one container or all', async () => {
  await using bench = await createBench({
    web: {
      startAfter: '1s',
      logs: [
        'one',
        { text: 'two', after: '10s', stream: 'stderr' },
        { text: (atMs) => `tick ${atMs % 60_000}`, after: '20s', every: '10s' },
      ],
    },
  });
  const { cluster, kubectl } = bench;
  await cluster.apply(
    pod('web', {
      containers: [
        { name: 'c', image: 'app:1' },
        { name: 'side', image: 'app:1' },
      ],
    }),
  );
  await cluster.advance('45s');
  const lines = async (...args: string[]): Promise<string[]> => {
    const { code, stdout, stderr } = await kubectl('logs', 'web', '-c', 'c', ...args);
    assert.equal(code, 0, stderr);
    return stdout.split('\n').slice(0, -1);
  };
  assert.deepEqual(await lines(), ['one', 'two', 'tick 21000', 'tick 31000', 'tick 41000']);
  assert.deepEqual(await lines('--tail=2', '--timestamps'), [
    '2026-01-01T00:00:31.000000000Z tick 31000',
    '2026-01-01T00:00:41.000000000Z tick 41000',
  ]);
  assert.deepEqual(await lines('--tail=0'), []);
  assert.deepEqual(await lines('--since=15s'), ['tick 31000', 'tick 41000']);
  assert.deepEqual(await lines('--since-time=2026-01-01T00:00:41Z'), ['tick 41000']);
  assert.equal((await kubectl('logs', 'web', '-c', 'c', '--limit-bytes=6')).stdout, 'one\ntw');
  const all = await kubectl('logs', 'web', '--all-containers', '--prefix', '--tail=1');
  assert.deepEqual(all.stdout.split('\n').sort(), ['', '[pod/web/c] tick 41000', '[pod/web/side] tick 41000']);
  assert.match((await kubectl('logs', 'web')).stderr, /Defaulted container "c" out of: c, side/);
  assert.deepEqual(
    cluster.logs('default', 'web', { container: 'c', tail: 1, timestamps: true }),
    await lines('--tail=1', '--timestamps'),
  );
});

test('kubectl logs -f ends with the container; --previous shows the run before, and in CrashLoopBackOff the one that ended', async () => {
  await using bench = await createBench({
    job: {
      startAfter: 0,
      exitAfter: '5s',
      exitCode: 3,
      failures: 2,
      logs: ['begin', { text: 'work', after: '2s' }, { text: 'never', after: '7s' }],
    },
  });
  const { cluster, kubectl } = bench;
  await cluster.apply(pod('job'));
  await cluster.advance('1s');
  assert.match(
    (await kubectl('logs', 'job', '--previous')).stderr,
    /^Error from server \(BadRequest\): previous terminated container "c" in pod "job" not found\n$/,
  );
  await using follower = bench.start('logs', '-f', '--timestamps', 'job');
  await follower.until(/begin\n/);
  assert.equal(follower.stdout, '2026-01-01T00:00:00.000000000Z begin\n');
  await cluster.advance('1s');
  await follower.until(/work\n/);
  await cluster.advance('4s');
  assert.equal(await follower.exit, 0);
  assert.equal(follower.stdout, '2026-01-01T00:00:00.000000000Z begin\n2026-01-01T00:00:02.000000000Z work\n');
  await cluster.advance('9s');
  const second = await kubectl(
    'get',
    'pod',
    'job',
    '-o',
    'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.waiting.reason}',
  );
  assert.equal(second.stdout, '1 CrashLoopBackOff');
  for (const args of [[], ['--previous']])
    assert.deepEqual(await kubectl('logs', 'job', '--timestamps', '--tail=1', ...args), {
      code: 0,
      stdout: '2026-01-01T00:00:08.000000000Z work\n',
      stderr: '',
    });
  await cluster.advance('20s');
  assert.equal((await kubectl('logs', 'job', '--tail=1')).stdout, 'never\n');
  assert.match(
    (await kubectl('logs', 'job', '--previous', '--timestamps')).stdout,
    /^2026-01-01T00:00:06.000000000Z begin\n.*Z work\n$/,
  );
});

test('kubectl says why there is nothing to see', async () => {
  await using bench = await createBench({
    slow: { startAfter: '10m' },
    broken: { startAfter: 0, imagePullFails: true },
    web: { startAfter: 0, logs: ['x'] },
    done: { startAfter: 0, exitAfter: '1s', logs: ['bye'], exec: () => ({}) },
    init: { startAfter: 0, initAfter: '10m' },
  });
  const { cluster, kubectl } = bench;
  await cluster.apply([
    pod('slow'),
    pod('broken'),
    pod('web'),
    pod('done', { restartPolicy: 'Never' }),
    pod('init', { initContainers: [{ name: 'i', image: 'app:1' }] }),
    pod('nowhere', { nodeSelector: { no: 'such' } }),
  ]);
  await cluster.advance('3s');
  const fails = async (wanted: RegExp, ...args: string[]): Promise<void> => {
    const { code, stderr } = await kubectl(...args);
    assert.notEqual(code, 0, args.join(' '));
    assert.match(stderr, wanted);
  };
  await fails(
    /^Error from server \(BadRequest\): container "c" in pod "slow" is waiting to start: ContainerCreating\n$/,
    'logs',
    'slow',
  );
  await fails(
    /container "c" in pod "broken" is waiting to start: (image can't be pulled|trying and failing to pull image)\n$/,
    'logs',
    'broken',
  );
  await fails(/container "c" in pod "init" is waiting to start: PodInitializing\n$/, 'logs', 'init', '-c', 'c');
  await fails(/container nope is not valid for pod web/, 'logs', 'web', '-c', 'nope');
  await fails(/pods "gone" not found/, 'logs', 'gone');
  await fails(
    /^error: Internal error occurred: error executing command in container: .*exec: "ls": executable file not found in \$PATH/,
    'exec',
    'web',
    '--',
    'ls',
  );
  await fails(/error: (unable to upgrade connection: )?container not found \("c"\)/, 'exec', 'slow', '--', 'ls');
  await fails(
    /cannot exec into a container in a completed pod; current phase is Succeeded/,
    'exec',
    'done',
    '--',
    'ls',
  );
  await fails(/pod nowhere does not have a host assigned/, 'exec', 'nowhere', '--', 'ls');
  await fails(
    /unable to forward port because pod is not running. Current status=Pending/,
    'port-forward',
    'pod/slow',
    ':80',
  );
  assert.deepEqual(await kubectl('logs', 'nowhere'), { code: 0, stdout: '', stderr: '' });
  assert.equal((await kubectl('logs', 'done')).stdout, 'bye\n');
  const raw = (query: string): Promise<Output> =>
    kubectl('get', '--raw', `/api/v1/namespaces/default/pods/web/log?${query}`);
  assert.match(
    (await raw('tailLines=-1')).stderr,
    /PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0/,
  );
  assert.match(
    (await raw('limitBytes=0&sinceSeconds=0')).stderr,
    /limitBytes: Invalid value: 0: must be greater than 0\n.*sinceSeconds: Invalid value: 0/,
  );
  assert.match((await raw('tailLines=many')).stderr, /\(BadRequest\).*parsing "many": invalid syntax/);
  assert.match((await raw('sinceTime=noon')).stderr, /\(BadRequest\).*parsing time "noon"/);
});

test('what runs on a node that is lost breaks off and cannot be reached; after its return the restarted container can', async () => {
  await using bench = await createBench({
    web: {
      startAfter: 0,
      logs: ['up'],
      exec: async (_command, { sleep }) => {
        await sleep('1h');
        return {};
      },
    },
  });
  const { cluster, kubectl } = bench;
  await cluster.apply(pod('web', { nodeName: 'node-1' }));
  await cluster.advance('2s');
  await using follower = bench.start('logs', '-f', 'web');
  await using command = bench.start('exec', 'web', '--', 'wait');
  await follower.until(/up/);
  cluster.nodes.kill('node-1');
  assert.notEqual(await command.exit, 0);
  await follower.exit;
  const lost = await kubectl('logs', 'web');
  assert.match(lost.stderr, /^Error from server: Get "https:\/\/127.0.0.1:\d+\/containerLogs\/default\/web\/c": /);
  assert.equal(lost.code, 1);
  assert.throws(() => cluster.logs('default', 'web'), /node node-1 cannot be reached/);
  cluster.nodes.boot('node-1');
  await cluster.advance('20s');
  assert.equal((await kubectl('logs', 'web')).stdout, 'up\n');
  cluster.nodes.partition('node-1');
  assert.equal((await kubectl('exec', 'web', '--', 'wait')).code, 1);
});

const commands: PodScript = {
  startAfter: 0,
  async exec([program, ...args], { stdin, stdout, sleep, attempt, container }) {
    if (program === 'cat') {
      for await (const chunk of stdin) stdout.write(chunk);
      return {};
    }
    if (program === 'big') return { stdout: 'x'.repeat(8_000_000) };
    if (program === 'fail') return { stdout: 'half\n', stderr: 'oops\n', exitCode: 42 };
    if (program === 'where') return { stdout: `${container} ${attempt} ${args.join('|')}\n` };
    if (program === 'sleep') {
      stdout.write('sleeping\n');
      await sleep(`${args[0]}s`);
      return { stdout: 'slept\n' };
    }
    if (program === 'throw') throw new Error('no disk');
    return undefined;
  },
};

for (const webSockets of ['true', 'false']) {
  test(`kubectl exec over ${webSockets === 'true' ? 'WebSocket' : 'SPDY'}: input, output, exit codes, virtual time, and the end of the container`, async () => {
    await using bench = await createBench({ web: commands });
    const { cluster } = bench;
    Object.assign(bench.environment, { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: webSockets });
    const exec = (input: string, ...args: string[]): Promise<Output> =>
      run('kubectl', ['exec', 'web', ...args], bench.environment, { input, timeoutMs: 60_000 });
    await cluster.apply(
      pod('web', {
        containers: [
          { name: 'c', image: 'app:1' },
          { name: 'side', image: 'app:1' },
        ],
      }),
    );
    await cluster.advance('2s');
    assert.deepEqual(await exec('', '-c', 'c', '--', 'fail'), {
      code: 42,
      stdout: 'half\n',
      stderr: 'oops\ncommand terminated with exit code 42\n',
    });
    assert.equal((await exec('', '-c', 'side', '--', 'where', 'a b', '')).stdout, 'side 0 a b|\n');
    const large = 'ab\n'.repeat(700_000);
    assert.equal((await exec(large, '-i', '-c', 'c', '--', 'cat')).stdout, large);
    assert.equal((await exec('unheard', '-c', 'c', '--', 'cat')).stdout, '');
    assert.equal((await exec('', '-c', 'c', '--', 'big')).stdout.length, 8_000_000);
    assert.match((await exec('', '-c', 'c', '--', 'throw')).stderr, /error executing command in container: no disk/);
    await using sleeper = bench.start('exec', 'web', '-c', 'c', '--', 'sleep', '30');
    await sleeper.until(/sleeping/);
    await cluster.advance('30s');
    assert.equal(await sleeper.exit, 0);
    assert.equal(sleeper.stdout, 'sleeping\nslept\n');
    await using killed = bench.start('exec', 'web', '-c', 'c', '--', 'sleep', '30');
    await killed.until(/sleeping/);
    cluster.nodes.crashPod('default', 'web');
    assert.equal(await killed.exit, 137);
    assert.deepEqual(await cluster.exec('default', 'web', ['fail'], { container: 'side' }), {
      exitCode: 42,
      stdout: 'half\n',
      stderr: 'oops\n',
    });
  });
}

test('kubectl exec -it is a terminal: echo, editing, end of input, interrupt', async () => {
  await using bench = await createBench({
    web: {
      startAfter: 0,
      async exec([program], { tty, stdin, stdout, sleep }) {
        if (program === 'hang') {
          stdout.write('hanging\n');
          await sleep('1h');
        }
        stdout.write(`tty ${tty}\n$ `);
        for await (const line of stdin) stdout.write(`<${String(line).trimEnd()}>\n$ `);
        return { exitCode: 5 };
      },
    },
  });
  await bench.cluster.apply(pod('web'));
  await bench.cluster.advance('2s');
  const terminal = (program: string): Running =>
    new Running('script', ['-qec', `kubectl exec -it web -- ${program}`, '/dev/null'], bench.environment);
  await using shell = terminal('sh');
  await shell.until(/tty true\r\n\$ /);
  shell.child.stdin.write('helo\x7flo\r');
  await shell.until(/helo\x08 \x08lo\r\n<hello>\r\n\$ /);
  shell.child.stdin.write('\x04');
  assert.equal(await shell.exit, 5);
  await using hung = terminal('hang');
  await hung.until(/hanging/);
  hung.child.stdin.write('\x03');
  assert.equal(await hung.exit, 130);
});

test('kubectl attach shows what comes from now on and hands over what is typed; kubectl run goes to the end', async () => {
  await using bench = await createBench({
    web: {
      startAfter: 0,
      exitAfter: '1m',
      logs: ['old', { text: 'new', after: '10s' }],
      input: (typed) => (typed === '' ? 'closed\n' : `heard ${typed}`),
    },
  });
  const { cluster } = bench;
  await cluster.apply(
    pod('web', { restartPolicy: 'Never', containers: [{ name: 'c', image: 'app:1', stdin: true, stdinOnce: true }] }),
  );
  await cluster.advance('2s');
  await using attached = bench.start('attach', '-i', 'web');
  attached.child.stdin.write('hello\n');
  await attached.until(/heard hello\n/);
  await cluster.advance('10s');
  await attached.until(/new\n/);
  attached.child.stdin.end();
  await attached.until(/closed\n/);
  await cluster.advance('1m');
  assert.equal(await attached.exit, 0);
  assert.equal(attached.stdout, 'heard hello\nnew\nclosed\n');
  assert.equal((await bench.kubectl('logs', 'web')).stdout, 'old\nheard hello\nnew\nclosed\n');
});

test('kubectl cp goes by tar, where the script has one', async () => {
  await using bench = await createBench({
    web: {
      startAfter: 0,
      async exec([program, ...args], { stdin }) {
        if (program !== 'tar') return undefined;
        const target = join(bench.directory, 'pod');
        mkdirSync(target, { recursive: true });
        const packed = args[0]!.includes('x') ? await buffer(stdin) : undefined;
        const { status, stdout, stderr } = spawnSync(
          'tar',
          packed === undefined
            ? ['cf', '-', '-C', target, args.at(-1)!.replace(/^\/+/, '')]
            : ['xf', '-', '-C', target],
          packed === undefined ? {} : { input: packed },
        );
        return { stdout, stderr, exitCode: status ?? 1 };
      },
    },
    bare: { startAfter: 0 },
  });
  await bench.cluster.apply([pod('web'), pod('bare')]);
  await bench.cluster.advance('2s');
  const bytes = Buffer.from(Array.from({ length: 300_000 }, (_unused, at) => (at * 7) & 255));
  writeFileSync(join(bench.directory, 'file'), bytes);
  const up = await bench.kubectl('cp', join(bench.directory, 'file'), 'web:/there');
  assert.equal(up.code, 0, up.stderr);
  const down = await bench.kubectl('cp', 'web:/there', join(bench.directory, 'back'));
  assert.equal(down.code, 0, down.stderr);
  assert.ok(readFileSync(join(bench.directory, 'back')).equals(bytes));
  const without = await bench.kubectl('cp', join(bench.directory, 'file'), 'bare:/there');
  assert.notEqual(without.code, 0);
  assert.match(without.stderr, /exec: "tar": executable file not found/);
});

test('kubectl port-forward reaches what the script has on a port, and says when nothing listens', async () => {
  await using bench = await createBench({
    web: {
      startAfter: 0,
      ports: {
        8080: async (asked, { container }) =>
          asked.method === 'POST'
            ? `${container} ${await asked.text()}`
            : new Response(new URL(asked.url).pathname, { status: 404, headers: { 'x-y': 'z' } }),
        8081: () => {
          throw new Error('out of order');
        },
        25: {
          accept: (connection) => {
            connection.write('welcome\n');
          },
        },
        5432: {
          accept: (connection) => {
            connection.on('data', (chunk: Buffer) => {
              connection.end(`echo ${chunk.toString()}`);
            });
          },
        },
      },
    },
  });
  const { cluster } = bench;
  await cluster.apply(pod('web'));
  await cluster.advance('2s');
  await using forward = bench.start('port-forward', '--address=127.0.0.1', 'pod/web', ':8080', ':8081', ':5432', ':25');
  const portOf = async (port: number): Promise<number> =>
    Number((await forward.until(new RegExp(`127.0.0.1:(\\d+) -> ${port}\n`)))[1]);
  const url = `http://127.0.0.1:${await portOf(8080)}`;
  const missing = await fetch(`${url}/a/b?c`);
  assert.deepEqual([missing.status, missing.headers.get('x-y'), await missing.text()], [404, 'z', '/a/b']);
  assert.equal(await (await fetch(url, { method: 'POST', body: 'hello' })).text(), 'c hello');
  const broken = await fetch(`http://127.0.0.1:${await portOf(8081)}`);
  assert.deepEqual([broken.status, await broken.text()], [500, 'out of order\n']);
  const socket = connect(await portOf(5432), '127.0.0.1');
  socket.write('ping');
  assert.equal(await text(socket), 'echo ping');
  const open = connect(await portOf(25), '127.0.0.1');
  const isCut = new Promise((resolve) => {
    open.once('close', resolve);
  });
  open.on('error', () => undefined);
  assert.equal(String((await once(open, 'data'))[0]), 'welcome\n');
  await using refused = bench.start('port-forward', '--address=127.0.0.1', 'pod/web', ':81');
  const dead = Number((await refused.until(/127.0.0.1:(\d+) -> 81\n/))[1]);
  await assert.rejects(fetch(`http://127.0.0.1:${dead}`));
  await refused.until(
    /error forwarding port 81 to pod web, uid : failed to connect to localhost:81 inside namespace .*: dial tcp4 127.0.0.1:81: connect: connection refused/,
  );
  cluster.nodes.crashPod('default', 'web');
  await isCut;
  await cluster.advance('20s');
  const again = await new Promise<IncomingMessage>((resolve, reject) => {
    request(url, { method: 'POST', agent: false }, resolve).on('error', reject).end('again');
  });
  assert.equal(await text(again), 'c again');
});

test('kubectl top shows what the scripts use', async () => {
  await using bench = await createBench({ web: { startAfter: 0, cpu: () => 250, memory: () => 64 * 1024 * 1024 } });
  await bench.cluster.apply(pod('web', { nodeName: 'node-0' }));
  await bench.cluster.advance('30s');
  assert.match((await bench.kubectl('top', 'pod', 'web', '--no-headers')).stdout, /^web +250m +64Mi *\n$/);
  assert.match((await bench.kubectl('top', 'pod', '--containers', '--no-headers')).stdout, /^web +c +250m +64Mi *\n$/);
  assert.match(
    (await bench.kubectl('top', 'node', 'node-0', '--no-headers')).stdout,
    /^node-0 +250m +3% +64Mi +0% *\n$/,
  );
  assert.match(
    (await bench.kubectl('top', 'pod', 'gone')).stderr,
    /podmetrics.* "(default\/)?gone" not found|NotFound/i,
  );
  const summary = JSON.parse(
    (await bench.kubectl('get', '--raw', '/api/v1/nodes/node-0/proxy/stats/summary')).stdout,
  ) as { pods: { podRef: { name: string }; containers: { memory: { workingSetBytes: number } }[] }[] };
  assert.deepEqual(
    summary.pods.map(({ podRef, containers }) => [podRef.name, containers[0]!.memory.workingSetBytes]),
    [['web', 64 * 1024 * 1024]],
  );
});
