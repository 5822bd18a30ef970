import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject } from '#base/objects.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { isPodActive, isPodReady } from './pods.ts';
import { PodTally } from './pod-tally.ts';

test('a tally that follows every change counts what a look at all Pods would', () => {
  const random = new SimRandom(3);
  const oneOf = <T>(...values: T[]): T => values[Math.floor(random.float() * values.length)]!;
  const tally = new PodTally([{ key: 'app', operator: 'In', values: ['a'] }], { app: 'a', track: 'new' });
  const pods = new Map<string, KubeObject>();
  for (let change = 0; change < 2000; change++) {
    const key = `default/p${Math.floor(random.float() * 20)}`;
    if (random.float() < 0.2) {
      pods.delete(key);
      tally.remove(key);
    } else {
      const pod: Pod = sampleOf(kinds.Pod, {
        metadata: {
          name: key,
          ...(oneOf(true, false) ? { labels: { app: oneOf('a', 'b'), track: oneOf('old', 'new') } } : {}),
          ...(oneOf(true, false) ? { deletionTimestamp: 'now' } : {}),
        },
        status: {
          phase: oneOf('Pending', 'Running', 'Succeeded', 'Failed'),
          conditions: [{ type: 'Ready', status: oneOf('True', 'False') }],
        },
      });
      pods.set(key, pod);
      tally.put(key, pod);
    }
    const active = [...pods.values()].filter((pod) => pod.metadata.labels?.['app'] === 'a' && isPodActive(pod));
    assert.deepEqual(
      [tally.active, tally.fullyLabeled, tally.ready, tally.strays],
      [
        active.length,
        active.filter(({ metadata }) => metadata.labels!['track'] === 'new').length,
        active.filter(isPodReady).length,
        [...pods.values()].filter(
          ({ metadata }) => metadata.labels?.['app'] !== 'a' && metadata.deletionTimestamp === undefined,
        ).length,
      ],
    );
  }
});
