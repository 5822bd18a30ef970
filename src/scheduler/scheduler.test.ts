/** The scheduler at a real API server, with time and chance in hand, and with requests that fail as the test says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod } from '#api/core.v1.ts';
import { createTestApi, podBody, type TestApi } from '#apiserver/fixture.ts';
import { ApiError } from '#base/errors.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import type { Transport, TransportRequest } from '#client/transport.ts';
import { silentLogger } from '#observe/log.ts';
import { SimClock, SimRandom } from '#os/clock.sim.ts';
import { podBackoffMs, volumeBindingMs } from './limits.ts';
import { runScheduler, type RunningScheduler } from './scheduler.ts';

/** Answers in place of the server, or lets it answer. */
type Intercept = (request: TransportRequest, send: () => Promise<unknown>) => Promise<unknown>;

interface Bench extends AsyncDisposable {
  api: TestApi;
  client: Client;
  clock: SimClock;
  scheduler: RunningScheduler;
  /** Requests of the scheduler that match are answered by this, until it is taken away. */
  intercept(pattern: RegExp, how: Intercept): () => void;
  /** Paths of bindings that were asked for, in order. */
  bindings: string[];
  random: { float(): number };
  node(name: string, amounts?: object): Promise<Node>;
  pod(name: string, spec?: object): Promise<Pod>;
  /** Where each Pod is. */
  places(): Promise<Record<string, string>>;
  get(name: string): Promise<Pod>;
  /** Reasons of events about a Pod. */
  events(name: string): Promise<string[]>;
  settle(): Promise<void>;
}

const admin = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
const amounts = { cpu: '4', memory: '8Gi', pods: '10' };

