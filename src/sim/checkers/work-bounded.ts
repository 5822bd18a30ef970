/**
 * No controller goes round in circles: however Pods end, their owner does not get new ones without pause (each has a
 * back-off, or a reason to stop). Controllers that do not know yet that a node is under pressure cannot taint it, and a
 * ReplicaSet then goes on giving it Pods, which it refuses - as in Kubernetes.
 */
import type { Checker } from '../world.ts';

const podsPerMinuteMax = 100;

export function workBounded(): Checker {
  const name = 'work-bounded';
  const made = new Map<string, number>();
  let minute = 0;
  return {
    name,
    onCommit({ key, object, previous, atMs }, world) {
      if (
        !key.startsWith('/registry/pods/') ||
        object === undefined ||
        previous !== undefined ||
        !world.isInTouch('controllers')
      )
        return;
      const now = Math.floor(atMs / 60_000);
      if (now !== minute) {
        made.clear();
        minute = now;
      }
      const owner = object.metadata.ownerReferences?.find(({ controller }) => controller === true);
      if (owner === undefined) return;
      const count = (made.get(owner.uid) ?? 0) + 1;
      made.set(owner.uid, count);
      if (count > podsPerMinuteMax)
        world.report(name, `${owner.kind} ${owner.name} got more than ${podsPerMinuteMax} Pods within a minute`);
    },
  };
}
