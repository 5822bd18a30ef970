/**
 * What every OCI runtime with its monitor must do (`runtime.ts`), as the engine relies on it: a process that is made
 * waits until it is started; it belongs to nobody of ours, so the next process of the platform takes it up; its exit
 * code is on disk; what cannot be made leaves nothing and may be made again. A runtime's test calls `runRuntimeSuite`.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import { makeTestDisk } from '#content/testing.ts';
import { createCgroups } from '#os/cgroups.linux.ts';
import type { Cgroups } from '#os/cgroups.ts';
import { realClock } from '#os/clock.real.ts';
import { readIfExists } from '#os/files.ts';
import type { Child } from '#os/processes.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { makeImage, newInstanceId, removeTestEngine } from '../testing.ts';
import type { CreatedProcess, MonitorOptions, Runtime } from './runtime.ts';

export interface RuntimeBench {
  /** What a process of the platform makes when it starts; run directories are its own. */
  open(options: { cgroups: Cgroups; runDirectory: string }): Runtime;
}

/** A container of the suite: where it is, and how it is made. */
interface Made extends CreatedProcess {
  id: string;
  bundle: string;
  log(): string;
}

class Place {
  readonly home = mkdtempSync('/tmp/tiphys-runtime-');
  readonly instanceId = newInstanceId();
  readonly cgroups = createCgroups(() => undefined);
  readonly #bench: RuntimeBench;
  runtime: Runtime;
  #count = 0;
  readonly #made: Made[] = [];

  constructor(bench: RuntimeBench) {
    this.#bench = bench;
    this.runtime = this.open();
  }

  /** As the next process of the platform finds it. */
  open(): Runtime {
    mkdirSync(`${this.home}/run/runtime`, { recursive: true });
    return this.#bench.open({ cgroups: this.cgroups, runDirectory: `${this.home}/run` });
  }

  newId(): string {
    return `suite-${++this.#count}`;
  }

  cgroup(id: string): string {
    return `${this.cgroups.top}/tiphys_${this.instanceId}/${id}`;
  }

  configuration(id: string, args: string[], terminal = false): Record<string, unknown> {
    const types = ['pid', 'mount', 'ipc', 'uts', 'network'];
    return {
      ociVersion: '1.0.2',
      process: {
        terminal,
        user: { uid: 0, gid: 0 },
        args,
        env: ['PATH=/bin'],
        cwd: '/',
        capabilities: {},
        noNewPrivileges: true,
      },
      root: { path: `${this.home}/image`, readonly: true },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
        { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance'] },
      ],
      linux: { cgroupsPath: this.cgroup(id), namespaces: types.map((type) => ({ type })) },
    };
  }

  async create(args: string[], more: Partial<MonitorOptions> = {}): Promise<Made> {
    const id = more.id ?? this.newId();
    const bundle = more.bundle ?? `${this.home}/run/c/${id}`;
    mkdirSync(bundle, { recursive: true });
    const process = await this.runtime.create(
      {
        id,
        name: id,
        bundle,
        terminal: false,
        stdin: false,
        leaveStdinOpen: false,
        logPath: `${bundle}/log`,
        logBytesMax: 1 << 20,
        ...more,
      },
      this.configuration(id, args, more.terminal === true),
    );
    const made = { ...process, id, bundle, log: () => readIfExists(`${bundle}/log`) ?? '' };
    this.#made.push(made);
    return made;
  }

  async started(command: string, more: Partial<MonitorOptions> = {}): Promise<Made> {
    const made = await this.create(['sh', '-c', command], more);
    await this.runtime.start(made.id);
    return made;
  }

  async exitOf({ bundle, id, monitorPid }: Made, runtime = this.runtime): Promise<number | undefined> {
    await until(() => !isAlive(monitorPid), 'the monitor ends');
    return runtime.exitCode(bundle, id);
  }

