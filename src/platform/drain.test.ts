/** Nodes that are emptied, in a whole cluster in virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '#base/kinds.ts';
import { createCluster, type Cluster } from '#sim/cluster.ts';
import { drainNodes } from '#controllers/drain.ts';
import { drainMsMax } from '#controllers/limits.ts';

const template = (app: string) => ({
  metadata: { labels: { app } },
  spec: { containers: [{ name: 'c', image: 'x' }] },
});
const owner = (app: string, kind: string, spec: object): string =>
  JSON.stringify({
    apiVersion: 'apps/v1',
    kind,
    metadata: { name: app, namespace: 'default' },
    spec: { selector: { matchLabels: { app } }, template: template(app), ...spec },
  });
const budget = (app: string, minAvailable: number): string =>
  JSON.stringify({
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name: app, namespace: 'default' },
    spec: { minAvailable, selector: { matchLabels: { app } } },
  });

async function podsOn(cluster: Cluster, app: string): Promise<string[]> {
  const { items } = await cluster.client.list(kinds.Pod, { labelSelector: `app=${app}` });
  return items.filter(({ status }) => status?.phase === 'Running').map(({ spec }) => spec.nodeName ?? '');
}

async function readyCluster(...manifests: string[]): Promise<{ cluster: Cluster; names: string[] }> {
  const cluster = await createCluster({ nodes: 3 });
  await cluster.ready();
  for (const manifest of manifests) await cluster.apply(manifest);
  const names = (await cluster.client.list(kinds.Node)).items.map(({ metadata }) => metadata.name);
  return { cluster, names };
}

/** Lets virtual time pass until it is done. */
async function pass<T>(cluster: Cluster, work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  await cluster.runUntil(() => isDone, { timeout: '10m' });
  return done;
}

test('Pods move to the nodes that stay, within their budget; those of DaemonSets belong to their node', async () => {
  const { cluster, names } = await readyCluster(
    owner('web', 'Deployment', { replicas: 6 }),
    owner('log', 'DaemonSet', {}),
    budget('web', 5),
  );
  await using _cluster = cluster;
  await cluster.runUntil(async () => (await podsOn(cluster, 'web')).length === 6, { timeout: '5m' });
  const [stays, ...leave] = names as [string, string, string];
  assert.ok((await podsOn(cluster, 'web')).some((node) => node !== stays));
  let fewest = 6;
  const watch = setWatch(cluster, async () => {
    fewest = Math.min(fewest, (await podsOn(cluster, 'web')).length);
  });
  assert.deepEqual(await pass(cluster, drainNodes(cluster.client, cluster.clock, leave)), []);
  watch.end();
  await cluster.runUntil(async () => (await podsOn(cluster, 'web')).length === 6, { timeout: '5m' });
  assert.deepEqual(new Set(await podsOn(cluster, 'web')), new Set([stays]));
  assert.ok(fewest >= 5, `${fewest} at the least`);
  assert.deepEqual((await podsOn(cluster, 'log')).sort(), [...names].sort());
});

test('a budget that allows nothing is waited for, and no longer than that; what stays is told', async () => {
  const { cluster, names } = await readyCluster(owner('web', 'Deployment', { replicas: 3 }), budget('web', 3));
  await using _cluster = cluster;
  await cluster.runUntil(async () => (await podsOn(cluster, 'web')).length === 3, { timeout: '5m' });
  const begunMs = cluster.clock.monotonic();
  const left = await pass(cluster, drainNodes(cluster.client, cluster.clock, names));
  assert.equal(left.length, 3);
  assert.ok(cluster.clock.monotonic() - begunMs >= drainMsMax);
  assert.equal((await podsOn(cluster, 'web')).length, 3);
});

test('a node that the cluster does not know is empty', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  await cluster.ready();
  assert.deepEqual(await pass(cluster, drainNodes(cluster.client, cluster.clock, ['none'])), []);
});

/** Looks at each change of a Pod. */
function setWatch(cluster: Cluster, look: () => Promise<void>): { end(): void } {
  const stop = new AbortController();
  void (async () => {
    for await (const _event of cluster.client.watch(kinds.Pod, { signal: stop.signal })) await look();
  })().catch(() => {
    /* the end of the watch */
  });
  return { end: () => stop.abort() };
}
