/**
 * What every engine must do (`engine.ts`), as three worked scenarios: a `docker run`, a Pod, a build step. An engine's
 * test calls `runEngineSuite` with a bench that makes containers of a few known behaviours, and says which scenarios it
 * claims: the simulated engine knows Pods alone.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PassThrough } from 'node:stream';
import type { Containers, ContainerSpec, Engine, EngineEvent, Images, Sandboxes, SandboxSpec } from './engine.ts';

/**
 * `ends`: prints `hello` and exits with 3 by itself. `serves`: prints `ready`, and exits with 0 when it is told to
 * stop. `deaf`: prints `ready` and does not hear the signal.
 */
export type Behaviour = 'ends' | 'serves' | 'deaf';
export type Scenario = 'docker run' | 'Pod' | 'build step';

export interface EngineUnderTest {
  containers: Pick<
    Containers,
    'create' | 'start' | 'stop' | 'kill' | 'remove' | 'status' | 'list' | 'wait' | 'exec' | 'logs'
  >;
  sandboxes: Pick<Sandboxes, 'create' | 'remove' | 'list' | 'status'>;
  images: Pick<Images, 'list'>;
  onEvent: Engine['onEvent'];
}

export interface EngineBench {
  engine(): EngineUnderTest;
  claims: readonly Scenario[];
  /** A container of this behaviour, ready to be made; `pod`: id of its sandbox, where it has one. */
  spec(behaviour: Behaviour, where: { owner: ContainerSpec['owner']; name: string; pod?: string }): ContainerSpec;
  sandbox(id: string): SandboxSpec;
  /** Labels by which the containers of a Pod are found. */
  podLabels(id: string): Record<string, string>;
  /** What a command that prints `inside` and exits with 9 is. */
  command: string[];
  /** Lets time pass until it is done. */
  pass<T>(work: Promise<T>): Promise<T>;
}