  async close(): Promise<void> {
    for (const { pid, monitorPid } of this.#made)
      for (const each of [pid, monitorPid]) if (isAlive(each)) linuxProcesses.kill(each, 'SIGKILL');
    await removeTestEngine(this.home, this.instanceId);
  }
}

const isAlive = (pid: number): boolean => linuxProcesses.startTime(pid) !== undefined;

/** Waits for what must come; the test's own time limit ends a wait for what does not. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 3000, what);
    await realClock.sleep(10);
  }
}

async function resultOf(child: Child): Promise<{ code: number; text: string }> {
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (part: Buffer) => {
      text += part.toString();
    });
  const ended = [child.stdout, child.stderr].map((stream) => new Promise((resolve) => stream?.on('close', resolve)));
  const { code } = await child.exit;
  await Promise.all(ended);
  return { code, text };
}

export function runRuntimeSuite(name: string, bench: RuntimeBench): void {
  describe(name, () => {
    let place: Place;
    before(() => {
      place = new Place(bench);
      makeImage(place.home, ['sh', 'sleep', 'echo', 'true', 'stty', 'cat', 'grep']);
    });
    after(() => place.close());
    describeLife(() => place);
    describeDeath(() => place);
    describeFailures(() => place);
    describeCommands(() => place);
  });
}

function describeLife(at: () => Place): void {
  test('what is made waits; started, it runs to its end, and its code and its log are on disk', async () => {
    const { runtime } = at();
    const made = await at().create(['sh', '-c', 'echo out; echo err >&2; exit 7']);
    assert.ok(isAlive(made.pid) && isAlive(made.monitorPid));
    assert.notEqual(readlinkSync(`/proc/${made.pid}/ns/pid`), readlinkSync('/proc/self/ns/pid'));
    assert.deepEqual([made.log(), runtime.exitCode(made.bundle, made.id)], ['', undefined]);
    await runtime.start(made.id);
    assert.equal(await at().exitOf(made), 7);
    assert.match(made.log(), /stdout F out\n/);
    assert.match(made.log(), /stderr F err\n/);
    assert.ok(!isAlive(made.pid));
  });

  test('there is no code while it runs; a signal is told as 128 and its number', async () => {
    const made = await at().started('echo up; sleep 1000');
    await until(() => made.log().includes('up'), 'it runs');
    assert.equal(at().runtime.exitCode(made.bundle, made.id), undefined);
    linuxProcesses.kill(made.pid, 'SIGKILL');
    assert.equal(await at().exitOf(made), 137);
  });

  test('it is started once', async () => {
    const made = await at().started('sleep 1000');
    await assert.rejects(at().runtime.start(made.id));
    assert.ok(isAlive(made.pid));
    await assert.rejects(at().runtime.start('suite-none'));
  });

  test('many are made at once, each with its own end', async () => {
    const many = await Promise.all(Array.from({ length: 8 }, (_, i) => at().started(`echo ${i}; exit ${i}`)));
    const codes = await Promise.all(many.map((made) => at().exitOf(made)));
    assert.deepEqual(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
    many.forEach((made, i) => assert.ok(made.log().includes(`F ${i}\n`)));
  });

  test('a terminal has the size that it was given last', async () => {
    const made = await at().started('echo up; while ! stty size | grep -q "40 100"; do sleep 0.02; done; exit 4', {
      terminal: true,
    });
    await until(() => made.log().includes('up'), 'it runs');
    at().runtime.resize(made.bundle, { width: 100, height: 40 });
    assert.equal(await at().exitOf(made), 4);
  });

  test('a log that was moved away is begun anew when that is asked for', async () => {
    const made = await at().started('echo first; while [ ! -e /proc/1/root/none ]; do echo more; sleep 0.02; done');
    await until(() => made.log().includes('first'), 'it runs');
    rmSync(`${made.bundle}/log`);
    at().runtime.reopenLog(made.bundle);
    await until(() => made.log().includes('more'), 'the new log is written');
    assert.ok(!made.log().includes('first'));
  });
}

function describeDeath(at: () => Place): void {
  test('the next process of the platform starts what was only made, and learns its end', async () => {
    const made = await at().create(['sh', '-c', 'echo taken up; exit 5']);
    const next = at().open();
    await next.start(made.id);
    assert.equal(await at().exitOf(made, next), 5);
    assert.match(made.log(), /taken up/);
  });

  test('a monitor that is killed leaves no code, and what it held runs on', async () => {
    const made = await at().started('echo up; sleep 1000');
    await until(() => made.log().includes('up'), 'it runs');
    linuxProcesses.kill(made.monitorPid, 'SIGKILL');
    assert.equal(await at().exitOf(made), undefined);
    assert.ok(isAlive(made.pid));
    linuxProcesses.kill(made.pid, 'SIGKILL');
  });

  test('forgetting what has ended makes its id free; forgetting again, or what never was, is nothing', async () => {
    const made = await at().started('exit 0');
    await at().exitOf(made);
    for (const id of [made.id, made.id, 'suite-none']) at().runtime.forget(id);
    rmSync(made.bundle, { recursive: true });
    const again = await at().started('exit 9', { id: made.id });
    assert.equal(await at().exitOf(again), 9);
  });

  test('forgetting what runs stops nothing', async () => {
    const made = await at().started('sleep 0.2; exit 6');
    at().runtime.forget(made.id);
    assert.ok(isAlive(made.pid));
    assert.equal(await at().exitOf(made), 6);
  });
}

function describeFailures(at: () => Place): void {
  test('what cannot be run says why as docker does, leaves no process, and may be made again', async () => {
    const id = at().newId();
    const wrong: [string[], RegExp][] = [
      [['/bin/none'], /none/],
      [['none'], /executable file not found in \$PATH/],
      [['/etc'], /permission denied/i],
    ];
    for (const [args, message] of wrong) {
      await assert.rejects(at().create(args, { id }), (error: unknown) => {
        assert.ok(error instanceof ApiError);
        assert.deepEqual([error.code, message.test(error.message)], [400, true], error.message);
        return true;
      });
      at().runtime.forget(id);
      assert.deepEqual(at().cgroups.pids(at().cgroup(id)), []);
    }
    assert.equal(await at().exitOf(await at().started('exit 3', { id })), 3);
  });

  test('an id that is taken is refused, and who has it runs on', async () => {
    const made = await at().started('echo up; sleep 1000');
    await until(() => made.log().includes('up'), 'it runs');
    await assert.rejects(at().create(['true'], { id: made.id, bundle: `${made.bundle}-second` }), /exists|already/);
    assert.ok(isAlive(made.pid) && isAlive(made.monitorPid));
  });

  test('a full disk is told as such, and nothing runs', async (t) => {
    const bundle = await makeTestDisk(t, 256 << 10);
    assert.throws(() => writeFileSync(`${bundle}/fill`, Buffer.alloc(1 << 20)), { code: 'ENOSPC' });
    const id = at().newId();
    await assert.rejects(at().create(['true'], { id, bundle, logPath: undefined }), { code: 'ENOSPC' });
    assert.deepEqual(at().cgroups.pids(at().cgroup(id)), []);
    rmSync(`${bundle}/fill`);
    const made = await at().started('exit 2', { id, bundle, logPath: undefined });
    assert.equal(await at().exitOf(made), 2);
  });
}

function describeCommands(at: () => Place): void {
  const processFile = (args: string[]): string => {
    const path = `${at().home}/${args.length}-${args[0]!.replaceAll('/', '')}.json`;
    const process = { user: { uid: 0, gid: 0 }, args, env: ['PATH=/bin'], cwd: '/', capabilities: {} };
    writeFileSync(path, JSON.stringify({ ...process, terminal: false, noNewPrivileges: true }));
    return path;
  };
  const exec = (id: string, args: string[], more: { oomScoreAdj?: number } = {}): Child =>
    at().runtime.exec(id, processFile(args), { stdin: false, pidFile: `${at().home}/pid`, ...more });

  test('a command runs inside, with its own output, code and score', async () => {
    const made = await at().started('echo up; sleep 1000');
    await until(() => made.log().includes('up'), 'it runs');
    const inside = await resultOf(
      exec(made.id, ['sh', '-c', 'cat /proc/self/oom_score_adj; exit 9'], { oomScoreAdj: 7 }),
    );
    assert.deepEqual(inside, { code: 9, text: '7\n' });
    assert.doesNotMatch(made.log(), / F 7/);
    assert.notEqual((await resultOf(exec(made.id, ['none']))).code, 0);
  });

  test('no command runs in what has ended', async () => {
    const made = await at().started('exit 0');
    await at().exitOf(made);
    assert.notEqual((await resultOf(exec(made.id, ['true']))).code, 0);
  });

  test('without a monitor it runs by itself; where it cannot, the reason is told', async () => {
    const detach = async (args: string[]): Promise<number> => {
      const id = at().newId();
      const bundle = `${at().home}/run/c/${id}`;
      mkdirSync(bundle, { recursive: true });
      writeFileSync(`${bundle}/config.json`, JSON.stringify(at().configuration(id, args)));
      await at().runtime.runDetached(id, bundle, `${bundle}/pid`);
      return Number(readFileSync(`${bundle}/pid`, 'utf8'));
    };
    const pid = await detach(['sleep', '1000']);
    assert.ok(isAlive(pid));
    linuxProcesses.kill(pid, 'SIGKILL');
    await assert.rejects(detach(['none']), /not found/);
  });
}
