/**
 * When faults and users stop, the cluster stops too: nothing but leases and events is written any more, no part asks
 * again and again for what changes nothing or fails, nothing is still going away, no Pod waits, and every queue is
 * empty.
 */
import { kinds } from '#base/kinds.ts';
import type { Checker } from '../world.ts';

const quietMs = 60_000;
/**
 * What keeps failing comes again with growing pauses (up to five minutes): this many in the quiet time are more than
 * that.
 */
const repeatsMax = 10;

export function comesToRest(): Checker {
  const name = 'comes-to-rest';
  /** When each part last asked for what, the newest last. */
  const asked = new Map<string, number[]>();
  return {
    name,
    onRequest(part, { method, path }, world) {
      if (
        (part === 'client' && method === 'GET') ||
        path.includes('/events') ||
        path.startsWith('/apis/coordination.k8s.io/') ||
        path.endsWith('reviews')
      )
        return;
      const what = `${part} ${method} ${path}`;
      const times = [...(asked.get(what) ?? []), world.cluster.now];
      asked.set(what, times.slice(-repeatsMax - 1));
    },
    atRest(world) {
      const { now } = world.cluster;
      const since = now - world.lastChangeMs;
      if (since < quietMs) world.report(name, `something was written ${Math.round(since / 1000)} s ago`);
      for (const [what, times] of asked) {
        const sinceFirst = now - (times[0] ?? -Infinity);
        if (times.length > repeatsMax && sinceFirst < quietMs)
          world.report(
            name,
            `${what} was asked for ${times.length} times in the last ${Math.ceil(sinceFirst / 1000)} s`,
          );
      }
      for (const [key, { metadata }] of world.objects)
        if (metadata.deletionTimestamp !== undefined) world.report(name, `${key} is still going away`);
      for (const { metadata, spec, status } of world.of(kinds.Pod))
        if (status?.phase === 'Pending')
          world.report(name, `Pod ${metadata.name} is still Pending on ${spec.nodeName ?? 'no node'}`);
      if (!world.cluster.isIdle()) world.report(name, 'queues are not empty');
    },
  };
}
