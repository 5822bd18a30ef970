/** Who is carried out, who waits, and who is refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import { Metrics } from '#observe/metrics.ts';
import { suggestedFlowSchemas, suggestedPriorityLevels } from '#schema/flow-control-objects.ts';
import { createFakeClock, type FakeClock } from '#store/fake-clock.ts';
import { parseRequestInfo } from '../request-info.ts';
import { allocateSeats } from './allocate.ts';
import { FlowControl, TooManyRequests, type Admission } from './flow-control.ts';
import { Hands } from './hands.ts';
import { RetryAfter } from './retry-after.ts';

const userOf = (name: string, ...groups: string[]): UserInfo => ({ name, groups: [...groups, 'system:authenticated'] });
const admin = userOf('admin', 'system:masters');
const accountOf = (name: string): UserInfo =>
  userOf(`system:serviceaccount:default:${name}`, 'system:serviceaccounts', 'system:serviceaccounts:default');

/** One level of so many of the 600 seats, whose users have one queue each. */
function tested(seats: number, queueLengthLimit: number) {
  return {
    levels: [
      {
        metadata: { name: 'tested', uid: 'level' },
        spec: {
          type: 'Limited',
          limited: {
            nominalConcurrencyShares: seats,
            lendablePercent: 0,
            borrowingLimitPercent: 0,
            limitResponse: { type: 'Queue', queuing: { queues: 1000, handSize: 1, queueLengthLimit } },
          },
        },
      },
      {
        metadata: { name: 'rest' },
        spec: {
          type: 'Limited',
          limited: { nominalConcurrencyShares: 595 - seats, lendablePercent: 0, limitResponse: { type: 'Reject' } },
        },
      },
    ],
    schemas: [
      {
        metadata: { name: 'tested', uid: 'schema' },
        spec: {
          matchingPrecedence: 500,
          priorityLevelConfiguration: { name: 'tested' },
          distinguisherMethod: { type: 'ByUser' },
          rules: [
            {
              subjects: [{ kind: 'Group', group: { name: 'system:authenticated' } }],
              resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'] }],
            },
          ],
        },
      },
    ],
  };
}

class Rig {
  readonly clock: FakeClock = createFakeClock();
  readonly turns: (() => void)[] = [];
  readonly flow: FlowControl;
  /** Who was admitted, in order. */
  readonly begun: string[] = [];
  readonly admissions: Admission[] = [];
  busyMs = 0;

  constructor({ isPaced = false } = {}) {
    const thread = {
      afterTurn: (run: () => void): void => void this.turns.push(run),
      busyMs: () => this.busyMs + this.begun.length / 10,
    };
    this.flow = new FlowControl({ clock: this.clock, metrics: new Metrics(), ...(isPaced ? { thread } : {}) });
  }

  ask(user: UserInfo, path = '/api/v1/namespaces/default/configmaps/a', signal = new AbortController().signal) {
    const [plain = '', query = ''] = path.split('?');
    const request: ApiRequest = { method: 'GET', path: plain, query: new URLSearchParams(query), headers: {}, signal };
    const admitted = this.flow.admit(request, user, parseRequestInfo(request));
    const told = Promise.resolve(admitted);
    told.then(
      (admission) => {
        this.begun.push(user.name);
        this.admissions.push(admission);
      },
      () => undefined,
    );
    return { isWaiting: admitted instanceof Promise, told };
  }

