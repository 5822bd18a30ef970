import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import type { DockerEngine } from './create-engine.ts';
import type { ContainerSpec, Mount } from './engine.ts';
import { runEngineSuite } from './engine.suite.ts';
import { stopAllContainers } from './shutdown.ts';
import { execText, makeImage, newInstanceId, openTestEngine, removeTestEngine, specOf } from './testing.ts';

const instanceId = newInstanceId();
const isRoot = process.getuid?.() === 0;

describe('the engine on a real kernel', { skip: !isRoot && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-engine-');
  let engine: DockerEngine;

  const open = (): Promise<DockerEngine> => openTestEngine(home, instanceId, '10.253.77.0/24');
  const logsOf = async (id: string, stream: 'stdout' | 'stderr' = 'stdout'): Promise<string> => {
    let out = '';
    for await (const line of engine.containers.logs(id, {
      stdout: stream === 'stdout',
      stderr: stream === 'stderr',
      follow: true,
    }))
      out += Buffer.from(line.data).toString();
    return out;
  };
  const run = async (
    name: string,
    command: string[],
    more: Partial<ContainerSpec> = {},
  ): Promise<{ id: string; code: number }> => {
    const id = await engine.containers.create(specOf(name, command, more));
    await engine.containers.start(id);
    return { id, code: await engine.containers.wait(id) };
  };
  const execIn = (id: string, command: string[]): Promise<{ code: number; text: string }> =>
    execText(engine, id, command);

  before(async () => {
    makeImage(home, ['sh', 'sleep', 'cat', 'echo', 'true', 'hostname', 'nc', 'ip', 'ping', 'id', 'mount']);
    engine = await open();
  });

  after(async () => {
    await engine[Symbol.asyncDispose]();
    await removeTestEngine(home, instanceId);
  });

  const behaviours = {
    ends: 'echo hello; exit 3',
    serves: `trap 'exit 0' TERM; echo ready; sleep 600 & wait`,
    deaf: `trap '' TERM; echo ready; while :; do sleep 1; done`,
  };
  runEngineSuite({
    engine: () => engine,
    claims: ['docker run', 'Pod', 'build step'],
    command: ['sh', '-c', 'echo inside; exit 9'],
    podLabels: (id) => ({ pod: id }),
    sandbox: (id) => ({
      id,
      name: id,
      hostname: id,
      labels: { pod: id },
      network: 'pod',
      cgroupParent: `/tiphys_${instanceId}/pod${id}`,
    }),
    spec: (behaviour, { owner, name, pod }) =>
      specOf(name, ['sh', '-c', behaviours[behaviour]], {
        owner,
        name: pod === undefined ? name : `${pod}-${name}`,
        network: pod === undefined ? { type: 'none' } : { type: 'sandbox', sandboxId: pod },
        ...(pod === undefined
          ? {}
          : {
              labels: { pod },
              cgroupParent: `/tiphys_${instanceId}/pod${pod}`,
              logPath: `${home}/${pod}-${name}.log`,
            }),
      }),
    pass: (work) => work,
  });

  test("a container's output and exit code are exact, also when it ends at once", async () => {
    const { id, code } = await run('exact', ['sh', '-c', 'echo out; echo err >&2; exit 7']);
    assert.equal(code, 7);
    assert.equal(await logsOf(id), 'out\n');
    assert.equal(await logsOf(id, 'stderr'), 'err\n');
  });

  test('a restart ends what follows the log, and no line of the run before it is later than its end', async () => {
    // The first run ends when it is told to, the second by itself.
    const told = `trap 'echo last; : > /told; exit 1' USR1`;
    const script = `[ -e /told ] && exit 0; ${told}; echo first; while :; do sleep 0.05; done`;
    const id = await engine.containers.create(
      specOf('restarts', ['sh', '-c', script], { restartPolicy: { name: 'on-failure', maximumRetryCount: 1 } }),
    );
    await engine.containers.start(id);
    const over = engine.containers.wait(id);
    const die = new Promise<bigint>((resolve) => {
      const stop = engine.events.listen((event) => {
        if (event.id !== id || event.action !== 'die') return;
        stop();
        resolve(event.timeNs);
      });
    });
    let followed = '';
    for await (const line of engine.containers.logs(id, { stdout: true, stderr: false, follow: true })) {
      followed += Buffer.from(line.data).toString();
      if (followed === 'first\n') await engine.containers.kill(id, 'SIGUSR1');
    }
    assert.equal(followed, 'first\nlast\n');
    const sinceNs = await die;
    assert.equal(await over, 0);
    const later: string[] = [];
    for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: false, sinceNs }))
      later.push(Buffer.from(line.data).toString());
    assert.deepEqual(later, []);
  });

  test('who attaches before the start misses no byte', async () => {
    const id = await engine.containers.create(
      specOf('attached', ['sh', '-c', 'echo first; cat'], { openStdin: true, stdinOnce: true }),
    );
    const stdin = new PassThrough();
    const stdout = new PassThrough();
    let text = '';
    stdout.on('data', (part: Buffer) => {
      text += part.toString();
    });
    const attached = engine.containers.attach(id, { stdin, stdout });
    await engine.containers.start(id);
    stdin.end('second\n');
    await attached;
    assert.equal(text, 'first\nsecond\n');
  });

  test("a program that is missing fails the start with docker's words and leaves the container", async () => {
    const id = await engine.containers.create(specOf('missing', ['nosuch']));
    await assert.rejects(engine.containers.start(id), /executable file not found in \$PATH/);
    assert.equal(engine.containers.status(id)?.state, 'created');
    assert.equal(engine.containers.status(id)?.exitCode, 127);
  });

  test('a command run in a container has its own exit code, and sees the container', async () => {
    const id = await engine.containers.create(specOf('execs', ['sleep', '60'], { hostname: 'inner' }));
    await engine.containers.start(id);
    assert.deepEqual(await execIn(id, ['sh', '-c', 'hostname; exit 9']), { code: 9, text: 'inner\n' });
    await assert.rejects(execIn(id, ['nosuch']), /executable file not found/);
    await engine.containers.remove(id, { force: true });
  });

  test('the default profile refuses a mount, a privileged container may', async () => {
    assert.notEqual((await run('refused', ['mount', '-t', 'tmpfs', 'x', '/tmp'])).code, 0);
    assert.equal(
      (await run('allowed', ['mount', '-t', 'tmpfs', 'x', '/tmp'], { security: { privileged: true } })).code,
      0,
    );
  });

  test('a published port answers on loopback, and is free again afterwards', async () => {
    const id = await engine.containers.create(
      specOf('served', ['sh', '-c', 'while true; do echo hello | nc -l -p 80; done'], {
        ports: [{ hostIp: '', hostPort: 0, protocol: 'tcp', containerPort: 80 }],
      }),
    );
    await engine.containers.start(id);
    const port = engine.table.get(id).record.run!.ports[0]!.hostPort;
    let answer = '';
    for (let tries = 0; tries < 100 && answer === ''; tries++) {
      answer = await new Promise<string>((resolve) => {
        let text = '';
        connect(port, '127.0.0.1')
          .on('data', (part) => {
            text += part.toString();
          })
          .on('close', () => resolve(text))
          .on('error', () => resolve(''));
      });
      if (answer === '') await realClock.sleep(20);
    }
    assert.equal(answer, 'hello\n');
    await engine.containers.remove(id, { force: true });
    await run('served-again', ['true'], {
      ports: [{ hostIp: '', hostPort: port, protocol: 'tcp', containerPort: 80 }],
    });
  });

  test('containers of a Pod share an address and a host name, and reach the node', async () => {
    await engine.sandboxes.create({
      id: 'pod1',
      name: 'pod1',
      hostname: 'podname',
      labels: {},
      network: 'pod',
      cgroupParent: `/tiphys_${instanceId}/pods/pod1`,
      shareProcessNamespace: true,
    });
    const make = (name: string): Promise<string> =>
      engine.containers.create({
        ...specOf(name, ['sleep', '60']),
        owner: 'kubelet',
        network: { type: 'sandbox', sandboxId: 'pod1' },
        cgroupParent: `/tiphys_${instanceId}/pods/pod1`,
      });
    const [one, two] = [await make('c1'), await make('c2')];
    await Promise.all([engine.containers.start(one), engine.containers.start(two)]);
    const address = (await execIn(one, ['ip', '-4', 'addr', 'show', 'eth0'])).text;
    assert.ok(address.includes(`${engine.sandboxes.status('pod1')!.podIp}/32`));
    assert.equal((await execIn(two, ['hostname'])).text, 'podname\n');
    assert.equal((await execIn(two, ['ping', '-c1', '-W2', '10.253.77.1'])).code, 0);
    assert.match((await execIn(two, ['sh', '-c', 'cat /proc/[0-9]*/cmdline'])).text, /sleep.*sleep/s);
    for (const id of [one, two]) await engine.containers.remove(id, { force: true });
    await engine.sandboxes.remove('pod1');
    assert.ok(!existsSync(`${home}/run/sandboxes/pod1`));
  });

  test('an image is mounted read-only, whole or in part, over restarts, and nothing of it stays', async () => {
    const script = '/m/busybox cat /all/bin/busybox > /dev/null && ! (: > /m/x) 2> /dev/null && exit 5';
    const id = await engine.containers.create(
      specOf('of-images', ['sh', '-c', script], {
        mounts: [
          { type: 'image', source: 'busybox', target: '/all', readOnly: true },
          { type: 'image', source: 'busybox', target: '/m', readOnly: true, subPath: 'bin' },
        ],
      }),
    );
    const roots = (): string[] => readdirSync(`${home}/content/containers`).filter((name) => name.startsWith(`${id}.`));
    for (let times = 0; times < 2; times++) {
      await engine.containers.start(id);
      assert.equal(await engine.containers.wait(id), 5);
    }
    assert.equal(roots().length, 2);
    await engine[Symbol.asyncDispose]();
    engine = await open();
    assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(`${id}.mount`), false);
    await engine.containers.remove(id);
    assert.deepEqual(roots(), []);
    const missing = [{ type: 'image' as const, source: 'busybox', target: '/m', readOnly: true, subPath: 'none' }];
    await assert.rejects(run('of-nothing', ['true'], { mounts: missing }), /no such file or directory/);
    await engine.containers.remove('of-nothing');
  });

  test('a start that fails while an image is still being mounted leaves no mount', async (context) => {
    const mounts: Mount[] = [{ type: 'image', source: 'busybox', target: '/m', readOnly: true }];
    const id = await engine.containers.create(specOf('half', ['true'], { mounts }));
    const { snapshots } = engine.context;
    const mountRoot = snapshots.mountContainerRoot.bind(snapshots);
    const late = context.mock.method(snapshots, 'mountContainerRoot', async (rootId: string, imageId: string) => {
      if (rootId === id) throw new Error('no root');
      await realClock.sleep(100);
      return mountRoot(rootId, imageId);
    });
    await assert.rejects(engine.containers.start(id), /no root/);
    // Not a bound: whatever was begun has had its time.
    await realClock.sleep(200);
    late.mock.restore();
    assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(`${id}.mount`), false);
    await engine.containers.remove(id);
  });

  test('a part of a volume that a link leads out of is refused', async () => {
    engine.volumes.create({ name: 'parts' });
    const place = engine.volumes.mountpoint('parts');
    mkdirSync(`${place}/in`);
    symlinkSync('in', `${place}/inside`);
    symlinkSync('/', `${place}/outside`);
    const part = (subPath: string): { mounts: Mount[] } => ({
      mounts: [{ type: 'volume', source: 'parts', target: '/m', readOnly: false, subPath }],
    });
    assert.equal((await run('inside', ['true'], part('inside'))).code, 0);
    await assert.rejects(run('outside', ['true'], part('outside')), /path concatenation escapes the base directory/);
    for (const name of ['inside', 'outside']) await engine.containers.remove(name);
    await engine.volumes.remove('parts');
  });

  test('containers outlive the engine: one goes on without a gap in its log, one that ended has its exact code, and restarts act', async () => {
    const counter = await engine.containers.create(
      specOf('counter', ['sh', '-c', 'i=0; while [ ! -e /end ]; do echo $i; i=$((i+1)); sleep 0.02; done']),
    );
    const ends = await engine.containers.create(specOf('ends', ['sh', '-c', 'sleep 0.3; exit 42']));
    const again = await engine.containers.create(
      specOf('again', ['sh', '-c', 'sleep 0.3; exit 3'], {
        restartPolicy: { name: 'on-failure', maximumRetryCount: 1 },
      }),
    );
    for (const id of [counter, ends, again]) await engine.containers.start(id);
    const [pid, ...ending] = [counter, ends, again].map((id) => engine.containers.status(id)?.pid);
    await engine[Symbol.asyncDispose]();
    while (ending.some((each) => existsSync(`/proc/${each}`))) await realClock.sleep(20);
    engine = await open();
    assert.equal(engine.containers.status(counter)?.pid, pid);
    assert.equal(await engine.containers.wait(ends), 42);
    assert.equal((await execIn(counter, ['sh', '-c', ': > /end'])).code, 0);
    assert.equal(await engine.containers.wait(counter), 0);
    const lines = (await logsOf(counter)).trimEnd().split('\n');
    assert.ok(lines.length > 10, `${lines.length} lines`);
    assert.deepEqual(
      lines,
      lines.map((_, i) => `${i}`),
    );
    assert.equal(await engine.containers.wait(again), 3);
    assert.equal(engine.containers.status(again)?.restartCount, 1);
  });

  test('a log that is rotated while it is written loses no line', async () => {
    const id = await engine.containers.create(
      specOf('rotated', ['sh', '-c', 'i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.01; done'], {
        logMaxBytes: 100,
        logMaxFiles: 100,
      }),
    );
    await engine.containers.start(id);
    await engine.containers.wait(id);
    await engine.table.get(id).lock.run(async () => undefined);
    const files = readdirSync(`${home}/data/containers/${id}`).filter((name) => name.startsWith('container.log'));
    assert.ok(files.length > 10, `${files.length} files`);
    assert.equal(await logsOf(id), Array.from({ length: 60 }, (_, i) => `${i}\n`).join(''));
  });

  test('the log of a writer that is faster than any look stays within its bound, and keeps the last lines', async () => {
    const { id, code } = await run('fast', ['busybox', 'seq', '1', '200000'], {
      logMaxBytes: 100 * 1024,
      logMaxFiles: 2,
    });
    assert.equal(code, 0);
    await engine.table.get(id).lock.run(async () => undefined);
    const directory = `${home}/data/containers/${id}`;
    const bytes = readdirSync(directory)
      .filter((name) => name.startsWith('container.log'))
      .reduce((sum, name) => sum + statSync(`${directory}/${name}`).size, 0);
    assert.ok(bytes <= 200 * 1024 && bytes > 99 * 1024, `${bytes} bytes`);
    const [first = '', ...lines] = (await logsOf(id)).trim().split('\n');
    assert.deepEqual(
      lines.map(Number),
      Array.from({ length: lines.length }, (_, index) => 200_001 - lines.length + index),
    );
    // The monitor writes what it reads: a line may come in pieces, and a file begins with a piece.
    assert.ok(first !== '' && String(200_000 - lines.length).endsWith(first), first);
  });

  test("events tell of a volume's mounts, of commands that the engine runs, and of labels", async () => {
    engine.volumes.create({ name: 'told' });
    const told: string[] = [];
    const about: Record<string, string>[] = [];
    const stop = engine.events.listen(({ type, action, id, attributes }) => {
      if (type === 'volume' && id === 'told') about.push({ action, ...attributes });
      else if (type === 'container' && attributes['name'] === 'tells' && attributes['kind'] === 'x') told.push(action);
    });
    const id = await engine.containers.create(
      specOf('tells', ['sh', '-c', 'while [ ! -e /v/over ]; do sleep 0.05; done'], {
        labels: { kind: 'x' },
        mounts: [{ type: 'volume', source: 'told', target: '/v', readOnly: false }],
      }),
    );
    await engine.containers.start(id);
    const over = engine.containers.wait(id);
    assert.equal((await execIn(id, ['sh', '-c', ': > /v/over'])).code, 0);
    await over;
    await engine.containers.remove(id);
    stop();
    await engine.volumes.remove('told');
    const shared = { driver: 'local', container: id };
    assert.deepEqual(about, [
      { action: 'mount', ...shared, destination: '/v', 'read/write': 'true', propagation: '' },
      { action: 'unmount', ...shared },
    ]);
    for (const action of [
      'create',
      'exec_create: sh -c : > /v/over',
      'exec_start: sh -c : > /v/over',
      'die',
      'destroy',
    ])
      assert.equal(told.filter((one) => one === action).length, 1, `${action}: ${told.join()}`);
  });

  test('a directory that a volume only shows outlives the volume', async () => {
    mkdirSync(`${home}/kept`);
    writeFileSync(`${home}/kept/file`, 'x');
    engine.volumes.create({ name: 'shown', options: { type: 'none', o: 'bind', device: `${home}/kept` } });
    const { id, code } = await run('shows', ['cat', '/v/file'], {
      mounts: [{ type: 'volume', source: 'shown', target: '/v', readOnly: false }],
    });
    assert.equal(code, 0);
    await engine.containers.remove(id);
    await engine.volumes.remove('shown');
    assert.ok(existsSync(`${home}/kept/file`));
  });

  test('the end of the platform stops containers in order; restart policies hold for the next engine', async () => {
    const orderly = ['sh', '-c', 'trap "echo ended in order; exit 0" TERM; echo up; while :; do sleep 0.05; done'];
    const start = async (name: string, command: string[], more: Partial<ContainerSpec> = {}): Promise<string> => {
      const id = await engine.containers.create(specOf(name, command, more));
      await engine.containers.start(id);
      return id;
    };
    const kept = await start('kept', orderly, { restartPolicy: { name: 'unless-stopped' } });
    const plain = await start('plain', orderly);
    const stopped = await start('stopped', ['sleep', '1000'], { restartPolicy: { name: 'unless-stopped' } });
    await engine.containers.stop(stopped, 0);
    // The first process of a container that has no handler does not hear SIGTERM: nobody waits ten seconds for it.
    const deaf = await start('deaf', ['sleep', '1000']);
    for (const id of [kept, plain])
      for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: true }))
        if (Buffer.from(line.data).toString() === 'up\n') break;
    await stopAllContainers(engine.containers, 60_000);
    assert.deepEqual(
      [kept, plain, stopped, deaf].map((id) => engine.containers.status(id)!.exitCode),
      [0, 0, 137, 137],
    );
    await assert.rejects(engine.containers.start(plain), /shutting down/);
    await engine[Symbol.asyncDispose]();
    engine = await open();
    const running = (): string[] =>
      [kept, plain, stopped, deaf].filter((id) => engine.containers.status(id)!.state === 'running');
    while (running().length === 0) await realClock.sleep(20);
    assert.deepEqual(running(), [kept]);
    assert.match(await logsUntilEnded(), /ended in order/);
    for (const id of [kept, plain, stopped, deaf]) await engine.containers.remove(id, { force: true });

    async function logsUntilEnded(): Promise<string> {
      let text = '';
      for await (const line of engine.containers.logs(plain, { stdout: true, stderr: true, follow: false }))
        text += Buffer.from(line.data).toString();
      return text;
    }
  });

  test("who joins another's IPC shares its memory, where that is offered", async () => {
    const donor = await engine.containers.create(
      specOf('donor', ['sh', '-c', 'echo shared > /dev/shm/x; sleep 60'], { ipcMode: { type: 'shareable' } }),
    );
    await engine.containers.start(donor);
    const joined = await run('joins', ['sh', '-c', 'while [ ! -s /dev/shm/x ]; do sleep 0.02; done; cat /dev/shm/x'], {
      ipcMode: { type: 'container', containerId: donor },
    });
    assert.equal(await logsOf(joined.id), 'shared\n');
    await assert.rejects(
      run('refused-ipc', ['true'], { ipcMode: { type: 'container', containerId: joined.id } }),
      /non-shareable IPC/,
    );
    await engine.containers.remove(donor, { force: true });
    assert.deepEqual(readdirSync(`${home}/run/shm`), []);
  });

  test('a monitor that is killed is noticed, and the exit is reported as unknown', async () => {
    const id = await engine.containers.create(specOf('orphan', ['sleep', '60']));
    await engine.containers.start(id);
    const run = engine.table.get(id).record.run!;
    process.kill(run.monitorPid, 'SIGKILL');
    await realClock.sleep(100);
    assert.equal(engine.containers.status(id)?.state, 'running');
    process.kill(run.pid, 'SIGKILL');
    assert.equal(await engine.containers.wait(id), 255);
    assert.match(engine.containers.status(id)!.error, /monitor of the container died/);
  });

  test('memory beyond the limit is told as such', async () => {
    const { id, code } = await run('greedy', ['sh', '-c', 'cat /dev/zero > /dev/shm/x'], {
      resources: { memoryLimitBytes: 16 * 1024 * 1024 },
      shmSizeBytes: 1024 ** 3,
    });
    assert.notEqual(code, 0);
    assert.equal(engine.containers.status(id)?.oomKilled, true);
  });
});
