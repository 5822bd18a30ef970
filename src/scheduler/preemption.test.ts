/** Who has to go so that a Pod of higher priority fits, and where. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#api/core.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { SimRandom } from '#os/clock.sim.ts';
import type { SchedulerCache } from './cache.ts';
import { chooseNode } from './choose-node.ts';
import { podInfoOf } from './pod-info.ts';
import { planPreemption } from './preemption.ts';
import { antiAffinity, cacheOf, makeNode, makePod, podAffinity, type PodParts } from './testing.ts';

/** `NODE: victims`, or why nobody is to go. */
function planOf(cache: SchedulerCache, pod: Pod, budgets: PodDisruptionBudget[] = []): string {
  const info = podInfoOf(pod);
  const decision = chooseNode(info, cache, 0, new SimRandom(1));
  assert.equal(decision.type, 'unschedulable', 'it fits without anybody going');
  if (decision.type !== 'unschedulable') return '';
  const plan = planPreemption(info, decision, cache, budgets);
  if (plan.type === 'none') return plan.message;
  const names = plan.victims.pods.map(({ pod: victim }) => victim.metadata.name);
  return `${plan.victims.node}: ${names.join(' ')}`;
}

const cpu = (amount: string): PodParts => ({ requests: { cpu: amount } });
const running = (name: string, node: string, amount: string, priority = 0, more: PodParts = {}): Pod =>
  makePod(name, { node, ...cpu(amount), priority, ...more });
const budgetOf = (name: string, disruptionsAllowed: number, app: string): PodDisruptionBudget =>
  sampleOf(kinds.PodDisruptionBudget, {
    metadata: { name, namespace: 'default' },
    spec: { selector: { matchLabels: { app } } },
    status: { disruptionsAllowed },
  });
const startedAt = (pod: Pod, startTime: string): Pod => ({ ...pod, status: { startTime } });

test('only Pods of lower priority go, and of them no more than needed, the least important first', () => {
  const cache = cacheOf(
    [makeNode('a')],
    [
      running('same', 'a', '1', 10),
      running('low', 'a', '1', 1),
      running('mid', 'a', '1', 5),
      running('tiny', 'a', '1', 0),
    ],
  );
  assert.equal(planOf(cache, makePod('p', { ...cpu('1'), priority: 10 })), 'a: tiny');
  assert.equal(planOf(cache, makePod('p', { ...cpu('2'), priority: 10 })), 'a: low tiny');
  assert.equal(planOf(cache, makePod('p', { ...cpu('2'), priority: 2 })), 'a: low tiny');
  assert.equal(
    planOf(cache, makePod('p', { ...cpu('4'), priority: 10 })),
    '0/1 nodes are available: 1 No preemption victims found for incoming pod.',
  );
});

test('of equal Pods those that run for longest stay', () => {
  const cache = cacheOf(
    [makeNode('a')],
    [
      startedAt(running('new', 'a', '2'), '2026-01-02T00:00:00Z'),
      startedAt(running('old', 'a', '2'), '2026-01-01T00:00:00Z'),
    ],
  );
  assert.equal(planOf(cache, makePod('p', { ...cpu('2'), priority: 1 })), 'a: new');
});

test('the node is chosen by budgets, then the highest victim, then their sum, number and age', () => {
  const pod = makePod('p', { ...cpu('4'), priority: 10 });
  const nodes = [makeNode('a'), makeNode('b')];
  const cases: [string, Pod[], PodDisruptionBudget[], string][] = [
    [
      'a budget outweighs priority',
      [running('a1', 'a', '4', 1, { labels: { app: 'x' } }), running('b1', 'b', '4', 9)],
      [budgetOf('x', 0, 'x')],
      'b: b1',
    ],
    [
      'a budget that allows one does not',
      [running('a1', 'a', '4', 1, { labels: { app: 'x' } }), running('b1', 'b', '4', 9)],
      [budgetOf('x', 1, 'x')],
      'a: a1',
    ],
    [
      'the lower of the highest',
      [running('a1', 'a', '2', 5), running('a2', 'a', '2', 0), running('b1', 'b', '2', 4), running('b2', 'b', '2', 4)],
      [],
      'b: b1 b2',
    ],
    [
      'the lower sum',
      [running('a1', 'a', '2', 5), running('a2', 'a', '2', 3), running('b1', 'b', '2', 5), running('b2', 'b', '2', 1)],
      [],
      'b: b1 b2',
    ],
    ['fewer', [running('a1', 'a', '2', 5), running('a2', 'a', '2', 5), running('b1', 'b', '4', 5)], [], 'b: b1'],
    [
      'the one that started later',
      [
        startedAt(running('a1', 'a', '4'), '2026-01-01T00:00:00Z'),
        startedAt(running('b1', 'b', '4'), '2026-01-02T00:00:00Z'),
      ],
      [],
      'b: b1',
    ],
  ];
  for (const [name, pods, budgets, expected] of cases) {
    assert.equal(planOf(cacheOf(nodes, pods), pod, budgets), expected, name);
    assert.equal(planOf(cacheOf([...nodes].reverse(), pods), pod, budgets), expected, `${name}, the other way round`);
  }
});

