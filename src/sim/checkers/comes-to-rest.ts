/** When faults and users stop, the cluster stops too: nothing but leases and events is written any more, and no Pod waits. */
import type { Checker } from '../world.ts';

const quietMs = 60_000;

export function comesToRest(): Checker {
  const name = 'comes-to-rest';
  return {
    name,
    atRest(world) {
      const since = world.cluster.now - world.lastChangeMs;
      if (since < quietMs) world.report(name, `something was written ${Math.round(since / 1000)} s ago`);
      for (const pod of world.of('pods')) {
        const phase = pod['status']?.phase;
        if (pod.metadata.deletionTimestamp !== undefined) world.report(name, `Pod ${pod.metadata.name} is still going away`);
        else if (phase === 'Pending' && pod['spec'].nodeName !== undefined) world.report(name, `Pod ${pod.metadata.name} is still Pending on ${pod['spec'].nodeName}`);
      }
      if (!world.cluster.isIdle()) world.report(name, 'queues are not empty');
    },
  };
}