export function runEngineSuite(bench: EngineBench): void {
  const scenario = (name: Scenario, title: string, run: (engine: EngineUnderTest) => Promise<void>): void => {
    if (bench.claims.includes(name)) test(`${name}: ${title}`, () => run(bench.engine()));
  };

  async function logsOf(engine: EngineUnderTest, id: string): Promise<string> {
    let text = '';
    for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: false }))
      text += Buffer.from(line.data).toString('utf8');
    return text;
  }

  /** Events of one container, until the answer's `stop`. */
  function eventsOf(engine: EngineUnderTest): { all: EngineEvent[]; of(id: string): string[]; stop(): void } {
    const all: EngineEvent[] = [];
    const stop = engine.onEvent((event) => {
      if (event.type === 'container') all.push(event);
    });
    return { all, stop, of: (id) => all.filter((event) => event.id === id).map(({ action }) => action) };
  }

  async function startOf(engine: EngineUnderTest, spec: ContainerSpec): Promise<string> {
    const id = await bench.pass(engine.containers.create(spec));
    await bench.pass(engine.containers.start(id));
    return id;
  }

  scenario('docker run', 'made, started, followed to its end, shown and removed', async (engine) => {
    const events = eventsOf(engine);
    const id = await engine.containers.create(bench.spec('ends', { owner: 'docker', name: 'suite-run' }));
    const made = engine.containers.status(id)!;
    assert.deepEqual([made.state, made.owner, made.startedAtMs, made.finishedAtMs], ['created', 'docker', 0, 0]);
    assert.ok(engine.containers.list({ owner: 'docker' }).some((each) => each.id === id));
    assert.ok(!engine.containers.list({ owner: 'kubelet' }).some((each) => each.id === id), 'each owner has its own');
    await engine.containers.start(id);
    assert.equal(await bench.pass(engine.containers.wait(id)), 3);
    const ended = engine.containers.status(id)!;
    assert.deepEqual([ended.state, ended.exitCode, ended.oomKilled, ended.error], ['exited', 3, false, '']);
    assert.ok(ended.createdAtMs <= ended.startedAtMs && ended.startedAtMs <= ended.finishedAtMs);
    assert.equal(await logsOf(engine, id), 'hello\n', 'a log outlives its run');
    assert.equal(await engine.containers.wait(id), 3, 'whoever asks later learns it too');
    await engine.containers.remove(id);
    assert.equal(engine.containers.status(id), undefined);
    await assert.rejects(engine.containers.remove(id), /No such container/i);
    const seen = events.of(id).filter((action) => ['create', 'start', 'die', 'destroy'].includes(action));
    assert.deepEqual(seen, ['create', 'start', 'die', 'destroy']);
    events.stop();
  });

  scenario('docker run', 'told to stop, it has its time; who does not hear is killed', async (engine) => {
    const heard = await startOf(engine, bench.spec('serves', { owner: 'docker', name: 'suite-serves' }));
    const deaf = await startOf(engine, bench.spec('deaf', { owner: 'docker', name: 'suite-deaf' }));
    await bench.pass(Promise.all([engine.containers.stop(heard, 30_000), engine.containers.stop(deaf, 500)]));
    assert.equal(engine.containers.status(heard)?.exitCode, 0);
    assert.equal(engine.containers.status(deaf)?.exitCode, 137);
    for (const id of [heard, deaf]) await engine.containers.remove(id);
  });

  scenario('Pod', 'containers share a sandbox, are found by their labels, and stop by their grace', async (engine) => {
    const pod = 'suite-pod';
    const sandbox = await bench.pass(engine.sandboxes.create(bench.sandbox(pod)));
    assert.deepEqual([sandbox.id, sandbox.ready], [pod, true]);
    assert.match(sandbox.podIp, /^\d+\.\d+\.\d+\.\d+$/);
    const again = await bench.pass(engine.sandboxes.create(bench.sandbox(pod)));
    assert.equal(again.podIp, sandbox.podIp, 'one that stands is not made twice');
    assert.ok(engine.sandboxes.list().some(({ id }) => id === pod));
    const events = eventsOf(engine);
    const names = ['serves', 'deaf', 'ends'] as const;
    const [serves, deaf, ends] = await Promise.all(
      names.map((name) => startOf(engine, bench.spec(name, { owner: 'kubelet', name, pod }))),
    );
    const found = engine.containers.list({ owner: 'kubelet', labels: bench.podLabels(pod) });
    assert.deepEqual(new Set(found.map(({ id }) => id)), new Set([serves, deaf, ends]));
    assert.equal(await bench.pass(engine.containers.wait(ends!)), 3);
    const died = events.all.find(({ id, action }) => id === ends && action === 'die')!;
    for (const [name, value] of Object.entries(bench.podLabels(pod))) assert.equal(died.attributes[name], value);
    assert.equal(await logsOf(engine, ends!), 'hello\n');
    const left = new AbortController();
    const waiting = engine.containers.wait(serves!, left.signal);
    left.abort(new Error('left'));
    await assert.rejects(waiting, /left|abort/i, 'who leaves does not wait for the end');
    // Told twice: what comes first counts, and the second call may shorten it.
    const slow = engine.containers.stop(deaf!, 3_600_000);
    await bench.pass(engine.containers.stop(deaf!, 500));
    await bench.pass(slow);
    await bench.pass(engine.containers.stop(serves!, 30_000));
    assert.deepEqual(
      [deaf, serves].map((id) => engine.containers.status(id!)?.exitCode),
      [137, 0],
    );
    await engine.containers.stop(serves!, 0);
    for (const id of [serves, deaf, ends]) await engine.containers.remove(id!, { force: true });
    await engine.sandboxes.remove(pod);
    await engine.sandboxes.remove(pod);
    assert.equal(engine.sandboxes.status(pod), undefined);
    events.stop();
  });

  scenario('Pod', 'a sandbox that is given up leaves nothing behind', async (engine) => {
    const gone = new AbortController();
    const making = engine.sandboxes.create(bench.sandbox('suite-given-up'), gone.signal);
    gone.abort(new Error('the Pod is gone'));
    await assert.rejects(bench.pass(making), /the Pod is gone/);
    assert.equal(engine.sandboxes.status('suite-given-up'), undefined);
  });

  scenario('Pod', 'a container is killed at once, and removed while it runs', async (engine) => {
    const pod = 'suite-kill';
    await bench.pass(engine.sandboxes.create(bench.sandbox(pod)));
    const id = await startOf(engine, bench.spec('deaf', { owner: 'kubelet', name: 'deaf', pod }));
    await bench.pass(engine.containers.kill(id, 'SIGKILL'));
    assert.equal(await bench.pass(engine.containers.wait(id)), 137);
    await engine.containers.remove(id);
    const other = await startOf(engine, bench.spec('serves', { owner: 'kubelet', name: 'serves', pod }));
    await bench.pass(engine.containers.remove(other, { force: true }));
    assert.deepEqual(engine.containers.list({ owner: 'kubelet', labels: bench.podLabels(pod) }), []);
    await engine.sandboxes.remove(pod);
  });

  scenario(
    'build step',
    'a command runs beside the first process, with its own output and exit code',
    async (engine) => {
      const id = await startOf(engine, bench.spec('serves', { owner: 'build', name: 'suite-build' }));
      const stdout = new PassThrough();
      let text = '';
      stdout.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')));
      const code = await bench.pass(
        engine.containers.exec(id, { command: bench.command, tty: false }, { stdout, stderr: stdout }),
      );
      assert.deepEqual([code, text], [9, 'inside\n']);
      await bench.pass(engine.containers.remove(id, { force: true }));
      assert.equal(engine.containers.status(id), undefined);
    },
  );
}
