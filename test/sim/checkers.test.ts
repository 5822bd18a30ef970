/**
 * Each checker is shown to fire: a bug is put in on purpose, and the checker of that invariant must name it. The table
 * is in README.md.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import type { Endpoint } from '#api/discovery.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import { isOf, type KindRef, type KubeObject, type WatchEvent } from '#base/objects.ts';
import type { TestJson } from '#base/testing.ts';
import { awaitedLater } from '#base/promises.ts';
import { textOf } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import { runLeaderElection } from '#client/leader-election.ts';
import type { TransportRequest } from '#client/transport.ts';
import { addressesUnique } from '#sim/checkers/addresses-unique.ts';
import { budgetsKept } from '#sim/checkers/budgets-kept.ts';
import { comesToRest } from '#sim/checkers/comes-to-rest.ts';
import { endpointsTrue } from '#sim/checkers/endpoints-true.ts';
import { finalizersHonoured } from '#sim/checkers/finalizers-honoured.ts';
import { identitiesUnique } from '#sim/checkers/identities-unique.ts';
import { jobsExact } from '#sim/checkers/jobs-exact.ts';
import { listEqualsWatch } from '#sim/checkers/list-equals-watch.ts';
import { lostNodes } from '#sim/checkers/lost-nodes.ts';
import { oneLeader } from '#sim/checkers/one-leader.ts';
import { ownersAlive } from '#sim/checkers/owners-alive.ts';
import { placesRight } from '#sim/checkers/places-right.ts';
import { queuesBounded } from '#sim/checkers/queues-bounded.ts';
import { quotasKept } from '#sim/checkers/quotas-kept.ts';
import { revisionsGrow } from '#sim/checkers/revisions-grow.ts';
import { rolloutBounds } from '#sim/checkers/rollout-bounds.ts';
import { statusSettled } from '#sim/checkers/status-settled.ts';
import { updatesOrdered } from '#sim/checkers/updates-ordered.ts';
import { workBounded } from '#sim/checkers/work-bounded.ts';
import { workloadsWhole } from '#sim/checkers/workloads-whole.ts';
import { type Writes, writesKept } from '#sim/checkers/writes-kept.ts';
import { Cluster } from '#sim/cluster.ts';
import { settle } from '#os/clock.sim.ts';
import { type Checker, storeKeyOf, World } from '#sim/world.ts';

const encode = (object: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(object));

const workload = (kind: 'Deployment' | 'StatefulSet', extra: TestJson = {}): TestJson => ({
  apiVersion: 'apps/v1',
  kind,
  metadata: { name: 'app', namespace: 'default' },
  spec: {
    replicas: 2,
    ...(kind === 'StatefulSet' ? { serviceName: 'app' } : {}),
    selector: { matchLabels: { app: 'app' } },
    template: { metadata: { labels: { app: 'app' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
    ...extra,
  },
});

/** Lets time pass while a checker looks: it may wait between two questions. */
async function during(cluster: Cluster, work: Promise<void>): Promise<void> {
  let done = false;
  const watched = work.finally(() => {
    done = true;
  });
  void awaitedLater(watched);
  for (await settle(); !done; await settle()) await cluster.advance(50);
  await watched;
}

const daemonSet = (): TestJson => ({
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'agent', namespace: 'default' },
  spec: {
    selector: { matchLabels: { app: 'agent' } },
    template: { metadata: { labels: { app: 'agent' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
  },
});

const homeless = (): TestJson => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'default' },
  spec: { nodeSelector: { no: 'node' }, containers: [{ name: 'c', image: 'i' }] },
});

/**
 * Runs a small cluster with one checker, puts the bug in, and answers what the checker says; nothing may be said
 * before.
 */
async function watching(
  checker: Checker,
  setUp: (cluster: Cluster) => Promise<void>,
  bug: (world: World) => Promise<void>,
  looks = 1,
): Promise<string[]> {
  await using cluster = new Cluster({ nodes: 2 });
  const world = new World(cluster, [checker]);
  await cluster.ready();
  await setUp(cluster);
  await cluster.advance('5s');
  for (let at = 0; at < 60; at++) {
    await during(cluster, world.tick());
    await cluster.advance('2s');
  }
  assert.deepEqual(world.violations, []);
  await bug(world);
  for (let at = 0; at < looks && world.violations.length === 0; at++) {
    if (at > 0) await cluster.advance('1s');
    await during(cluster, world.tick());
  }
  await during(cluster, world.rest());
  return world.violations.map(({ message }) => message);
}

/** Only what it says of this claim. */
const about = async (claim: RegExp, run: Promise<string[]>): Promise<string[]> =>
  (await run).filter((message) => claim.test(message));

const none = async (): Promise<void> => undefined;
/** A write behind everybody's back. */
async function put(world: World, key: string, object: TestJson): Promise<void> {
  await world.cluster.store.txn([], [{ type: 'put', key, value: encode(object) }]);
}
const putValue = (world: World, value: string): Promise<void> =>
  put(world, '/registry/configmaps/default/write', {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'write', namespace: 'default', uid: 'write' },
    data: { value },
  });
/** Controllers that would put things right are stopped first. */
const withoutControllers = (world: World): Promise<void> => world.cluster.restartControllers('1h');
const podsOf = (world: World): Pod[] => [...world.of(kinds.Pod)];

/** What is there, in `default`. */
function known<T extends KubeObject>(world: World, kind: KindRef<T>, name: string): T {
  const object = world.get(kind, name, 'default');
  assert.ok(object, `${kind.kind} ${name}`);
  return object;
}

/** The node that runs the first Pod. */
const nodeOfFirst = (world: World): string => {
  const name = podsOf(world)[0]?.spec.nodeName;
  assert.ok(name);
  return name;
};

interface Tampering {
  list?(list: TestJson, request: TransportRequest): TestJson;
  query?(query: URLSearchParams): void;
  event?(event: WatchEvent): TestJson | undefined;
}

