import type { Pod } from '#api/core.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import {
  adoptRunning,
  forgiveExits,
  memoryFromStatus,
  memoryOf,
  type Attempt,
  type Memory,
} from './container-memory.ts';
import { planPod } from './pod-plan.ts';
import { stored } from './stored.testing.ts';
import { groupLimits } from './resize.ts';

const now = 1_000_000;

function pod(spec: Record<string, unknown>): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...stored, name: 'web', namespace: 'default', uid: 'u' },
    spec: { containers: [{ name: 'main' }], restartPolicy: 'Always', ...spec },
  };
}
function attempt(over: Partial<Attempt>): Attempt {
  return {
    id: `id-${over.restartCount ?? 0}`,
    restartCount: 0,
    state: 'running',
    exitCode: 0,
    oomKilled: false,
    startedAtMs: now - 1000,
    finishedAtMs: 0,
    imageId: '',
    image: '',
    message: '',
    limits: groupLimits({}),
    ...over,
  };
}
const exited = (exitCode: number, over: Partial<Attempt> = {}): Attempt =>
  attempt({ state: 'exited', exitCode, finishedAtMs: now, ...over });
const started = (plan: ReturnType<typeof planPod>): string[] =>
  plan.start.map((entry) => `${entry.container.name}#${entry.restartCount}`);

test('init containers run one after the other before the others start', () => {
  const subject = pod({ initContainers: [{ name: 'one' }, { name: 'two' }] });
  const memory: Memory = new Map();
  assert.deepEqual(started(planPod(subject, new Map(), memory, now)), ['one#0']);
  assert.deepEqual(started(planPod(subject, new Map([['one', [attempt({})]]]), memory, now)), []);
  assert.deepEqual(started(planPod(subject, new Map([['one', [exited(0)]]]), memory, now)), ['two#0']);
  assert.deepEqual(
    started(
      planPod(
        subject,
        new Map([
          ['one', [exited(0)]],
          ['two', [exited(0)]],
        ]),
        memory,
        now,
      ),
    ),
    ['main#0'],
  );
});

test('a failed init container of a Pod that never restarts fails the Pod', () => {
  const plan = planPod(
    pod({ restartPolicy: 'Never', initContainers: [{ name: 'one' }] }),
    new Map([['one', [exited(2)]]]),
    new Map(),
    now,
  );
  assert.equal(plan.phase, 'Failed');
  assert.deepEqual(plan.start, []);
});

test('a sidecar lets the others start when it has started, and is stopped when they are done', () => {
  const subject = pod({ restartPolicy: 'Never', initContainers: [{ name: 'proxy', restartPolicy: 'Always' }] });
  const memory: Memory = new Map();
  assert.deepEqual(started(planPod(subject, new Map(), memory, now)), ['proxy#0']);
  assert.deepEqual(started(planPod(subject, new Map([['proxy', [attempt({})]]]), memory, now)), []);
  memoryOf(memory, 'proxy').started = true;
  assert.deepEqual(started(planPod(subject, new Map([['proxy', [attempt({})]]]), memory, now)), ['main#0']);
  const done = planPod(
    subject,
    new Map([
      ['proxy', [attempt({})]],
      ['main', [exited(0)]],
    ]),
    memory,
    now,
  );
  assert.equal(done.phase, 'Succeeded');
  assert.deepEqual(
    done.kill.map((entry) => entry.name),
    ['proxy'],
  );
});

