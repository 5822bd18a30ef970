/** At rest nothing is left whose owners are gone, and nothing was collected while its owner lives: each owner has what it wants. */
import type { Checker } from '../world.ts';

export function ownersAlive(): Checker {
  const name = 'owners-alive';
  const collectors = new Map<string, string>();
  return {
    name,
    onCommit({ object, previous, key }, world) {
      // A ReplicaSet's removal is the collector's (or a user's) act: its Deployment must be gone, or be over its history limit.
      if (object !== undefined || previous === undefined || !key.startsWith('/registry/apps/replicasets/')) return;
      for (const namespace of world.of('namespaces')) if (namespace.metadata.name === previous.metadata.namespace && namespace.metadata.deletionTimestamp !== undefined) return;
      if ((previous['spec'].replicas ?? 1) === 0 && (previous['status']?.replicas ?? 0) === 0) return;
      const owner = previous.metadata.ownerReferences?.find(({ controller }) => controller === true);
      for (const deployment of world.of('apps/deployments')) {
        if (deployment.metadata.uid === owner?.uid && deployment.metadata.deletionTimestamp === undefined) collectors.set(key, `${previous.metadata.name} was removed at size ${previous['spec'].replicas} while Deployment ${owner?.name} lives`);
      }
      const message = collectors.get(key);
      if (message !== undefined) world.report(name, message);
    },
    atRest(world) {
      const uids = new Set<string>();
      for (const object of world.objects.values()) if (object.metadata.uid !== undefined) uids.add(object.metadata.uid);
      for (const [key, object] of world.objects) {
        const owners = object.metadata.ownerReferences ?? [];
        if (owners.length > 0 && !owners.some(({ uid }) => uids.has(uid))) world.report(name, `${key} is left, its owners ${owners.map(({ kind, name: owner }) => `${kind} ${owner}`).join(', ')} are gone`);
      }
    },
  };
}