/** What list-equals-watch says about an API server that answers wrongly once the bug is in. */
function tampered({ list, query, event }: Tampering, act: (world: World) => Promise<void>): Promise<string[]> {
  let on = false;
  const asked = (request: TransportRequest): TransportRequest => {
    if (!on || query === undefined || request.query === undefined) return request;
    const changed = new URLSearchParams(request.query);
    query(changed);
    return { ...request, query: changed };
  };
  return watching(
    listEqualsWatch(),
    async (cluster) => {
      const connect = cluster.connect.bind(cluster);
      cluster.connect = (userAgent) => {
        const connection = connect(userAgent);
        const { network } = connection;
        const [send, watch] = [network.send.bind(network), network.watch.bind(network)];
        network.send = async (request) => {
          const answer: TestJson = await send(asked(request));
          return on && list !== undefined && Array.isArray(answer['items']) ? list(answer, request) : answer;
        };
        network.watch = (request) => {
          const events = watch(asked(request))[Symbol.asyncIterator]();
          const next = async (): Promise<IteratorResult<WatchEvent[]>> => {
            const result = await events.next();
            if (!on || event === undefined || result.done === true) return result;
            const value = result.value.flatMap((each) => {
              const object = event(each);
              return object === undefined ? [] : [{ ...each, object }];
            });
            return value.length === 0 ? next() : { done: false, value };
          };
          return { [Symbol.asyncIterator]: () => ({ next, return: () => events.return!() }) };
        };
        return connection;
      };
      await cluster.client.create(kinds.Deployment, workload('Deployment'));
    },
    async (world) => {
      on = true;
      await act(world);
      await world.cluster.advance('1s');
    },
    300,
  );
}

const unseen = async (world: World): Promise<void> => {
  await world.cluster.client.create(kinds.ConfigMap, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'unseen', namespace: 'default' },
  });
};

const quota = (what: string, limit: string): TestJson => ({
  apiVersion: 'v1',
  kind: 'ResourceQuota',
  metadata: { name: 'q', namespace: 'default' },
  spec: { hard: { [what]: limit } },
});
const serviceOf = (name: string): TestJson => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { type: 'ClusterIP', selector: { app: 'app' }, ports: [{ port: 80 }] },
});

const budgetKey = '/registry/policy/poddisruptionbudgets/default/b';

/** What budgets-kept says of two Pods of which one must stay, once the controllers are stopped and the bug is in. */
function withBudget(bug: (world: World, budget: PodDisruptionBudget) => Promise<void>): Promise<string[]> {
  return watching(
    budgetsKept(),
    async ({ client }) => {
      await client.create(kinds.Deployment, workload('Deployment'));
      await client.create(kinds.PodDisruptionBudget, {
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'b', namespace: 'default' },
        spec: { minAvailable: 1, selector: { matchLabels: { app: 'app' } } },
      });
    },
    async (world) => {
      await withoutControllers(world);
      await bug(world, known(world, kinds.PodDisruptionBudget, 'b'));
    },
  );
}

/** What lost-nodes says of a Deployment, one of whose nodes has been lost for some seconds when the bug comes. */
function lostFor(seconds: number, bug: (world: World) => Promise<void>): Promise<string[]> {
  return watching(
    lostNodes(),
    async ({ client }) => {
      await client.create(kinds.Deployment, workload('Deployment'));
    },
    async (world) => {
      world.cluster.nodes.kill(nodeOfFirst(world));
      await pass(world, seconds);
      assert.deepEqual(world.violations, []);
      await bug(world);
    },
  );
}

async function pass(world: World, seconds: number): Promise<void> {
  for (let at = 0; at < seconds; at++) {
    await world.cluster.advance('1s');
    await during(world.cluster, world.tick());
  }
}

const jobKey = '/registry/batch/jobs/default/j';

/**
 * What jobs-exact says of a Job whose Pods end well after a time, once the controllers are stopped and the bug is in.
 */
function withJob(spec: TestJson, exitAfter: string, bug: (world: World, job: Job) => Promise<void>): Promise<string[]> {
  return watching(
    jobsExact(),
    async (cluster) => {
      cluster.scripts.add({ selector: 'job-name=j', script: { exitAfter } });
      await cluster.client.create(kinds.Job, {
        apiVersion: 'batch/v1',
        kind: 'Job',
        metadata: { name: 'j', namespace: 'default' },
        spec: { ...spec, template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } } },
      });
    },
    async (world) => {
      await withoutControllers(world);
      await bug(world, known(world, kinds.Job, 'j'));
    },
  );
}

async function secondPod(world: World, job: Job): Promise<void> {
  await put(world, '/registry/pods/default/second', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'second',
      namespace: 'default',
      uid: 'second',
      ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name: 'j', uid: job.metadata.uid, controller: true }],
    },
    spec: { containers: [] },
    status: {},
  });
}

/** The controllers ask for a Pod's deletion. */
async function takeDown(world: World, name: string): Promise<void> {
  await world.cluster.networks.controllers.send({
    method: 'DELETE',
    path: `/api/v1/namespaces/default/pods/${name}`,
    body: {},
  });
}

