import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cgroupRoot, linkMark, linkPrefix, tableName } from '#net/kernel-names.ts';
import { realClock } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { testSeed } from '#os/test-seed.ts';
import type { DockerEngine } from './create-engine.ts';
import type { NetworkStep, Step } from './kill.engine.ts';
import { makeImage, newInstanceId, openTestEngine, removeTestEngine } from './testing.ts';

const rounds = Number(process.env['TIPHYS_KILL_ROUNDS'] ?? 5);
const program = fileURLToPath(new URL('./kill.engine.ts', import.meta.url));
const seed = testSeed();
const random = new SimRandom(seed);
const instanceId = newInstanceId();

/** What was told last about each container, and whether it was ever started for certain. */
interface Known extends Step {
  surelyStarted: boolean;
}

describe('an engine that is killed at any moment', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  const home = mkdtempSync('/tmp/tiphys-kill-');
  const known = new Map<string, Known>();
  const networks = new Map<string, NetworkStep['step']>();

  before(() => makeImage(home));
  after(() => removeTestEngine(home, instanceId));

  /** Lets the program work for a while and kills it; takes note of what it told. */
  async function churn(workMs: number, roundSeed: number): Promise<void> {
    const child = linuxProcesses.spawn(
      process.execPath,
      [
        ...process.execArgv.filter((argument) => !argument.startsWith('--test')),
        program,
        home,
        instanceId,
        String(roundSeed),
      ],
      { stdout: 'pipe', stderr: 'pipe', env: { PATH: process.env['PATH'] ?? '' } },
    );
    let errors = '';
    child.stderr!.on('data', (part: Buffer) => {
      errors += part.toString();
    });
    let isReady = false;
    const reading = (async () => {
      for await (const line of createInterface({ input: child.stdout! })) {
        if (line === '{}') {
          isReady = true;
          void realClock.sleep(workMs).then(() => linuxProcesses.kill(child.pid, 'SIGKILL'));
          continue;
        }
        const step = JSON.parse(line) as Step | NetworkStep;
        if ('network' in step) {
          networks.set(step.network, step.step);
          continue;
        }
        known.set(step.id, {
          ...step,
          surelyStarted: step.step === 'started' || known.get(step.id)?.surelyStarted === true,
        });
      }
    })();
    await child.exit;
    await reading;
    assert.ok(isReady, `the engine did not start: ${errors}`);
    assert.ok(!/Error/.test(errors), errors);
  }

  async function linesOf(engine: DockerEngine, id: string): Promise<string> {
    let text = '';
    for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: false }))
      text += Buffer.from(line.data).toString();
    return text;
  }

  /**
   * The status of a container. One may end while we look: what is called running without a process must soon be told as
   * ended.
   */
  async function statusOf(engine: DockerEngine, id: string): Promise<ReturnType<DockerEngine['containers']['status']>> {
    for (let tries = 0; ; tries++) {
      const status = engine.containers.status(id);
      if (status?.state !== 'running' || linuxProcesses.startTime(status.pid) !== undefined) return status;
      assert.ok(tries < 100, `${id.slice(0, 12)} is called running and has no process`);
      await realClock.sleep(50);
    }
  }

  async function checkContainer(engine: DockerEngine, step: Known): Promise<void> {
    const status = await statusOf(engine, step.id);
    const where = `${step.id.slice(0, 12)} after "${step.step}"`;
    if (step.step === 'removed') {
      assert.equal(status, undefined, where);
      return;
    }
    if (status === undefined) {
      assert.ok(step.step === 'creating' || step.step === 'removing', `${where}: lost`);
      known.delete(step.id);
      return;
    }
    const isRemoving = step.step === 'removing';
    if (step.surelyStarted && !isRemoving) assert.notEqual(status.state, 'created', where);
    if (status.state === 'exited' && !isRemoving) assert.equal(status.exitCode, step.code, `${where}: ${status.error}`);
    const text = await linesOf(engine, step.id);
    const count = text === '' ? 0 : text.trimEnd().split('\n').length;
    assert.equal(text, Array.from({ length: count }, (_, i) => `${i}\n`).join(''), where);
    if (status.state === 'exited' && !isRemoving) assert.equal(count, step.lines, `${where}: lines`);
  }

  /** Containers go on ending while we look, so what looks wrong is looked at again. */
  async function checkNothingHalf(engine: DockerEngine): Promise<void> {
    for (let tries = 0; ; tries++) {
      for (const container of engine.table.list()) await container.lock.run(async () => undefined);
      try {
        await checkOnce(engine);
        return;
      } catch (error) {
        if (tries === 20) throw error;
      }
      await realClock.sleep(50);
    }
  }

  async function checkOnce(engine: DockerEngine): Promise<void> {
    const running = new Set(
      engine.table
        .list()
        .filter((container) => container.isRunning)
        .map((container) => container.id),
    );
    const strays = (names: string[]): string[] => names.filter((name) => !running.has(name));
    const list = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
    for (const kind of ['c', 'netns', 'shm', 'runtime'])
      assert.deepEqual(strays(list(`${home}/run/${kind}`)), [], kind);
    assert.deepEqual(
      list(`${home}/data`).filter((name) => name.startsWith('removed-')),
      [],
    );
    const records = new Set(engine.table.list().map((container) => container.id));
    assert.deepEqual(
      list(`${home}/content/containers`).filter((id) => !records.has(id)),
      [],
      'roots',
    );
    const mounted = [
      ...readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/\/content\/containers\/([0-9a-f]{64})\/root/g),
    ]
      .map((match) => match[1]!)
      .filter((id) => existsSync(`${home}/content/containers/${id}`));
    assert.deepEqual(strays(mounted), [], 'mounts');
    assert.deepEqual(
      strays(engine.context.os.cgroups.list(`${cgroupRoot(instanceId, engine.context.os.cgroups.top)}/docker`)),
      [],
      'cgroups',
    );
    const wanted = engine.table
      .list()
      .flatMap((container) => container.record.run?.endpoints ?? [])
      .flatMap((endpoint) => (endpoint.hostLink === '' ? [] : [endpoint.hostLink]))
      .sort();
    const links = (await engine.netlink.listLinks())
      .map((link) => link.name)
      .filter((name) => name.startsWith(`${linkPrefix(instanceId)}v`))
      .sort();
    assert.deepEqual(links, wanted, 'links');
    assert.deepEqual(
      engine.table
        .list()
        .map((container) => container.id)
        .filter((id) => !known.has(id)),
      [],
      'containers that nobody asked for',
    );
  }

  /** Networks as they were told of, each whole; a container is on those that its record says. */
  async function checkNetworks(engine: DockerEngine): Promise<void> {
    const own = engine.networks.list().filter(({ name }) => !['bridge', 'host', 'none'].includes(name));
    for (const { name } of own) assert.notEqual(networks.get(name) ?? 'removed', 'removed', name);
    for (const [name, step] of networks)
      if (step === 'created') assert.ok(engine.networks.findExact(name), `${name} is lost`);
    const links = (await engine.netlink.listLinks()).filter(
      ({ name, alias }) => name.startsWith(`${linkPrefix(instanceId)}b`) || alias === linkMark(instanceId),
    );
    const wanted = engine.networks.list().flatMap(({ link, parent }) => link ?? parent?.link ?? []);
    assert.deepEqual(links.map(({ name }) => name).sort(), wanted.sort(), 'bridges');
    for (const family of ['ip', 'ip6']) {
      const set = (await linuxProcesses.run('nft', ['list', 'set', family, tableName(instanceId), 'bridges'])).stdout;
      const named = engine.networks.list().flatMap(({ link }) => link ?? []);
      assert.deepEqual(
        [...set.matchAll(/"([^"]+)"/g)].map((match) => match[1] ?? '').sort(),
        named.sort(),
        `${family} rules`,
      );
    }
    for (const { record, isRunning } of engine.table.list()) {
      if (!isRunning || record.run === undefined) continue;
      const attached = record.networks.map(({ networkId }) => networkId).sort();
      assert.deepEqual(record.run.endpoints.map(({ networkId }) => networkId).sort(), attached, record.id.slice(0, 12));
    }
  }

  test(`finds running containers running, exact exit codes, whole logs and nothing half made (${rounds} rounds)`, async (t) => {
    const steps: Record<string, number> = {};
    for (let round = 0; round < rounds; round++) {
      await churn(Math.floor(random.float() * 400), seed + round);
      const engine = await openTestEngine(home, instanceId);
      try {
        for (const step of known.values()) steps[step.step] = (steps[step.step] ?? 0) + 1;
        for (const step of [...known.values()]) await checkContainer(engine, step);
        await checkNothingHalf(engine);
        await checkNetworks(engine);
        if (round % 4 !== 3 && round !== rounds - 1) continue;
        // All come to their own end, and go.
        for (const container of engine.table.list()) {
          await engine.containers.wait(container.id);
          await checkContainer(engine, known.get(container.id)!);
          await engine.containers.remove(container.id, { force: true });
        }
        known.clear();
        for (const { name } of engine.networks.list())
          if (networks.has(name)) {
            await engine.networks.remove(name);
            networks.set(name, 'removed');
          }
        await checkNothingHalf(engine);
        await checkNetworks(engine);
      } finally {
        await engine[Symbol.asyncDispose]();
      }
    }
    t.diagnostic(`${JSON.stringify(steps)}, ${networks.size} networks`);
  });
});
