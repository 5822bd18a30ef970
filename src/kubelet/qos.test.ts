/** Limits of containers and Pods, as control groups are told them. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Pod } from '#api/core.v1.ts';
import { cpuQuotaUsMax, memoryLimitBytesMax } from './limits.ts';
import { containerResources, podResources } from './qos.ts';

const podOf = (...limits: Record<string, string>[]): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'p',
    namespace: 'default',
    uid: 'u',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: { containers: limits.map((each, i) => ({ name: `c${i}`, image: 'i', resources: { limits: each } })) },
});

it('limits beyond any machine are whole numbers that kernel and runtime take', () => {
  for (const [memory, cpu] of [
    ['64Ei', '1e300'],
    ['9223372036854775807', '9223372036854775807'],
  ] as const) {
    const pod = podOf({ memory, cpu }, { memory, cpu });
    for (const { memoryLimitBytes, cpuQuotaUs, cpuShares } of [
      containerResources(pod, pod.spec.containers[0]!, 2 ** 30),
      podResources(pod),
    ]) {
      assert.deepEqual([memoryLimitBytes, cpuQuotaUs], [memoryLimitBytesMax, cpuQuotaUsMax]);
      assert.match(JSON.stringify([memoryLimitBytes, cpuQuotaUs, cpuShares]), /^\[\d+,\d+,\d+\]$/);
    }
  }
  const { memoryLimitBytes, cpuQuotaUs } = podResources(podOf({ memory: '10000000.5', cpu: '1u' }));
  assert.deepEqual([memoryLimitBytes, cpuQuotaUs], [10_000_001, 1_000]);
});