async function open(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const api = stack.use(await createTestApi());
  const client = createClient(createDirectTransport(api.api.handle, admin), 'admin');
  const clock = new SimClock(Date.parse('2030-01-01T00:00:00Z'));
  const inner = createDirectTransport(api.api.handle, admin);
  const rules = new Set<{ pattern: RegExp; how: Intercept }>();
  const bindings: string[] = [];
  const transport: Transport = {
    watch: (request) => inner.watch(request),
    async send(request) {
      const line = `${request.method} ${request.path}`;
      if (line.endsWith('/binding')) bindings.push(line);
      const rule = [...rules].find(({ pattern }) => pattern.test(line));
      const send = () => inner.send(request);
      return (await (rule === undefined ? send() : rule.how(request, send))) as Awaited<ReturnType<typeof send>>;
    },
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
  const random = new SimRandom(1);
  const scheduler = await runScheduler({
    client: createClient(transport, 'scheduler'),
    clock,
    random,
    log: silentLogger,
  });
  stack.use(scheduler);
  const owned = stack.move();
  const get = (name: string): Promise<Pod> => client.get(kinds.Pod, name, 'default');
  return {
    api,
    client,
    clock,
    scheduler,
    bindings,
    random,
    get,
    intercept(pattern, how) {
      const rule = { pattern, how };
      rules.add(rule);
      return () => rules.delete(rule);
    },
    node: async (name, more = {}) => {
      const metadata = { name, labels: { 'kubernetes.io/hostname': name } };
      await api.make('/api/v1/nodes', {
        metadata,
        status: { allocatable: { ...amounts, ...more }, capacity: { ...amounts, ...more } },
      });
      // As the node life cycle does when the node is ready.
      return client.patch(kinds.Node, { name }, { merge: { spec: { taints: null } } });
    },
    pod: async (name, spec = {}) => (await api.make('/api/v1/namespaces/default/pods', podBody(name, { spec }))) as Pod,
    async places() {
      const { items } = await client.list(kinds.Pod, { namespace: 'default' });
      return Object.fromEntries(items.map(({ metadata, spec }) => [metadata.name, spec.nodeName ?? '']));
    },
    async events(name) {
      const { items } = await client.list(kinds.Event, { namespace: 'default' });
      return items.filter(({ involvedObject }) => involvedObject.name === name).map(({ reason }) => reason ?? '');
    },
    settle: () => clock.advance(0),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A container that asks for so much. */
const asks = (cpu: string): object => ({
  containers: [{ name: 'c', image: 'i', resources: { requests: { cpu } } }],
});
const refuse = (): Promise<never> => Promise.reject(new ApiError('InternalError', 'no'));
const silence = (): Promise<never> => Promise.reject(new ApiError('ServiceUnavailable', 'nobody answers'));

test('a Pod is bound once a node has room, by priority and then by age', async () => {
  await using b = await open();
  const { client } = b;
  for (const [name, value] of [
    ['high', 1000],
    ['low', 10],
  ] as const)
    await client.create(kinds.PriorityClass, {
      apiVersion: 'scheduling.k8s.io/v1',
      kind: 'PriorityClass',
      metadata: { name },
      value,
      preemptionPolicy: 'Never',
    });
  for (const [name, priorityClassName] of [
    ['first', 'low'],
    ['second', 'low'],
    ['late', 'high'],
  ] as const) {
    await b.pod(name, { ...asks('2'), priorityClassName });
    await b.settle();
  }
  assert.deepEqual(Object.values(await b.places()), ['', '', '']);
  assert.deepEqual(await b.events('first'), ['FailedScheduling']);
  assert.equal(
    (await b.get('first')).status?.conditions?.find(({ type }) => type === 'PodScheduled')?.message,
    'no nodes available to schedule pods',
  );
  await b.clock.advance(podBackoffMs);
  await b.node('a');
  // New nodes are tainted until they are ready: who was tried with that one waits again.
  await b.clock.advance(2 * podBackoffMs);
  assert.deepEqual(await b.places(), { first: 'a', late: 'a', second: '' });
});

test('a Pod with gates is not tried until the last of them is gone', async () => {
  await using b = await open();
  await b.node('a');
  await b.pod('p', { schedulingGates: [{ name: 'one' }, { name: 'two' }] });
  await b.settle();
  assert.deepEqual([b.scheduler.stats().failed, await b.places()], [0, { p: '' }]);
  const gates = (names: string[]) =>
    b.client.patch(
      kinds.Pod,
      { name: 'p', namespace: 'default' },
      { merge: { spec: { schedulingGates: names.map((name) => ({ name })) } } },
    );
  await gates(['two']);
  await b.settle();
  assert.deepEqual(await b.places(), { p: '' });
  await gates([]);
  await b.settle();
  assert.deepEqual(await b.places(), { p: 'a' });
});

test('Pods of another scheduler are left to it, and take their room all the same', async () => {
  await using b = await open();
  await b.node('a');
  await b.pod('other', { ...asks('3'), schedulerName: 'mine' });
  await b.settle();
  assert.deepEqual(await b.places(), { other: '' });
  await b.api.make('/api/v1/namespaces/default/pods/other/binding', { target: { kind: 'Node', name: 'a' } });
  await b.pod('p', asks('2'));
  await b.settle();
  assert.deepEqual(await b.places(), { other: 'a', p: '' });
});

test('while a binding is under way its room is taken; when it is refused, others have it, and it is tried again', async () => {
  await using b = await open();
  await b.node('a');
  const { promise: decided, resolve: decide } = Promise.withResolvers<void>();
  const stop = b.intercept(/pods\/first\/binding$/, () => decided.then(refuse));
  await b.pod('first', asks('3'));
  await b.settle();
  await b.pod('second', asks('3'));
  await b.settle();
  assert.deepEqual([b.scheduler.stats().binding, b.scheduler.stats().unschedulable], [1, 1]);
  assert.deepEqual(await b.events('second'), ['FailedScheduling']);
  await b.clock.advance(podBackoffMs);
  decide();
  await b.settle();
  assert.deepEqual(await b.places(), { first: '', second: 'a' }, 'the room went to who waited');
  assert.deepEqual([b.scheduler.stats().bindErrors, (await b.events('first'))[0]], [1, 'FailedScheduling']);
  stop();
  await b.node('b');
  await b.clock.advance(10 * podBackoffMs);
  assert.deepEqual(await b.places(), { first: 'b', second: 'a' });
});

test('a binding that fails is tried after a back-off that doubles, and no other Pod waits for that', async () => {
  await using b = await open();
  await b.node('a');
  const stop = b.intercept(/pods\/p\/binding$/, refuse);
  await b.pod('p');
  const tries = (): number => b.bindings.filter((path) => path.includes('/p/')).length;
  await b.settle();
  const seen: number[] = [];
  for (let second = 0; second < 16; second++) {
    seen.push(tries());
    await b.clock.advance(podBackoffMs);
  }
  assert.deepEqual(seen, [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5]);
  await b.pod('q');
  await b.settle();
  assert.equal((await b.places())['q'], 'a');
  stop();
  await b.clock.advance(10 * podBackoffMs);
  assert.equal((await b.places())['p'], 'a');
});

test('a binding that nobody answered is looked up: made, it stands; not made, it is tried again', async () => {
  await using b = await open();
  await b.node('a');
  let stop = b.intercept(/pods\/made\/binding$/, (_request, send) => send().then(silence));
  await b.pod('made', asks('2'));
  await b.clock.advance(podBackoffMs);
  stop();
  assert.deepEqual([await b.places(), b.bindings.length], [{ made: 'a' }, 1]);
  const unread = b.intercept(/GET .*pods\/lost$/, silence);
  stop = b.intercept(/pods\/lost\/binding$/, silence);
  await b.pod('lost', asks('2'));
  await b.clock.advance(60_000);
  await b.pod('other', asks('2'));
  await b.settle();
  assert.deepEqual(await b.places(), { made: 'a', lost: '', other: '' }, 'as long as nobody knows, the room is taken');
  assert.equal(b.bindings.filter((path) => path.includes('/lost/')).length, 1);
  stop();
  unread();
  await b.clock.advance(60_000);
  const places = await b.places();
  assert.deepEqual(new Set([places['lost'], places['other']]), new Set(['', 'a']), 'one of them has it');
});

test('a Pod that goes while it is being bound gives its room back', async () => {
  await using b = await open();
  await b.node('a');
  const { promise: decided, resolve: decide } = Promise.withResolvers<void>();
  b.intercept(/pods\/p\/binding$/, (_request, send) => decided.then(send));
  await b.pod('p', asks('4'));
  await b.settle();
  await b.client.delete(kinds.Pod, 'p', 'default', { gracePeriodSeconds: 0 });
  await b.pod('next', asks('4'));
  await b.settle();
  decide();
  await b.clock.advance(podBackoffMs);
  assert.deepEqual(await b.places(), { next: 'a' });
  assert.deepEqual(b.scheduler.stats().backoff, 0, 'nobody tries what is gone');
});

test('a fault at one Pod neither loses it nor holds up others', async () => {
  await using b = await open();
  for (const name of ['a', 'b']) await b.node(name);
  const float = b.random.float.bind(b.random);
  b.random.float = () => {
    throw new Error('no chance');
  };
  await b.pod('p');
  await b.settle();
  b.random.float = float;
  await b.pod('q');
  await b.settle();
  assert.deepEqual(Object.keys(await b.places()).length, 2);
  assert.notEqual((await b.places())['q'], '');
  await b.clock.advance(podBackoffMs);
  assert.notEqual((await b.places())['p'], '');
});

test('preemption: victims are told why and deleted, the room is promised, and taken when they are gone', async () => {
  await using b = await open();
  await b.client.create(kinds.PriorityClass, {
    apiVersion: 'scheduling.k8s.io/v1',
    kind: 'PriorityClass',
    metadata: { name: 'high' },
    value: 1000,
  });
  await b.node('a');
  await b.pod('victim', { ...asks('3'), terminationGracePeriodSeconds: 30 });
  await b.pod('stays', asks('1'));
  await b.settle();
  await b.pod('p', { ...asks('3'), priorityClassName: 'high' });
  await b.settle();
  const victim = await b.get('victim');
  assert.ok(victim.metadata.deletionTimestamp !== undefined);
  const condition = victim.status?.conditions?.find(({ type }) => type === 'DisruptionTarget');
  assert.deepEqual([condition?.status, condition?.reason], ['True', 'PreemptionByScheduler']);
  assert.deepEqual(
    [await b.events('victim'), (await b.get('p')).status?.nominatedNodeName],
    [['Scheduled', 'Preempted'], 'a'],
  );
  assert.equal((await b.get('stays')).metadata.deletionTimestamp, undefined);
  // One of lower priority comes: the room is not for it.
  await b.pod('low', asks('3'));
  await b.client.delete(kinds.Pod, 'victim', 'default', { gracePeriodSeconds: 0 });
  await b.clock.advance(10 * podBackoffMs);
  assert.deepEqual(await b.places(), { low: '', p: 'a', stays: 'a' });
});

test('what lets a Pod fit wakes it: other labels of a neighbour, a node that goes', async () => {
  await using b = await open();
  await b.node('a');
  const labelled = (name: string, labels: object, spec: object) =>
    b.api.make(
      '/api/v1/namespaces/default/pods',
      podBody(name, { metadata: { name, namespace: 'default', labels }, spec }),
    );
  await labelled('neighbour', { app: 'x' }, {});
  await b.settle();
  await b.pod('averse', {
    affinity: {
      podAntiAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [
          { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'x' } } },
        ],
      },
    },
  });
  await b.clock.advance(podBackoffMs);
  assert.equal((await b.places())['averse'], '');
  await b.client.patch(
    kinds.Pod,
    { name: 'neighbour', namespace: 'default' },
    { merge: { metadata: { labels: { app: 'y' } } } },
  );
  await b.settle();
  assert.equal((await b.places())['averse'], 'a');
  // The empty node is a domain, and full: only its going lets the next Pod beside the first.
  const spread = {
    topologySpreadConstraints: [
      {
        topologyKey: 'kubernetes.io/hostname',
        maxSkew: 1,
        whenUnsatisfiable: 'DoNotSchedule',
        labelSelector: { matchLabels: { app: 's' } },
      },
    ],
  };
  await b.node('full', { pods: '0' });
  await b.settle();
  await labelled('s1', { app: 's' }, spread);
  await labelled('s2', { app: 's' }, spread);
  await b.clock.advance(podBackoffMs);
  assert.deepEqual([(await b.places())['s1'], (await b.places())['s2']], ['a', '']);
  await b.client.delete(kinds.Node, 'full');
  await b.settle();
  assert.equal((await b.places())['s2'], 'a');
});

