/** Roll-outs keep their bounds: ReplicaSets together never ask for more than replicas + surge (a change of either may take a moment). */
import type { KubeObject } from '#base/objects.ts';
import { rollingBounds } from '#controllers/deployment-rolling.ts';
import type { Checker } from '../world.ts';

export function rolloutBounds(): Checker {
  const name = 'rollout-bounds';
  /** The most that each Deployment ever allowed: sizes shrink step by step after it does. */
  const allowed = new Map<string, number>();
  return {
    name,
    onCommit({ object, key }, world) {
      if (object?.kind === 'Deployment') {
        const most = (object['spec'].replicas ?? 1) + rollingBounds(object).maxSurge;
        allowed.set(object.metadata.uid!, Math.max(allowed.get(object.metadata.uid!) ?? 0, most));
      }
      if (object?.kind !== 'ReplicaSet' || !key.startsWith('/registry/apps/replicasets/')) return;
      const owner = object.metadata.ownerReferences?.find(({ controller }) => controller === true);
      if (owner === undefined) return;
      let total = 0;
      for (const other of world.of('apps/replicasets') as Iterable<KubeObject>) {
        if (other.metadata.ownerReferences?.some(({ uid }) => uid === owner.uid) === true) total += other['spec'].replicas ?? 1;
      }
      const most = allowed.get(owner.uid);
      if (most !== undefined && total > most) world.report(name, `ReplicaSets of ${owner.name} ask for ${total} Pods together, ${most} are allowed`);
    },
  };
}