const cases: Record<string, () => Promise<string[]>> = {
  'revisions-grow: a commit comes with an old revision': () =>
    watching(revisionsGrow(), none, async (world) => {
      world.revision = 1_000_000;
      await put(world, '/registry/configmaps/default/x', {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'x', namespace: 'default' },
      });
    }),
  'revisions-grow: a key is committed twice at one revision': () =>
    about(
      /committed twice/,
      watching(revisionsGrow(), none, async ({ cluster: { store } }) => {
        const value = encode({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x', namespace: 'default' } });
        await store.txn(
          [],
          [
            { type: 'put', key: '/registry/configmaps/default/x', value },
            { type: 'put', key: '/registry/configmaps/default/x', value },
          ],
        );
      }),
    ),
  ...Object.fromEntries(
    (
      [
        ['a generation falls', /fell from 1 to 0/, { generation: 0 }],
        ['an object turns into another', /turned from/, { uid: 'other' }],
        ['an object was made at another time', /was made at/, { creationTimestamp: '2025-01-01T00:00:00Z' }],
      ] as const
    ).map(([bug, claim, change]) => [
      `revisions-grow: ${bug}`,
      () =>
        about(
          claim,
          watching(
            revisionsGrow(),
            async ({ client }) => {
              await client.create(kinds.Deployment, workload('Deployment'));
            },
            async (world) => {
              const deployment = [...world.of(kinds.Deployment)][0]!;
              await put(world, '/registry/apps/deployments/default/app', {
                ...deployment,
                metadata: { ...deployment.metadata, ...change },
              });
            },
          ),
        ),
    ]),
  ),
  'list-equals-watch: a watch loses an event': () =>
    tampered({ event: ({ object }) => (object.metadata.name === 'unseen' ? undefined : object) }, unseen),
  'list-equals-watch: a list leaves an object out': () =>
    tampered(
      {
        list: (list) => ({
          ...list,
          items: list['items'].filter(({ metadata }: TestJson) => metadata.name !== 'unseen'),
        }),
      },
      unseen,
    ),
  'list-equals-watch: pages show the world as it goes on': () =>
    tampered(
      {
        list: (list, { query }) =>
          query?.get('continue') == null
            ? list
            : {
                ...list,
                metadata: { ...list.metadata, resourceVersion: String(Number(list.metadata.resourceVersion) + 1) },
              },
      },
      none,
    ),
  'list-equals-watch: an exact list shows the present': () =>
    tampered(
      {
        query: (query) => {
          if (query.get('resourceVersionMatch') === 'Exact') {
            query.delete('resourceVersion');
            query.delete('resourceVersionMatch');
          }
        },
      },
      none,
    ),
  'list-equals-watch: a list that is not older is older': () =>
    tampered(
      {
        list: (list, { query }) =>
          query?.get('resourceVersionMatch') === 'NotOlderThan'
            ? { ...list, metadata: { ...list.metadata, resourceVersion: '1' } }
            : list,
      },
      none,
    ),
  'list-equals-watch: a watch from an older revision begins now': () =>
    tampered(
      {
        query: (query) => {
          if (query.get('watch') === 'true') query.delete('resourceVersion');
        },
      },
      none,
    ),
  'list-equals-watch: a selector is not heeded': () =>
    tampered(
      {
        query: (query) => {
          query.delete('labelSelector');
          query.delete('fieldSelector');
        },
      },
      none,
    ),
  'list-equals-watch: a bookmark is older than an event before it': () =>
    tampered(
      {
        event: ({ type, object }) =>
          type === 'BOOKMARK' ? { ...object, metadata: { ...object.metadata, resourceVersion: '1' } } : object,
      },
      none,
    ),
  'list-equals-watch: an object is listed as nobody wrote it': () =>
    tampered(
      {
        list: (list) => ({
          ...list,
          items: list['items'].map((object: TestJson) => (object.kind === 'Node' ? { ...object, spec: {} } : object)),
        }),
      },
      none,
    ),
  'work-bounded: an owner makes Pods without pause': () =>
    about(
      /more than 100 Pods within a minute/,
      watching(workBounded(), none, async (world) => {
        for (let i = 0; i <= 100; i++)
          await put(world, `/registry/pods/default/p-${i}`, {
            apiVersion: 'v1',
            kind: 'Pod',
            metadata: {
              name: `p-${i}`,
              namespace: 'default',
              uid: `p-${i}`,
              ownerReferences: [{ apiVersion: 'apps/v1', kind: 'DaemonSet', name: 'd', uid: 'd', controller: true }],
            },
            spec: { containers: [{ name: 'c', image: 'i' }] },
          });
      }),
    ),
  'finalizers-honoured: an object goes with its finalizers': () =>
    watching(
      finalizersHonoured(),
      async ({ client }) => {
        await client.create(kinds.ConfigMap, {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'held', namespace: 'default', finalizers: ['example.com/hold'] },
        });
      },
      async (world) => {
        await world.cluster.store.txn([], [{ type: 'delete', key: '/registry/configmaps/default/held' }]);
      },
    ),
  'finalizers-honoured: a Namespace goes before it is emptied': () =>
    about(
      /spec kubernetes/,
      watching(finalizersHonoured(), none, async (world) => {
        await world.cluster.store.txn([], [{ type: 'delete', key: '/registry/namespaces/default' }]);
      }),
    ),
  ...Object.fromEntries(
    (
      [
        ['what is being deleted is not any more', /is not any more/, { deletionTimestamp: undefined }],
        ['a deletion is put off', /was put off/, { deletionTimestamp: '2036-01-01T00:00:00Z' }],
        [
          'what is being deleted gets a finalizer',
          /got finalizer example.com\/late/,
          { finalizers: ['example.com/hold', 'example.com/late'] },
        ],
      ] as [string, RegExp, TestJson][]
    ).map(([bug, claim, change]) => [
      `finalizers-honoured: ${bug}`,
      () =>
        about(
          claim,
          watching(
            finalizersHonoured(),
            async ({ client }) => {
              await client.create(kinds.ConfigMap, {
                apiVersion: 'v1',
                kind: 'ConfigMap',
                metadata: { name: 'held', namespace: 'default', finalizers: ['example.com/hold'] },
              });
              await client.delete(kinds.ConfigMap, 'held', 'default');
            },
            async (world) => {
              const held = known(world, kinds.ConfigMap, 'held');
              await put(world, '/registry/configmaps/default/held', {
                ...held,
                metadata: { ...held.metadata, ...change },
              });
            },
          ),
        ),
    ]),
  ),
  'identities-unique: a Pod is forced away while its node is cut off and runs on': () =>
    watching(
      identitiesUnique(),
      async ({ client }) => {
        await client.create(kinds.StatefulSet, workload('StatefulSet', { replicas: 1 }));
      },
      async (world) => {
        const node = nodeOfFirst(world);
        world.cluster.nodes.partition(node);
        await world.cluster.client.patch(kinds.Node, { name: node }, { merge: { spec: { unschedulable: true } } });
        await world.cluster.client.delete(kinds.Pod, 'app-0', 'default', { gracePeriodSeconds: 0 });
        await world.cluster.advance('10s');
      },
    ),
  'rollout-bounds: a ReplicaSet grows beyond the surge': () =>
    watching(
      rolloutBounds(),
      async ({ client }) => {
        await client.create(kinds.Deployment, workload('Deployment'));
      },
      async (world) => {
        const set = [...world.of(kinds.ReplicaSet)][0]!;
        await world.cluster.client.patch(
          kinds.ReplicaSet,
          { name: set.metadata.name, namespace: 'default' },
          { merge: { spec: { replicas: 9 } } },
        );
      },
    ),
  'rollout-bounds: a ReplicaSet shrinks below what must stay available': () =>
    about(
      /shrank from 2 to 0/,
      watching(
        rolloutBounds(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment'));
        },
        async (world) => {
          await world.cluster.client.patch(
            kinds.ReplicaSet,
            { name: [...world.of(kinds.ReplicaSet)][0]!.metadata.name, namespace: 'default' },
            { merge: { spec: { replicas: 0 } } },
          );
        },
      ),
    ),
  'rollout-bounds: a Deployment that recreates begins before the old Pods have ended': () =>
    about(
      /its Deployment recreates/,
      watching(
        rolloutBounds(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment', { strategy: { type: 'Recreate' } }));
        },
        async (world) => {
          await withoutControllers(world);
          const set = [...world.of(kinds.ReplicaSet)][0]!;
          await put(world, '/registry/apps/replicasets/default/app-new', {
            ...set,
            metadata: { ...set.metadata, name: 'app-new', uid: 'new' },
            spec: {
              ...set['spec'],
              template: { ...set['spec'].template, metadata: { labels: { app: 'app', 'pod-template-hash': 'new' } } },
            },
          });
        },
      ),
    ),
  'rollout-bounds: a ReplicaSet makes a Pod too many': () =>
    about(
      /is one of 3, its ReplicaSet was asked for 2/,
      watching(
        rolloutBounds(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment'));
        },
        async (world) => {
          const pod = podsOf(world)[0]!;
          await put(world, '/registry/pods/default/third', {
            ...pod,
            metadata: { ...pod.metadata, name: 'third', uid: 'third' },
          });
        },
      ),
    ),
  'updates-ordered: a StatefulSet takes a Pod down that nothing is wrong with': () =>
    watching(
      updatesOrdered(),
      async ({ client }) => {
        await client.create(kinds.StatefulSet, workload('StatefulSet'));
      },
      (world) => takeDown(world, 'app-1'),
    ),
  'updates-ordered: a StatefulSet updates from below': () =>
    watching(
      updatesOrdered(),
      async ({ client }) => {
        await client.create(
          kinds.StatefulSet,
          workload('StatefulSet', { updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 5 } } }),
        );
      },
      async (world) => {
        await withoutControllers(world);
        const revision = [...world.of(kinds.ControllerRevision)][0]!;
        await put(world, '/registry/apps/controllerrevisions/default/app-new', {
          ...revision,
          metadata: { ...revision.metadata, name: 'app-new', uid: 'new', labels: {} },
          revision: 2,
        });
        await world.cluster.client.patch(
          kinds.StatefulSet,
          { name: 'app', namespace: 'default' },
          { merge: { spec: { updateStrategy: { rollingUpdate: { partition: 0 } } } } },
        );
        await takeDown(world, 'app-0');
      },
    ),
  'updates-ordered: a StatefulSet updates below its partition': () =>
    watching(
      updatesOrdered(),
      async ({ client }) => {
        await client.create(
          kinds.StatefulSet,
          workload('StatefulSet', { updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 2 } } }),
        );
      },
      async (world) => {
        await world.cluster.client.patch(
          kinds.StatefulSet,
          { name: 'app', namespace: 'default' },
          { strategic: { spec: { template: { spec: { containers: [{ name: 'c', image: 'new' }] } } } } },
        );
        await pass(world, 10);
        await takeDown(world, 'app-1');
      },
    ),
  'updates-ordered: a StatefulSet makes a Pod before those below it': () =>
    about(
      /was made before/,
      watching(
        updatesOrdered(),
        async ({ client }) => {
          await client.create(kinds.StatefulSet, workload('StatefulSet'));
        },
        async (world) => {
          await withoutControllers(world);
          const pod = podsOf(world)[0]!;
          await put(world, '/registry/pods/default/app-3', {
            ...pod,
            metadata: { ...pod.metadata, name: 'app-3', uid: 'third' },
          });
        },
      ),
    ),
  'updates-ordered: a DaemonSet takes down two at a time': () =>
    watching(
      updatesOrdered(),
      async ({ client, scripts }) => {
        scripts.add({ selector: 'app=agent', script: { readyAfter: '1m' } });
        await client.create(kinds.DaemonSet, daemonSet());
      },
      async (world) => {
        await world.cluster.client.patch(
          kinds.DaemonSet,
          { name: 'agent', namespace: 'default' },
          { strategic: { spec: { template: { spec: { containers: [{ name: 'c', image: 'new' }] } } } } },
        );
        await pass(world, 10);
        await takeDown(
          world,
          podsOf(world).find(({ metadata }) => metadata.deletionTimestamp === undefined)!.metadata.name,
        );
      },
    ),
  'budgets-kept: an eviction is granted that the budget does not allow': () =>
    about(
      /where 0 were allowed/,
      withBudget(async (world, budget) => {
        await put(world, budgetKey, { ...budget, status: { ...budget.status, disruptionsAllowed: 0 } });
        await put(world, budgetKey, {
          ...budget,
          status: { ...budget.status, disruptedPods: { 'app-x': '2026-01-01T00:00:00Z' } },
        });
      }),
    ),
  'budgets-kept: evictions in a row leave too few': () =>
    about(
      /0 healthy Pods are left, 1 are wanted/,
      withBudget(async (world, budget) => {
        const [one, two] = podsOf(world).map(({ metadata }) => metadata.name) as [string, string];
        const status = { ...budget.status, disruptionsAllowed: 5, disruptedPods: { [one]: '2026-01-01T00:00:00Z' } };
        await put(world, budgetKey, { ...budget, status });
        await put(world, budgetKey, {
          ...budget,
          status: { ...status, disruptedPods: { ...status.disruptedPods, [two]: '2026-01-01T00:00:00Z' } },
        });
      }),
    ),
  'budgets-kept: the status forgets a Pod': () =>
    about(
      /the status of b is/,
      withBudget(async (world, budget) => {
        await put(world, budgetKey, { ...budget, status: { ...budget.status, currentHealthy: 1 } });
      }),
    ),
  ...Object.fromEntries(
    (
      [
        [
          'a node is tainted',
          /taint mine:NoSchedule/,
          {},
          { spec: { taints: [{ key: 'mine', effect: 'NoSchedule' }] } },
        ],
        ['a node lacks a label', /its disk is not fast/, { nodeSelector: { disk: 'fast' } }, {}],
        [
          'a node is full',
          /has 8 cpu, its Pods ask for 9/,
          { containers: [{ resources: { requests: { cpu: '9' } } }] },
          {},
        ],
        [
          'a Pod is there that it shuns',
          /which it shuns/,
          {
            affinity: {
              podAntiAffinity: {
                requiredDuringSchedulingIgnoredDuringExecution: [
                  { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'app' } } },
                ],
              },
            },
          },
          {},
        ],
        [
          'the Pods of its kind are not spread',
          /has 2 of its kind, the emptiest 0/,
          {
            topologySpreadConstraints: [
              {
                maxSkew: 1,
                whenUnsatisfiable: 'DoNotSchedule',
                topologyKey: 'kubernetes.io/hostname',
                labelSelector: { matchLabels: { app: 'mine' } },
              },
            ],
          },
          {},
        ],
        ['the node is not there', /which is not there/, { nodeName: 'nowhere' }, {}],
      ] as const
    ).map(([bug, claim, spec, node]) => [
      `places-right: ${bug}`,
      () =>
        about(
          claim,
          watching(
            placesRight(),
            async ({ client }) => {
              await client.create(kinds.Deployment, workload('Deployment'));
            },
            async (world) => {
              await put(world, '/registry/nodes/node-0', { ...world.objects.get('/registry/nodes/node-0')!, ...node });
              await pass(world, 5);
              for (const name of ['one', 'two']) {
                const pod = {
                  apiVersion: 'v1',
                  kind: 'Pod',
                  metadata: { name, namespace: 'default', uid: name, labels: { app: 'mine' } },
                  spec: { containers: [], ...spec, nodeName: undefined },
                  status: {},
                };
                await put(world, `/registry/pods/default/${name}`, pod);
                await put(world, `/registry/pods/default/${name}`, {
                  ...pod,
                  spec: {
                    containers: [],
                    nodeName: nodeOfFirst(world),
                    ...(bug === 'a node is tainted' ? { nodeName: 'node-0' } : {}),
                    ...spec,
                  },
                });
              }
            },
          ),
        ),
    ]),
  ),
  'lost-nodes: a StatefulSet replaces a Pod whose node may still run it': () =>
    about(
      /may run it/,
      watching(
        lostNodes(),
        async ({ client }) => {
          await client.create(kinds.StatefulSet, workload('StatefulSet'));
        },
        async (world) => {
          world.cluster.nodes.partition(nodeOfFirst(world));
          await pass(world, 10);
          await world.cluster.store.txn([], [{ type: 'delete', key: '/registry/pods/default/app-0' }]);
        },
      ),
    ),
  'lost-nodes: Pods of a lost node stay': () =>
    about(
      /still counts on/,
      lostFor(500, async (world) => {
        // Whatever is made not to count any more counts again.
        for (const [key, pod] of [...world.objects])
          if (isOf(kinds.Pod, pod) && pod.metadata.deletionTimestamp !== undefined) {
            const { deletionTimestamp: _gone, ...metadata } = pod.metadata;
            await put(world, key, { ...pod, metadata });
          }
      }),
    ),
  'lost-nodes: Pods of a lost node are not replaced': () =>
    about(
      /others were lost with/,
      watching(
        lostNodes(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment'));
        },
        async (world) => {
          const { controllers } = world.cluster.networks;
          const send = controllers.send.bind(controllers);
          controllers.send = (request) =>
            request.method === 'POST' && request.path.endsWith('/pods') ? new Promise(() => undefined) : send(request);
          world.cluster.nodes.kill(nodeOfFirst(world));
          await pass(world, 500);
        },
      ),
    ),
  ...Object.fromEntries(
    (
      [
        [
          'a status is behind its specification',
          /its status of 0/,
          'apps/statefulsets',
          (object: TestJson) => ({ ...object, status: { ...object['status'], observedGeneration: 0 } }),
        ],
        [
          'a ReplicaSet counts wrongly',
          /says 2 replicas, 1 ready/,
          'apps/replicasets',
          (object: TestJson) => ({ ...object, status: { ...object['status'], readyReplicas: 1 } }),
        ],
        [
          'a Deployment that is whole is not called available',
          /is not called available/,
          'apps/deployments',
          (object: TestJson) => ({ ...object, status: { ...object['status'], conditions: [] } }),
        ],
        [
          'a Deployment that is whole is called progressing',
          /is called ReplicaSetUpdated/,
          'apps/deployments',
          (object: TestJson) => ({
            ...object,
            status: { ...object['status'], conditions: [{ type: 'Progressing', reason: 'ReplicaSetUpdated' }] },
          }),
        ],
        [
          'a claim is not bound',
          /runs without its claim/,
          'persistentvolumeclaims',
          (object: TestJson) => ({ ...object, status: { phase: 'Pending' } }),
        ],
        [
          "a claim has another one's volume",
          /is bound to/,
          'persistentvolumeclaims',
          (object: TestJson) => ({ ...object, spec: { ...object['spec'], volumeName: 'nothing' } }),
        ],
      ] as const
    ).map(([bug, claim, resource, change]) => [
      `status-settled: ${bug}`,
      () =>
        about(
          claim,
          watching(
            statusSettled(),
            async ({ client }) => {
              await client.create(kinds.Deployment, workload('Deployment'));
              await client.create(
                kinds.StatefulSet,
                workload('StatefulSet', {
                  volumeClaimTemplates: [
                    {
                      metadata: { name: 'data' },
                      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
                    },
                  ],
                }),
              );
            },
            async (world) => {
              await withoutControllers(world);
              const [object] = world.ofPath(resource);
              assert.ok(object);
              await put(world, `/registry/${resource}/default/${object.metadata.name}`, change(object));
            },
          ),
        ),
    ]),
  ),
  ...Object.fromEntries(
    (
      [
        ['pods', '0'],
        ['requests.cpu', '50m'],
        ['count/pods', '0'],
      ] as const
    ).map(([what, limit]) => [
      `quotas-kept: a Pod is made past admission (${what})`,
      () =>
        watching(
          quotasKept(),
          async ({ client }) => {
            await client.create(kinds.ResourceQuota, quota(what, limit));
          },
          async (world) => {
            await put(world, '/registry/pods/default/p', {
              apiVersion: 'v1',
              kind: 'Pod',
              metadata: { name: 'p', namespace: 'default', uid: 'p' },
              spec: { containers: [{ resources: { requests: { cpu: '100m' } } }] },
              status: {},
            });
          },
        ),
    ]),
  ),
  'quotas-kept: a Service is made past admission': () =>
    watching(
      quotasKept(),
      async ({ client }) => {
        await client.create(kinds.ResourceQuota, quota('services', '1'));
        // The quota refuses it, or lets it pass: the checker judges.
        await client.create(kinds.Service, serviceOf('one')).catch(() => undefined);
      },
      async (world) => {
        await put(world, '/registry/services/default/x', {
          ...serviceOf('x'),
          metadata: { name: 'x', namespace: 'default', uid: 'x' },
        });
      },
    ),
  'quotas-kept: the status forgets what is used': () =>
    about(
      /says that 5 pods/,
      watching(
        quotasKept(),
        async ({ client }) => {
          await client.create(kinds.ResourceQuota, quota('pods', '9'));
        },
        async (world) => {
          await withoutControllers(world);
          await put(world, '/registry/resourcequotas/default/q', {
            ...known(world, kinds.ResourceQuota, 'q'),
            status: { hard: { pods: '9' }, used: { pods: '5' } },
          });
        },
      ),
    ),
  'addresses-unique: two Pods get one address': () =>
    watching(
      addressesUnique(),
      async ({ client }) => {
        await client.create(kinds.Deployment, workload('Deployment'));
      },
      async (world) => {
        const [one, two] = podsOf(world) as [Pod, Pod];
        await put(world, `/registry/pods/default/${two.metadata.name}`, {
          ...two,
          status: { ...two['status'], podIP: one.status?.podIP },
        });
      },
    ),
  'addresses-unique: a Pod has an address of another node': () =>
    about(
      /its node/,
      watching(
        addressesUnique(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment'));
        },
        async (world) => {
          const pod = podsOf(world)[0]!;
          await put(world, `/registry/pods/default/${pod.metadata.name}`, {
            ...pod,
            status: { ...pod['status'], podIP: '10.200.0.1' },
          });
        },
      ),
    ),
  'addresses-unique: two nodes have one range': () =>
    about(
      /both have the range/,
      watching(addressesUnique(), none, async (world) => {
        const [one, two] = world.of(kinds.Node);
        assert.ok(one && two);
        await put(world, `/registry/nodes/${two.metadata.name}`, {
          ...two,
          spec: { ...two['spec'], podCIDR: one['spec'].podCIDR },
        });
      }),
    ),
  'addresses-unique: two Services get one address': () =>
    about(
      /both have serviceips/,
      watching(
        addressesUnique(),
        async ({ client }) => {
          await client.create(kinds.Service, serviceOf('one'));
        },
        async (world) => {
          const one = known(world, kinds.Service, 'one');
          await put(world, '/registry/services/default/two', {
            ...one,
            metadata: { ...one.metadata, name: 'two', uid: 'two' },
          });
        },
      ),
    ),
  'addresses-unique: two Services get one port of the nodes': () =>
    about(
      /both have servicenodeports/,
      watching(
        addressesUnique(),
        async ({ client }) => {
          for (const name of ['one', 'two'])
            await client.create(kinds.Service, {
              ...serviceOf(name),
              spec: { ...serviceOf(name)['spec'], type: 'NodePort' },
            });
        },
        async (world) => {
          const [one, two] = [known(world, kinds.Service, 'one'), known(world, kinds.Service, 'two')];
          await put(world, '/registry/services/default/two', {
            ...two,
            spec: { ...two.spec, ports: one.spec.ports },
          });
        },
      ),
    ),
  'addresses-unique: the allocator keeps what a Service gave back': () =>
    about(
      /is held for default\/one, which does not have it/,
      watching(
        addressesUnique(),
        async ({ client }) => {
          await client.create(kinds.Service, serviceOf('one'));
        },
        async (world) => {
          await world.cluster.store.txn([], [{ type: 'delete', key: '/registry/services/default/one' }]);
        },
      ),
    ),
  'addresses-unique: the allocator forgets what a Service has': () =>
    about(
      /is not held for it/,
      watching(
        addressesUnique(),
        async ({ client }) => {
          await client.create(kinds.Service, serviceOf('one'));
        },
        async (world) => {
          await world.cluster.store.txn(
            [],
            [
              {
                type: 'delete',
                key: `/registry/ranges/serviceips/${textOf(world.objects.get('/registry/services/default/one'), 'spec', 'clusterIP')}`,
              },
            ],
          );
        },
      ),
    ),
  'owners-alive: a dependent is left behind': () =>
    watching(ownersAlive(), none, async (world) => {
      await withoutControllers(world);
      await put(world, '/registry/pods/default/left', {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          name: 'left',
          namespace: 'default',
          uid: 'l',
          ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'gone', uid: 'gone' }],
        },
        spec: { containers: [] },
        status: { phase: 'Failed' },
      });
    }),
  'owners-alive: one of two owners is gone and still named': () =>
    watching(
      ownersAlive(),
      async ({ client }) => {
        await client.create(kinds.Deployment, workload('Deployment'));
      },
      async (world) => {
        await withoutControllers(world);
        const set = [...world.of(kinds.ReplicaSet)][0]!;
        await put(world, `/registry/apps/replicasets/default/${set.metadata.name}`, {
          ...set,
          metadata: {
            ...set.metadata,
            ownerReferences: [
              ...set.metadata.ownerReferences!,
              { apiVersion: 'v1', kind: 'ConfigMap', name: 'gone', uid: 'gone' },
            ],
          },
        });
      },
    ),
  'owners-alive: an object is collected while its owner lives': () =>
    about(
      /is collected while Deployment app lives/,
      watching(
        ownersAlive(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment'));
        },
        async (world) => {
          const { uid, resourceVersion, name } = (await world.cluster.client.list(kinds.ReplicaSet)).items[0]!.metadata;
          await world.cluster.networks.controllers.send({
            method: 'DELETE',
            path: `/apis/apps/v1/namespaces/default/replicasets/${name}`,
            body: { propagationPolicy: 'Background', preconditions: { uid, resourceVersion } },
          });
        },
      ),
    ),
  ...Object.fromEntries(
    (['foregroundDeletion', 'orphan'] as const).map((finalizer) => [
      `owners-alive: an owner goes before its dependents (${finalizer})`,
      () =>
        about(
          finalizer === 'orphan' ? /was to orphan ReplicaSet/ : /goes in the foreground before ReplicaSet/,
          watching(
            ownersAlive(),
            async ({ client }) => {
              await client.create(kinds.Deployment, workload('Deployment'));
            },
            async (world) => {
              const deployment = [...world.of(kinds.Deployment)][0]!;
              await withoutControllers(world);
              await put(world, '/registry/apps/deployments/default/app', {
                ...deployment,
                metadata: {
                  ...deployment.metadata,
                  deletionTimestamp: '2026-01-01T00:00:00Z',
                  finalizers: [finalizer],
                },
              });
              await world.cluster.networks.controllers.send({
                method: 'PATCH',
                path: '/apis/apps/v1/namespaces/default/deployments/app',
                contentType: 'application/merge-patch+json',
                body: { metadata: { uid: deployment.metadata.uid, finalizers: [] } },
              });
            },
          ),
        ),
    ]),
  ),
  'owners-alive: a ReplicaSet with Pods is cleared away': () =>
    about(
      /was removed at size 2/,
      watching(
        ownersAlive(),
        async ({ client }) => {
          await client.create(kinds.Deployment, workload('Deployment'));
        },
        async (world) => {
          await world.cluster.store.txn(
            [],
            [
              {
                type: 'delete',
                key: `/registry/apps/replicasets/default/${[...world.of(kinds.ReplicaSet)][0]!.metadata.name}`,
              },
            ],
          );
        },
      ),
    ),
  'owners-alive: a Namespace goes before what is in it': () =>
    about(
      /Namespace default went before/,
      watching(ownersAlive(), none, async (world) => {
        await world.cluster.store.txn([], [{ type: 'delete', key: '/registry/namespaces/default' }]);
      }),
    ),
  'owners-alive: an object is left in a Namespace that is gone': () =>
    about(
      /its Namespace is gone/,
      watching(ownersAlive(), none, async (world) => {
        await put(world, '/registry/configmaps/nowhere/left', {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'left', namespace: 'nowhere', uid: 'left' },
        });
      }),
    ),
  'jobs-exact: a Job counts a success twice': () =>
    about(
      /counts 2 succeeded, it noted 1/,
      withJob({}, '1s', async (world, job) => {
        await put(world, jobKey, { ...job, status: { ...job.status, succeeded: 2 } });
      }),
    ),
  'jobs-exact: a Job counts a failure too many': () =>
    about(
      /counts 3 failed, it noted 0/,
      withJob({}, '1s', async (world, job) => {
        await put(world, jobKey, { ...job, status: { ...job.status, failed: 3 } });
      }),
    ),
  'jobs-exact: a Pod is noted both ways': () =>
    about(
      /as failed and as the other/,
      withJob({}, '1h', async (world, job) => {
        const pod = podsOf(world)[0]!;
        await put(world, `/registry/pods/default/${pod.metadata.name}`, {
          ...pod,
          metadata: { ...pod.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' },
          status: { ...pod['status'], phase: 'Succeeded' },
        });
        await put(world, jobKey, {
          ...job,
          status: {
            ...job.status,
            uncountedTerminatedPods: { succeeded: [pod.metadata.uid], failed: [pod.metadata.uid] },
          },
        });
      }),
    ),
  'jobs-exact: a Pod that runs is noted as succeeded': () =>
    about(
      /as succeeded, which it has not/,
      withJob({}, '1h', async (world, job) => {
        await put(world, jobKey, {
          ...job,
          status: { ...job.status, uncountedTerminatedPods: { succeeded: [podsOf(world)[0]!.metadata.uid] } },
        });
      }),
    ),
  'jobs-exact: a Job ends before its Pod is counted': () =>
    about(
      /has not counted Pod/,
      withJob({}, '1h', async (world, job) => {
        await put(world, jobKey, {
          ...job,
          status: { conditions: [{ type: 'Failed', status: 'True', reason: 'DeadlineExceeded' }] },
        });
      }),
    ),
  'jobs-exact: a Job ends while Pods run': () =>
    about(
      /ended with 1 active/,
      withJob({}, '1h', async (world, job) => {
        await put(world, jobKey, {
          ...job,
          status: { active: 1, conditions: [{ type: 'Failed', status: 'True', reason: 'DeadlineExceeded' }] },
        });
      }),
    ),
  'jobs-exact: a Job is complete too early': () =>
    about(
      /is called complete with 0 of 1/,
      withJob({}, '1h', async (world, job) => {
        await put(world, jobKey, {
          ...job,
          status: { conditions: [{ type: 'Complete', status: 'True', reason: 'CompletionsReached' }] },
        });
      }),
    ),
  'jobs-exact: a Job gives up too early': () =>
    about(
      /has failed after 0 failures, its limit is 6/,
      withJob({}, '1h', async (world, job) => {
        await put(world, jobKey, {
          ...job,
          status: { conditions: [{ type: 'FailureTarget', status: 'True', reason: 'BackoffLimitExceeded' }] },
        });
      }),
    ),
  'jobs-exact: a Pod starts after the end': () => about(/was made after the end/, withJob({}, '1s', secondPod)),
  'jobs-exact: more Pods run than may': () => about(/runs 2 Pods, its parallelism is 1/, withJob({}, '1h', secondPod)),
  'jobs-exact: an index is complete without a Pod': () =>
    about(
      /calls index 1 complete/,
      withJob({ completionMode: 'Indexed', completions: 2 }, '1h', async (world, job) => {
        await put(world, jobKey, { ...job, status: { ...job.status, succeeded: 1, completedIndexes: '1' } });
      }),
    ),
  'jobs-exact: a complete index is forgotten': () =>
    about(
      /has forgotten that index 0/,
      withJob({ completionMode: 'Indexed', completions: 1 }, '1s', async (world, job) => {
        await put(world, jobKey, { ...job, status: { ...job.status, completedIndexes: '' } });
      }),
    ),
  'workloads-whole: a node stays down': () =>
    watching(
      workloadsWhole(),
      async ({ client }) => {
        await client.create(kinds.StatefulSet, workload('StatefulSet'));
      },
      async (world) => {
        for (const name of world.cluster.nodes.names()) world.cluster.nodes.kill(name);
        await world.cluster.advance('2m');
      },
    ),
  ...Object.fromEntries(
    (
      [
        [
          'a slice names an address that is gone',
          /is still named/,
          (endpoints: Endpoint[]) => [{ ...endpoints[0], addresses: ['10.9.9.9'] }, endpoints[1]],
        ],
        ['a slice lacks a Pod', /lacks/, (endpoints: Endpoint[]) => endpoints.slice(1)],
        ['a Pod is named twice', /named twice/, (endpoints: Endpoint[]) => [...endpoints, endpoints[0]]],
        [
          'a Pod that is ready is called not ready',
          /is called ready false/,
          (endpoints: Endpoint[]) =>
            endpoints.map((endpoint) => ({ ...endpoint, conditions: { ...endpoint.conditions, ready: false } })),
        ],
        [
          'a slice is too long',
          /holds 102 endpoints/,
          (endpoints: Endpoint[]) => [...endpoints, ...Array.from({ length: 100 }, () => endpoints[0])],
        ],
      ] as const
    ).map(([bug, claim, change]) => [
      `endpoints-true: ${bug}`,
      () =>
        about(
          claim,
          watching(
            endpointsTrue(),
            async ({ client }) => {
              await client.create(kinds.Deployment, workload('Deployment'));
              await client.create(kinds.Service, serviceOf('app'));
            },
            async (world) => {
              await withoutControllers(world);
              const slice = [...world.of(kinds.EndpointSlice)].find(({ metadata }) => metadata.name.startsWith('app-'));
              assert.ok(slice);
              const key = storeKeyOf(kinds.EndpointSlice, slice.metadata.name, 'default');
              await put(world, key, { ...slice, endpoints: change(slice.endpoints ?? []) });
            },
          ),
        ),
    ]),
  ),
  'one-leader: a leader that lost its lease goes on': () => {
    const checker = oneLeader();
    return watching(checker, none, async (world) => {
      const { cluster } = world;
      const { log, clock, random } = cluster;
      const candidates = ['a', 'b'].map((identity) => {
        const { client, network } = cluster.connect(identity);
        void runLeaderElection({
          client,
          clock,
          random,
          log,
          name: 'election',
          namespace: 'default',
          identity,
          signal: new AbortController().signal,
          lead: async () => {
            leading = network;
            checker.started(world, identity);
            await new Promise(() => undefined);
          },
        });
        return network;
      });
      let leading = candidates[0]!;
      await cluster.advance('5s');
      leading.cut();
      await cluster.advance('30s');
    });
  },
  'queues-bounded: a controller keeps keys of what is gone': () =>
    about(
      /queue garbage-collector holds/,
      watching(queuesBounded(0), none, async (world) => {
        const { cluster } = world;
        const names = Array.from({ length: 300 }, (_, at) => `/registry/configmaps/default/gone-${at}`);
        cluster.networks.controllers.faults.requestLoss = 1;
        for (const key of names)
          await put(world, key, {
            apiVersion: 'v1',
            kind: 'ConfigMap',
            metadata: {
              name: key.split('/').at(-1)!,
              namespace: 'default',
              uid: key,
              ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: 'gone', uid: 'gone' }],
            },
          });
        await cluster.advance('1s');
        cluster.networks.controllers.cut();
        for (const key of names) await cluster.store.txn([], [{ type: 'delete', key }]);
      }),
    ),
  'queues-bounded: the scheduler keeps a Pod that is gone': () =>
    about(
      /the scheduler holds 1 Pods; 0 have no node/,
      watching(
        queuesBounded(0),
        async ({ client }) => {
          await client.create(kinds.Pod, homeless());
        },
        async (world) => {
          world.cluster.networks.scheduler.cut();
          await world.cluster.store.txn([], [{ type: 'delete', key: '/registry/pods/default/p' }]);
        },
      ),
    ),
  'queues-bounded: more bindings are under way than may': () =>
    about(
      /1000000 bindings/,
      watching(queuesBounded(), none, async ({ cluster: { scheduler } }) => {
        const stats = scheduler!.stats();
        scheduler!.stats = () => ({ ...stats, binding: 1_000_000 });
      }),
    ),
  'comes-to-rest: something goes on writing': () =>
    about(
      /was written 0 s ago/,
      watching(comesToRest(), none, async (world) => {
        await world.cluster.client.create(kinds.ConfigMap, {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: { name: 'late', namespace: 'default' },
        });
      }),
    ),
  'comes-to-rest: a controller asks again and again for what fails': () =>
    about(
      /was asked for 11 times/,
      watching(comesToRest(), none, async ({ cluster }) => {
        for (let at = 0; at < 12; at++) {
          // It is not there: to have asked is all.
          await cluster.networks.controllers
            .send({ method: 'GET', path: '/api/v1/namespaces/default/configmaps/none' })
            .catch(() => undefined);
          await cluster.advance('1s');
        }
      }),
    ),
  'comes-to-rest: something is still going away': () =>
    about(
      /held is still going away/,
      watching(comesToRest(), none, async (world) => {
        await put(world, '/registry/configmaps/default/held', {
          apiVersion: 'v1',
          kind: 'ConfigMap',
          metadata: {
            name: 'held',
            namespace: 'default',
            uid: 'held',
            deletionTimestamp: '2026-01-01T00:00:00Z',
            finalizers: ['example.com/hold'],
          },
        });
      }),
    ),
  'comes-to-rest: a Pod finds no node': () =>
    about(
      /is still Pending on no node/,
      watching(
        comesToRest(),
        async ({ client }) => {
          await client.create(kinds.Pod, homeless());
        },
        none,
      ),
    ),
  ...Object.fromEntries(
    (
      [
        [
          'a ConfigMap that was acknowledged is lost',
          /write is not there/,
          (checker) => {
            checker.acknowledged('write', 7);
          },
        ],
        [
          'a value that was acknowledged is lost',
          /write was read as 1; 7 was acknowledged/,
          async (checker, world) => {
            await putValue(world, '1');
            checker.acknowledged('write', 7);
          },
        ],
        [
          'what was made is lost',
          /write was made and is not there/,
          (checker) => {
            checker.made('write', 'uid');
          },
        ],
        [
          'what was deleted is back',
          /write was deleted and is there/,
          async (checker, world) => {
            await putValue(world, '1');
            checker.deleted('write', 'write');
          },
        ],
        [
          'one addition overwrites another',
          /holds 1 after 2 additions/,
          async (checker, world) => {
            await putValue(world, '1');
            checker.added('write', true);
            checker.added('write', true);
          },
        ],
        [
          'an addition is made twice',
          /holds 3 after 1 additions and 1/,
          async (checker, world) => {
            await putValue(world, '3');
            checker.added('write', true);
            checker.added('write', undefined);
          },
        ],
        [
          'a read goes back in time',
          /was read at 1 after/,
          async (checker, world) => {
            await putValue(world, '1');
            checker.acknowledged('write', 1);
            await pass(world, 4);
            const send = world.cluster.networks.client.send.bind(world.cluster.networks.client);
            world.cluster.networks.client.send = async (request) => {
              const answer: TestJson = await send(request);
              return { ...answer, metadata: { ...answer.metadata, resourceVersion: '1' } };
            };
            await pass(world, 4);
          },
        ],
      ] as [string, RegExp, (checker: Writes, world: World) => void | Promise<void>][]
    ).map(([bug, claim, act]) => [
      `writes-kept: ${bug}`,
      () => {
        const checker = writesKept();
        return about(
          claim,
          watching(checker, none, async (world) => {
            await act(checker, world);
          }),
        );
      },
    ]),
  ),
};

for (const [name, run] of Object.entries(cases)) {
  test(`a checker fires on its bug - ${name}`, async () => {
    const messages = await run();
    assert.ok(messages.length > 0, 'the checker said nothing');
  });
}
