/**
 * A HorizontalPodAutoscaler under a day of traffic: quiet at night, a peak at noon. The load is a function of time and
 * of how many share it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds } from 'tiphys/testing';

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec: { containers: [{ name: web, image: shop:1, resources: { requests: { cpu: 200m } } }] }
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: shop }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: shop }
  minReplicas: 2
  maxReplicas: 20
  metrics: [{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 50 } } }]
`;

test('an autoscaler follows a day of traffic and keeps within its bounds', async () => {
  // Thousandths of a core that all Pods need together: 150 at midnight, 1,350 at noon.
  const load = (nowMs: number): number => 750 - 600 * Math.cos((nowMs / 86_400_000) * 2 * Math.PI);
  await using cluster = await createCluster({
    nodes: 3,
    events: false,
    managedFields: false,
    scripts: [
      { selector: 'app=shop', script: { cpu: ({ nowMs }) => load(nowMs) / [...cluster.nodes.running()].length } },
    ],
  });
  await cluster.apply(manifests);
  const byHour: number[] = [];
  for (let hour = 0; hour < 24; hour++) {
    await cluster.advance('1h');
    byHour.push((await cluster.client.get(kinds.Deployment, 'shop', 'default')).spec.replicas ?? 1);
  }
  assert.equal(Math.min(...byHour), 2);
  const peak = Math.max(...byHour);
  assert.ok(peak >= 13 && peak <= 16, byHour.join(' ')); // 1,350 of 100 each
  assert.ok(byHour.indexOf(peak) >= 9 && byHour.indexOf(peak) <= 13, byHour.join(' '));
  assert.ok(byHour[23]! < 5, byHour.join(' '));
});