test('each victim uses up its budget; whom a budget protects is spared where another will do', () => {
  const app = { labels: { app: 'x' } };
  const cache = cacheOf(
    [makeNode('a')],
    [running('x1', 'a', '1', 0, app), running('x2', 'a', '1', 0, app), running('y', 'a', '2', 5)],
  );
  const pod = makePod('p', { ...cpu('2'), priority: 10 });
  assert.equal(planOf(cache, pod), 'a: x1 x2');
  assert.equal(planOf(cache, pod, [budgetOf('x', 1, 'x')]), 'a: y', 'two would be one too many');
  assert.equal(planOf(cache, pod, [budgetOf('x', 2, 'x')]), 'a: x1 x2');
  assert.equal(planOf(cache, makePod('p', { ...cpu('4'), priority: 10 }), [budgetOf('x', 0, 'x')]), 'a: y x1 x2');
});

test('nobody goes where that would not help', () => {
  const full = [running('a1', 'a', '4')];
  const unhelpful = '0/1 nodes are available: 1 Preemption is not helpful for scheduling.';
  assert.equal(
    planOf(cacheOf([makeNode('a', { unschedulable: true })], full), makePod('p', { priority: 9 })),
    unhelpful,
  );
  assert.equal(
    planOf(
      cacheOf([makeNode('a', { taints: [{ key: 'k', effect: 'NoSchedule' }] })], full),
      makePod('p', { priority: 9 }),
    ),
    unhelpful,
  );
  assert.equal(
    planOf(cacheOf([makeNode('a')], full), makePod('p', { ...cpu('5'), priority: 9 })),
    unhelpful,
    'the node is too small when it is empty, too',
  );
  assert.equal(
    planOf(
      cacheOf([makeNode('a')], full),
      makePod('p', { priority: 9, affinity: podAffinity('kubernetes.io/hostname') }),
    ),
    unhelpful,
  );
});

test('whoever keeps a Pod away by its labels or its port goes, and nobody else', () => {
  const labels = { app: 'a' };
  const pod = makePod('p', { priority: 9, affinity: antiAffinity('kubernetes.io/hostname') });
  const beside = [running('other', 'a', '1'), running('match', 'a', '1', 3, { labels })];
  assert.equal(planOf(cacheOf([makeNode('a')], beside), pod), 'a: match');
  const averse = running('averse', 'a', '1', 1, { affinity: antiAffinity('kubernetes.io/hostname') });
  assert.equal(
    planOf(cacheOf([makeNode('a')], [averse, running('b', 'a', '1')]), makePod('p', { priority: 9, labels })),
    'a: averse',
  );
  const ports = [{ hostPort: 80 }];
  assert.equal(
    planOf(
      cacheOf([makeNode('a')], [running('web', 'a', '1', 1, { ports }), running('b', 'a', '1')]),
      makePod('p', { priority: 9, ports }),
    ),
    'a: web',
  );
  // A Pod of the whole zone keeps it away from here: those of this node alone do not help.
  const zoned = [makeNode('a', { labels: { zone: '1' } }), makeNode('b', { labels: { zone: '1' } })];
  assert.equal(
    planOf(
      cacheOf(zoned, [running('match', 'b', '1', 9, { labels }), running('low', 'a', '1')]),
      makePod('p', { priority: 9, affinity: antiAffinity('zone') }),
    ),
    '0/2 nodes are available: 2 No preemption victims found for incoming pod.',
  );
});

test('who may not preempt waits; so does who waits for a victim to end already', () => {
  const pods = [running('a1', 'a', '4')];
  const pod = makePod('p', { ...cpu('4'), priority: 9, preemptionPolicy: 'Never' });
  assert.equal(planOf(cacheOf([makeNode('a')], pods), pod), 'not eligible due to preemptionPolicy=Never.');
  const ending = running('a1', 'a', '4');
  ending.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
  const waiting = makePod('p', { ...cpu('4'), priority: 9 });
  waiting.status = { nominatedNodeName: 'a' };
  const nodes = [makeNode('a'), makeNode('b')];
  assert.equal(
    planOf(cacheOf(nodes, [ending, running('b1', 'b', '4')]), waiting),
    'not eligible due to a terminating pod on the nominated node.',
  );
  waiting.status = { nominatedNodeName: 'b' };
  assert.equal(planOf(cacheOf(nodes, [running('a1', 'a', '4', 5), running('b1', 'b', '4')]), waiting), 'b: b1');
});

test('room that was promised is kept from lower priorities, and not from higher ones or the Pod itself', () => {
  const cache = cacheOf([makeNode('a')]);
  const promised = podInfoOf(makePod('p', { ...cpu('3'), priority: 5 }));
  cache.nominate(promised, 'a');
  const outcomeOf = (pod: Pod): string => {
    const decision = chooseNode(podInfoOf(pod), cache, 0, new SimRandom(1));
    return decision.type === 'placed' ? decision.node.name : decision.message;
  };
  const tooFull = '0/1 nodes are available: 1 Insufficient cpu.';
  assert.equal(outcomeOf(makePod('low', { ...cpu('2'), priority: 4 })), tooFull);
  assert.equal(outcomeOf(makePod('same', { ...cpu('2'), priority: 5 })), tooFull);
  assert.equal(outcomeOf(makePod('high', { ...cpu('2'), priority: 6 })), 'a');
  assert.equal(outcomeOf(makePod('small', { ...cpu('1'), priority: 0 })), 'a');
  assert.equal(outcomeOf(promised.pod), 'a');
  cache.dropNomination(promised.key);
  assert.equal(outcomeOf(makePod('low', { ...cpu('2'), priority: 4 })), 'a');
});