const localClass = { metadata: { name: 'local' }, volumeBindingMode: 'WaitForFirstConsumer' };
const makeClaim = (b: Bench, name: string) =>
  b.api.make('/api/v1/namespaces/default/persistentvolumeclaims', {
    metadata: { name },
    spec: { storageClassName: 'local', accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  });
const mounts = (claimName: string): object => ({ volumes: [{ name: 'v', persistentVolumeClaim: { claimName } }] });
/** What the controller of volumes does once a volume names the claim. */
const completeClaim = (b: Bench, name: string, volumeName: string) =>
  b.client.patch(
    kinds.PersistentVolumeClaim,
    { name, namespace: 'default' },
    { merge: { metadata: { annotations: { 'pv.kubernetes.io/bind-completed': 'yes' } }, spec: { volumeName } } },
  );

test('a volume is promised before its Pod is bound, to one claim alone', async () => {
  await using b = await open();
  await b.node('a');
  await b.api.make('/apis/storage.k8s.io/v1/storageclasses', {
    ...localClass,
    provisioner: 'kubernetes.io/no-provisioner',
  });
  await b.api.make('/api/v1/persistentvolumes', {
    metadata: { name: 'v' },
    spec: {
      storageClassName: 'local',
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '1Gi' },
      hostPath: { path: '/v' },
    },
  });
  for (const name of ['c', 'd']) await makeClaim(b, name);
  await b.pod('p', mounts('c'));
  await b.pod('q', mounts('d'));
  await b.settle();
  const { claimRef } = (await b.client.get(kinds.PersistentVolume, 'v')).spec;
  assert.deepEqual([claimRef?.name, b.bindings, b.scheduler.stats().binding], ['c', [], 1]);
  assert.deepEqual(await b.events('q'), ['FailedScheduling']);
  await completeClaim(b, 'c', 'v');
  await b.settle();
  assert.deepEqual(await b.places(), { p: 'a', q: '' });
});

