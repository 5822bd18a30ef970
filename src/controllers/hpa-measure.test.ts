import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Scale } from '#api/autoscaling.v1.ts';
import type { HorizontalPodAutoscaler, MetricSpec } from '#api/autoscaling.v2.ts';
import { kinds } from '#base/kinds.ts';
import type { Client } from '#client/client.ts';
import { sampleOf } from '#base/testing.ts';
import { MetricReader } from './hpa-measure.ts';

test('metrics are asked for by their own selectors, and by the resource of the object that is described', async () => {
  const asked: string[] = [];
  const client = {
    raw: async (_method: string, path: string) => {
      asked.push(path);
      return { items: [{ value: '5' }] };
    },
  } as unknown as Client;
  const metric = { name: 'depth', selector: { matchLabels: { queue: 'mail' } } };
  const target = { type: 'Value', value: '5' };
  const object = (kind: string, apiVersion?: string): MetricSpec => ({
    type: 'Object',
    object: { metric, target, describedObject: { kind, name: 'shop', ...(apiVersion ? { apiVersion } : {}) } },
  });
  const hpa: HorizontalPodAutoscaler = sampleOf(kinds.HorizontalPodAutoscaler, {
    metadata: { name: 'a', namespace: 'ns' },
    spec: {
      scaleTargetRef: { kind: 'Deployment', name: 'web', apiVersion: 'apps/v1' },
      maxReplicas: 9,
      metrics: [
        { type: 'External', external: { metric, target } },
        { type: 'External', external: { metric: { name: 'all' }, target } },
        { type: 'Pods', pods: { metric, target: { type: 'AverageValue', averageValue: '5' } } },
        object('Service'),
        object('Ingress', 'networking.k8s.io/v1'),
        object('Namespace'),
      ],
    },
  });
  const scale: Scale = {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {},
    spec: {},
    status: { replicas: 1, selector: 'app=web' },
  };
  const { error } = await new MetricReader(client).recommend({ hpa, scale, pods: [], currentReplicas: 1, nowMs: 0 });
  assert.equal(error, undefined);
  const custom = '/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns';
  const only = 'metricLabelSelector=queue%3Dmail';
  assert.deepEqual(asked, [
    '/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/depth?labelSelector=queue%3Dmail',
    '/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/all',
    `${custom}/pods/*/depth?labelSelector=app%3Dweb&${only}`,
    `${custom}/services/shop/depth?${only}`,
    `${custom}/ingresses.networking.k8s.io/shop/depth?${only}`,
    `${custom}/metrics/depth?${only}`,
  ]);
});
