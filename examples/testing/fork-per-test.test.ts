/**
 * Set a cluster up once, then give each of 1,000 tests a copy of its own. A fork costs well under a millisecond; its
 * processes start on first use.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createCluster, kinds } from 'tiphys/testing';

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: main, image: "web:1" }] }
`;

describe('with a cluster that is set up once', async () => {
  const base = await createCluster({ nodes: 2 });
  before(async () => {
    await base.apply(manifest);
    await base.advance('10s');
  });

  for (const replicas of [1, 4, 9]) {
    test(`scales to ${replicas}`, async () => {
      await using cluster = base.fork();
      await cluster.client.patch(
        kinds.Deployment,
        { name: 'web', namespace: 'default' },
        { merge: { spec: { replicas } } },
      );
      await cluster.advance('30s');
      assert.equal((await cluster.client.get(kinds.Deployment, 'web', 'default')).status?.readyReplicas, replicas);
    });
  }

  test('1,000 forks are 1,000 clusters', async () => {
    for (let index = 0; index < 1_000; index++) {
      await using cluster = base.fork({ seed: index });
      // Only what a test needs runs: here the API server. Controllers, scheduler and nodes start when time is to pass.
      await cluster.client.patch(
        kinds.Deployment,
        { name: 'web', namespace: 'default' },
        { merge: { metadata: { labels: { number: String(index) } } } },
      );
      assert.equal(
        (await cluster.client.get(kinds.Deployment, 'web', 'default')).metadata.labels!['number'],
        String(index),
      );
    }
    assert.equal((await base.client.get(kinds.Deployment, 'web', 'default')).metadata.labels?.['number'], undefined);
  });
});