  async endTurn(): Promise<void> {
    for (const run of this.turns.splice(0)) run();
    await settled();
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const refusalOf = async (told: Promise<Admission>): Promise<number | undefined> => {
  try {
    await told;
    return undefined;
  } catch (error) {
    assert.ok(error instanceof TooManyRequests);
    return error.details?.retryAfterSeconds;
  }
};

describe('a request', () => {
  it('belongs to the first schema that matches', () => {
    const { flow, ...rig } = new Rig();
    assert.equal(rig.turns.length, 0);
    const levels = suggestedPriorityLevels.map((each) => ({
      ...each,
      metadata: { ...each.metadata, uid: each.metadata.name },
    }));
    const schemas = suggestedFlowSchemas.map((each) => ({
      ...each,
      metadata: { ...each.metadata, uid: each.metadata.name },
    }));
    flow.configure(levels, schemas);
    const schemaOf = (user: UserInfo, path: string, method = 'GET'): string | undefined => {
      const request = { method, path, query: new URLSearchParams(), headers: {}, signal: new AbortController().signal };
      const admitted = flow.admit(request, user, parseRequestInfo(request));
      assert.ok(!(admitted instanceof Promise));
      admitted.release();
      return admitted.schemaUid;
    };
    const lease = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n';
    const node = userOf('system:node:n', 'system:nodes');
    const system = userOf('system:serviceaccount:kube-system:a', 'system:serviceaccounts');
    const cases: [UserInfo, string, string][] = [
      [admin, '/api/v1/pods', ''],
      [userOf('somebody'), '/readyz', 'probes'],
      [userOf('somebody'), '/readyz/etcd', 'probes'],
      [userOf('somebody'), '/readyzz', 'global-default'],
      [node, lease, 'system-node-high'],
      [node, '/api/v1/nodes/n', 'system-node-high'],
      [node, '/api/v1/namespaces/default/pods/p', 'system-nodes'],
      [userOf('system:kube-scheduler'), '/api/v1/pods', 'kube-scheduler'],
      [userOf('system:kube-scheduler'), lease, 'system-leader-election'],
      [system, '/api/v1/pods', 'kube-system-service-accounts'],
      [accountOf('a'), '/api/v1/pods', 'service-accounts'],
      [userOf('somebody'), '/api/v1/pods', 'global-default'],
      [{ name: 'x', groups: [] }, '/api/v1/pods', ''],
    ];
    for (const [user, path, schema] of cases) assert.equal(schemaOf(user, path), schema, `${user.name} ${path}`);
  });

  it('waits for a seat, then is refused where its queue is full, and is told when to come back', async () => {
    const rig = new Rig();
    const { levels, schemas } = tested(2, 1);
    rig.flow.configure(levels, schemas);
    const first = rig.ask(userOf('a'));
    const second = rig.ask(userOf('a'));
    const third = rig.ask(userOf('a'));
    assert.deepEqual([first.isWaiting, second.isWaiting, third.isWaiting], [false, false, true]);
    assert.equal(await refusalOf(rig.ask(userOf('a')).told), 1);
    assert.equal(rig.ask(admin).isWaiting, false, 'the exempt level knows no bound');
    const admission = await first.told;
    assert.deepEqual([admission.schemaUid, admission.levelUid], ['schema', 'level']);
    admission.release();
    admission.release();
    await third.told;
  });

  it('of one user does not wait for the backlog of another', async () => {
    const rig = new Rig();
    const { levels, schemas } = tested(1, 100);
    rig.flow.configure(levels, schemas);
    for (let i = 0; i < 50; i++) rig.ask(userOf('flood'));
    rig.ask(userOf('quiet'));
    for (let i = 0; i < 3; i++) {
      await settled();
      rig.clock.advance(1);
      rig.admissions.shift()?.release();
    }
    await settled();
    assert.ok(rig.begun.includes('quiet'), rig.begun.join(' '));
  });

  it('leaves the queue when its client goes, and when it has waited too long', async () => {
    const rig = new Rig();
    const { levels, schemas } = tested(1, 5);
    rig.flow.configure(levels, schemas);
    rig.ask(userOf('a'));
    const gone = new AbortController();
    const left = rig.ask(userOf('b'), '/api/v1/namespaces/default/configmaps/a', gone.signal);
    const late = rig.ask(userOf('c'), '/api/v1/namespaces/default/configmaps/a?timeout=4s');
    gone.abort();
    assert.equal(await refusalOf(left.told), 1);
    rig.clock.advance(1_000);
    assert.equal(await refusalOf(late.told), 1);
    const level = rig.flow.levels.get('tested');
    assert.deepEqual(
      [level?.waiting, level?.executing, level?.statistics.timedOut, level?.statistics.cancelled],
      [0, 1, 1, 1],
    );
  });

  it('of a level that goes ends before the level does', async () => {
    const rig = new Rig();
    const { levels, schemas } = tested(1, 5);
    rig.flow.configure(levels, schemas);
    const admission = await rig.ask(userOf('a')).told;
    rig.flow.configure([], []);
    assert.equal(rig.flow.levels.get('tested')?.isLeaving, true);
    admission.release();
    assert.equal(rig.flow.levels.get('tested'), undefined);
  });
});

describe('a flood that comes in one turn of the thread', () => {
  it('is begun bit by bit, and another user goes before the rest of it', async () => {
    const rig = new Rig({ isPaced: true });
    const { levels, schemas } = tested(500, 500);
    rig.flow.configure(levels, schemas);
    const release = (told: Promise<Admission>): void => void told.then((admission) => admission.release());
    for (let i = 0; i < 400; i++) release(rig.ask(userOf('flood')).told);
    await settled();
    const atOnce = rig.begun.length;
    assert.ok(atOnce < 150, String(atOnce));
    release(rig.ask(userOf('quiet')).told);
    await rig.endTurn();
    assert.ok(rig.begun.includes('quiet'));
    assert.ok(rig.begun.length < 300);
    while (rig.turns.length > 0) await rig.endTurn();
    assert.equal(rig.begun.length, 401);
  });

  it('is begun once in a turn where each request takes longer than a slice', async () => {
    const rig = new Rig({ isPaced: true });
    const { levels, schemas } = tested(500, 500);
    rig.flow.configure(levels, schemas);
    rig.ask(userOf('quiet'));
    await rig.endTurn();
    rig.begun.length = 0;
    // What is read one after the other in one turn, each carried out before the next is read.
    for (let i = 0; i < 10; i++) {
      rig.ask(userOf('flood'));
      await settled();
      rig.clock.advance(8);
      rig.busyMs += 8;
    }
    assert.ok(rig.begun.length <= 2, rig.begun.join(' '));
    rig.ask(userOf('quiet'));
    await rig.endTurn();
    await rig.endTurn();
    assert.ok(rig.begun.includes('quiet'), rig.begun.join(' '));
    assert.ok(rig.begun.length < 10);
  });

  it('is refused bit by bit too', async () => {
    const rig = new Rig({ isPaced: true });
    const { levels, schemas } = tested(1, 1);
    rig.flow.configure(levels, schemas);
    let refused = 0;
    for (let i = 0; i < 300; i++)
      void rig.ask(userOf('flood')).told.catch(() => {
        refused++;
      });
    await rig.endTurn();
    assert.ok(refused > 0 && refused < 100, String(refused));
    while (rig.turns.length > 0) await rig.endTurn();
    assert.equal(refused, 298);
  });
});

describe('long work', () => {
  it('goes on without a pause while one flow comes alone', async () => {
    const rig = new Rig({ isPaced: true });
    const { levels, schemas } = tested(500, 500);
    rig.flow.configure(levels, schemas);
    const { told } = rig.ask(userOf('alone'));
    rig.clock.advance(2_000);
    assert.equal((await told).pause(), undefined);
  });

  it('of one flow does not keep that of another waiting, nor new requests', async () => {
    const rig = new Rig({ isPaced: true });
    const { levels, schemas } = tested(500, 500);
    rig.flow.configure(levels, schemas);
    const loud = await rig.ask(userOf('loud')).told;
    const quiet = await rig.ask(userOf('quiet')).told;
    const order: string[] = [];
    for (let i = 0; i < 500; i++) void loud.pause()?.then(() => order.push('loud'));
    void quiet.pause()?.then(() => order.push('quiet'));
    rig.clock.advance(20);
    rig.ask(userOf('third'));
    await rig.endTurn();
    assert.ok(rig.begun.includes('third'));
    assert.ok(order.slice(0, 2).includes('quiet'), order.join(' '));
    assert.ok(order.length < 200, String(order.length));
    while (rig.turns.length > 0) await rig.endTurn();
    assert.equal(order.length, 501);
  });
});

describe('seats', () => {
  it('are dealt by targets within bounds, and sum up', () => {
    const dealt = allocateSeats(100, [
      { lower: 10, upper: 100, target: 10 },
      { lower: 5, upper: 20, target: 60 },
      { lower: 0, upper: 100, target: 30 },
    ]);
    assert.deepEqual(dealt?.seats.map(Math.round), [20, 20, 60]);
    assert.equal(dealt.fairShare, 2);
    assert.deepEqual(
      allocateSeats(3, [
        { lower: 1, upper: 2, target: 1 },
        { lower: 1, upper: 1, target: 1 },
      ])?.seats,
      [2, 1],
    );
    assert.equal(allocateSeats(1, [{ lower: 2, upper: 3, target: 2 }]), undefined);
    assert.equal(allocateSeats(9, [{ lower: 2, upper: 3, target: 2 }]), undefined);
  });

  it('are shared as configured, and lent to whoever can use them', async () => {
    const rig = new Rig();
    rig.flow.configure(suggestedPriorityLevels, suggestedFlowSchemas);
    const seatsOf = (name: string) => {
      const { nominalSeats, seatsMin, currentSeats } = rig.flow.levels.get(name)!;
      return { nominalSeats, seatsMin, currentSeats };
    };
    assert.deepEqual(
      ['system', 'workload-low', 'catch-all', 'exempt'].map((name) => seatsOf(name).nominalSeats),
      [74, 245, 13, 0],
    );
    assert.equal(seatsOf('workload-low').seatsMin, 24);
    for (let i = 0; i < 200; i++) void rig.ask(userOf(`u${i}`));
    rig.clock.advance(10_000);
    await settled();
    const { nominalSeats, currentSeats } = seatsOf('global-default');
    assert.ok(currentSeats > nominalSeats, `${currentSeats} of ${nominalSeats}`);
    assert.equal(rig.flow.levels.get('global-default')?.waiting, Math.max(0, 200 - currentSeats));
  });
});

describe('small parts', () => {
  it('deal a hand of different queues, always the same one to a flow', () => {
    const hands = new Hands(128, 6);
    for (let i = 0; i < 100; i++) {
      const hand = hands.of('schema', `user-${i}`);
      assert.equal(new Set(hand).size, 6);
      assert.ok(hand.every((index) => index >= 0 && index < 128));
    }
    assert.deepEqual(new Hands(128, 6).of('schema', 'user-1'), hands.of('schema', 'user-1'));
  });

  it('ask the refused to wait longer while there are many', () => {
    const retry = new RetryAfter();
    const seen: number[] = [];
    for (let second = 1; second < 100; second++) {
      for (let i = 0; i < 50; i++) retry.note(second * 1000);
      seen.push(retry.seconds);
    }
    assert.equal(Math.max(...seen), 32);
    retry.note(200_000);
    retry.note(201_000);
    assert.equal(retry.seconds, 30);
  });
});