test('restarts wait 0, 10, 20, 40 … 300 seconds, and begin anew after ten minutes of running', () => {
  const subject = pod({});
  const memory: Memory = new Map();
  const waits: number[] = [];
  for (let count = 0; count < 8; count++) {
    const plan = planPod(
      subject,
      new Map([['main', [exited(1, { restartCount: count, startedAtMs: now - 1000 })]]]),
      memory,
      now,
    );
    waits.push(plan.backOff[0]?.leftMs ?? 0);
  }
  assert.deepEqual(waits, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
  const rested = planPod(
    subject,
    new Map([['main', [exited(1, { restartCount: 8, startedAtMs: now - 700_000 })]]]),
    memory,
    now,
  );
  assert.deepEqual(started(rested), ['main#9']);
});

test('a new kubelet counts the back-off from the number of restarts', () => {
  const plan = planPod(
    pod({}),
    new Map([['main', [exited(1, { restartCount: 3, startedAtMs: now - 1000 })]]]),
    new Map(),
    now,
  );
  assert.equal(plan.backOff[0]?.leftMs, 40_000);
});

test('OnFailure restarts only what failed; the Pod succeeds when all exited with 0', () => {
  const subject = pod({ restartPolicy: 'OnFailure' });
  assert.deepEqual(started(planPod(subject, new Map([['main', [exited(1)]]]), new Map(), now)), ['main#1']);
  assert.equal(planPod(subject, new Map([['main', [exited(0)]]]), new Map(), now).phase, 'Succeeded');
});

test('a container that failed its liveness probe is killed, and only that attempt', () => {
  const memory: Memory = new Map();
  memoryOf(memory, 'main').killBecause = { attempt: 'id-0', message: 'failed liveness probe' };
  assert.deepEqual(
    planPod(pod({}), new Map([['main', [attempt({})]]]), memory, now).kill.map((entry) => entry.id),
    ['id-0'],
  );
  assert.deepEqual(planPod(pod({}), new Map([['main', [attempt({ restartCount: 1 })]]]), memory, now).kill, []);
});

test('only the last two attempts are kept', () => {
  const plan = planPod(
    pod({}),
    new Map([
      [
        'main',
        [attempt({ restartCount: 3 }), exited(1, { restartCount: 2 }), exited(1, { restartCount: 1 }), exited(1)],
      ],
    ]),
    new Map(),
    now,
  );
  assert.deepEqual(plan.remove, ['id-1', 'id-0']);
});

test('a clock that was set back holds a container for no longer than its back-off', () => {
  const memory: Memory = new Map();
  const subject = pod({});
  const hourMs = 3_600_000;
  assert.deepEqual(
    started(planPod(subject, new Map([['main', [exited(1)]]]), memory, now - hourMs)),
    ['main#1'],
    'the first restart comes at once',
  );
  const second = new Map([['main', [exited(1, { restartCount: 1 })]]]);
  assert.equal(planPod(subject, second, memory, now - hourMs).againAfterMs, 10_000);
  assert.equal(planPod(subject, second, memory, now - hourMs + 4_000).againAfterMs, 6_000);
  assert.deepEqual(started(planPod(subject, second, memory, now - hourMs + 10_000)), ['main#2']);
});

test('a container that runs while the Pod names another image is stopped and starts anew, whatever its policy', () => {
  const subject = pod({
    restartPolicy: 'Never',
    containers: [{ name: 'main', image: 'app:2' }],
    initContainers: [
      { name: 'set-up', image: 'tool:2' },
      { name: 'proxy', image: 'proxy:2', restartPolicy: 'Always' },
    ],
  });
  const memory: Memory = new Map();
  const ran = (specImage: string, over: Partial<Attempt> = {}): Attempt => attempt({ specImage, ...over });
  const finished = [exited(0, { specImage: 'tool:1' })];
  const plan = planPod(
    subject,
    new Map([
      ['set-up', finished],
      ['proxy', [ran('proxy:1', { id: 'p' })]],
      ['main', [ran('app:1', { id: 'm' })]],
    ]),
    memory,
    now,
  );
  assert.deepEqual(plan.kill, [
    { name: 'proxy', id: 'p', message: 'Init container proxy definition changed' },
    { name: 'main', id: 'm', message: 'Container main definition changed, will be restarted' },
  ]);
  const after = planPod(
    subject,
    new Map([
      ['set-up', finished],
      ['proxy', [exited(0, { id: 'p', specImage: 'proxy:1', restartCount: 3 })]],
      ['main', [exited(137, { id: 'm', specImage: 'app:1', restartCount: 3 })]],
    ]),
    memory,
    now,
  );
  assert.deepEqual([started(after), after.phase, after.backOff], [['proxy#4', 'main#4'], undefined, []]);
  const again = planPod(
    subject,
    new Map([
      ['set-up', finished],
      ['proxy', [ran('proxy:2')]],
      ['main', [exited(1, { id: 'n', specImage: 'app:2', restartCount: 4 })]],
    ]),
    memory,
    now,
  );
  assert.deepEqual(
    [started(again), again.kill.map(({ name }) => name), again.phase],
    [[], ['proxy'], 'Failed'],
    'what fails by itself is left as its policy says',
  );
});

test('another image ends the back-off of the one before; one that ended by itself stays ended', () => {
  const memory: Memory = new Map();
  const failed = (specImage: string, restartCount: number): Map<string, Attempt[]> =>
    new Map([['main', [exited(1, { specImage, restartCount })]]]);
  const named = (image: string, restartPolicy: string): Pod =>
    pod({ restartPolicy, containers: [{ name: 'main', image }] });
  assert.deepEqual(started(planPod(named('app:1', 'Always'), failed('app:1', 3), memory, now)), []);
  assert.deepEqual(started(planPod(named('app:2', 'Always'), failed('app:1', 3), memory, now)), ['main#4']);
  assert.equal(
    planPod(named('app:2', 'Always'), failed('app:2', 4), memory, now).backOff[0]!.totalMs,
    10_000,
    'counted anew',
  );
  assert.equal(planPod(named('app:2', 'Never'), failed('app:1', 0), new Map(), now).phase, 'Failed');
  assert.deepEqual(
    planPod(named('app:2', 'Always'), new Map([['main', [attempt({})]]]), new Map(), now).kill,
    [],
    'with what it began is not known',
  );
});

test('what ended with its sandbox starts at once, and crashes after that are counted anew', () => {
  const memory: Memory = new Map();
  const ended = new Map([['main', [exited(137, { restartCount: 3 })]]]);
  forgiveExits(ended, memory);
  assert.deepEqual(started(planPod(pod({}), ended, memory, now)), ['main#4']);
  assert.equal(
    planPod(pod({}), new Map([['main', [exited(1, { restartCount: 4 })]]]), memory, now).backOff[0]!.totalMs,
    10_000,
  );
});

test('what runs when a kubelet begins is ready where no probe will say more, whatever the last report says', () => {
  const subject = pod({
    containers: [
      { name: 'plain' },
      { name: 'probed', readinessProbe: {} },
      { name: 'starting', startupProbe: {} },
      { name: 'waiting' },
    ],
  });
  const unready = { image: 'i', imageID: '', restartCount: 0, ready: false, started: false };
  subject.status = {
    containerStatuses: [
      { ...unready, name: 'plain' },
      { ...unready, name: 'waiting' },
    ],
  };
  const observed = new Map(['plain', 'probed', 'starting'].map((name) => [name, [attempt({})]]));
  const memory = memoryFromStatus(subject);
  adoptRunning(subject, observed, memory, (kind, container) =>
    kind === 'Startup' ? container.startupProbe !== undefined : container.readinessProbe !== undefined,
  );
  assert.deepEqual(
    ['plain', 'probed', 'starting', 'waiting'].map((name) => {
      const { started: isStarted, ready } = memoryOf(memory, name);
      return [isStarted, ready];
    }),
    [
      [true, true],
      [true, false],
      [false, false],
      [false, false],
    ],
  );
});