test('a volume that cannot be promised leaves the room of its Pod to others', async () => {
  await using b = await open();
  await b.node('a');
  await b.api.make('/apis/storage.k8s.io/v1/storageclasses', { ...localClass, provisioner: 'x' });
  await makeClaim(b, 'c');
  const stop = b.intercept(/PATCH .*persistentvolumeclaims\/c$/, refuse);
  await b.pod('p', { ...mounts('c'), ...asks('4') });
  await b.settle();
  assert.deepEqual([b.scheduler.stats().bindErrors, b.scheduler.stats().backoff, b.bindings], [1, 1, []]);
  await b.pod('q', asks('4'));
  await b.settle();
  assert.deepEqual(await b.places(), { p: '', q: 'a' });
  stop();
});

test('a volume that is to be made is waited for: made, given up, deleted with its claim, or never', async () => {
  await using b = await open();
  await b.node('a');
  await b.api.make('/apis/storage.k8s.io/v1/storageclasses', { ...localClass, provisioner: 'x' });
  const selected = async (name: string): Promise<string | undefined> =>
    (await b.client.get(kinds.PersistentVolumeClaim, name, 'default')).metadata.annotations?.[
      'volume.kubernetes.io/selected-node'
    ];
  for (const name of ['made', 'given-up', 'deleted', 'never']) {
    await makeClaim(b, name);
    await b.pod(name, mounts(name));
  }
  await b.settle();
  assert.deepEqual([await selected('made'), b.scheduler.stats().binding, b.bindings], ['a', 4, []]);
  await completeClaim(b, 'made', 'v');
  await b.client.delete(kinds.PersistentVolumeClaim, 'deleted', 'default');
  await b.client.patch(
    kinds.PersistentVolumeClaim,
    { name: 'deleted', namespace: 'default' },
    { merge: { metadata: { finalizers: null } } },
  );
  await b.clock.advance(6_000);
  await b.client.patch(
    kinds.PersistentVolumeClaim,
    { name: 'given-up', namespace: 'default' },
    { merge: { metadata: { annotations: { 'volume.kubernetes.io/selected-node': null } } } },
  );
  await b.settle();
  assert.deepEqual(await b.places(), { made: 'a', 'given-up': '', deleted: '', never: '' });
  assert.equal(b.scheduler.stats().binding, 1, 'only the one that may still come is waited for');
  await b.clock.advance(podBackoffMs);
  assert.equal(await selected('given-up'), 'a', 'it is tried again');
  await b.clock.advance(volumeBindingMs);
  assert.ok((await b.events('never')).includes('FailedScheduling'));
});
