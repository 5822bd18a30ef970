/**
 * A StatefulSet gets a revision that crashes. The upgrade must stop at its first Pod, and going back must bring all of
 * them back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds } from 'tiphys/testing';

const manifest = (image: string): string => `
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  replicas: 3
  serviceName: db
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec: { containers: [{ name: db, image: "${image}" }] }
`;

test('a bad revision stops at the first Pod, and the old one comes back', async () => {
  await using cluster = await createCluster({
    nodes: 3,
    // The Pod of the bad image ends with code 1 after a second and is never ready; others are ready after two.
    scripts: [
      {
        selector: 'app=db',
        script: ({ pod }) =>
          pod['spec'].containers[0]?.image === 'db:bad'
            ? { readyAfter: '1m', exitAfter: '1s', exitCode: 1 }
            : { readyAfter: '2s' },
      },
    ],
  });
  const pods = async () => (await cluster.client.list(kinds.Pod, { namespace: 'default' })).items;
  const images = async () => (await pods()).map((pod) => pod.spec.containers[0]?.image);
  await cluster.apply(manifest('db:1'));
  await cluster.advance('1m');

  await cluster.apply(manifest('db:bad'));
  await cluster.advance('1h');
  assert.deepEqual(await images(), ['db:1', 'db:1', 'db:bad']);
  const status = (await pods())[2]?.status?.containerStatuses?.[0];
  assert.equal(status?.state?.waiting?.reason, 'CrashLoopBackOff');
  assert.equal(status.lastState?.terminated?.exitCode, 1);

  await cluster.apply(manifest('db:1'));
  // A Pod that never became ready is not replaced by itself: the documented "forced rollback".
  await cluster.client.delete(kinds.Pod, 'db-2', 'default');
  await cluster.advance('1m');
  assert.deepEqual(await images(), ['db:1', 'db:1', 'db:1']);
  assert.equal((await cluster.client.get(kinds.StatefulSet, 'db', 'default')).status?.readyReplicas, 3);
});
