/** Which server's controllers run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kinds } from '#base/kinds.ts';
import { Metrics } from '#observe/metrics.ts';
import { createCluster, type Cluster } from '#sim/cluster.ts';
import { runControlPlane, type ControlPlane } from './control-plane.ts';

interface Running {
  control: ControlPlane;
  isReady(): boolean;
  /** As `kill -9`: nothing of it reaches the API server any more. */
  kill(): void;
}

function start(cluster: Cluster, identity: string): Running {
  const { client, network } = cluster.connect(identity);
  let isReady = false;
  const control = runControlPlane({
    clientFor: () => client,
    clock: cluster.clock,
    random: cluster.random,
    log: cluster.log,
    identity,
    options: { disabled: ['garbage-collector'] },
    metrics: new Metrics(),
  });
  void control.ready.then(() => {
    isReady = true;
  });
  return { control, isReady: () => isReady, kill: () => network.cut() };
}

const holder = async (cluster: Cluster): Promise<string> =>
  (await cluster.client.get(kinds.Lease, 'tiphys-control-plane', 'kube-system')).spec?.holderIdentity ?? '';

test('a server alone leads at once, also after it was killed; another one waits for the lease to run out', async () => {
  await using cluster = await createCluster({ nodes: 0 });
  await cluster.ready();
  const first = start(cluster, 'a');
  await cluster.settle();
  assert.equal(first.isReady(), true);
  assert.equal(await holder(cluster), 'a');

  const other = start(cluster, 'b');
  await cluster.settle();
  assert.equal(other.isReady(), true, 'it is ready where another leads');
  assert.equal(await holder(cluster), 'a');

  first.kill();
  const again = start(cluster, 'a');
  await cluster.settle();
  assert.equal(again.isReady(), true, 'no time has passed');
  assert.equal(await holder(cluster), 'a');

  again.kill();
  await cluster.advance('10s');
  assert.equal(await holder(cluster), 'a');
  await cluster.advance('15s');
  assert.equal(await holder(cluster), 'b');
  await other.control[Symbol.asyncDispose]();
  assert.equal(await holder(cluster), '', 'who stops in order leaves the lease to others');
});
