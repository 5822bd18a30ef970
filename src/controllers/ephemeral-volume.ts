/**
 * Generic ephemeral volumes: a claim for each, owned by its Pod and gone with it (Kubernetes documentation, "Ephemeral
 * Volumes").
 */
import { isReason } from '#base/errors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { isPodActive } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, ownedBy } from './runtime.ts';

/** The claims that a Pod's ephemeral volumes need. */
function ephemeralClaims(pod: KubeObject): KubeObject[] {
  return ((pod['spec']?.volumes ?? []) as Json[])
    .filter(({ ephemeral }) => ephemeral?.volumeClaimTemplate !== undefined)
    .map(({ name, ephemeral }) => ({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: {
        ...ephemeral.volumeClaimTemplate.metadata,
        name: `${pod.metadata.name}-${name}`,
        namespace: pod.metadata.namespace!,
        ownerReferences: [ownedBy(pod)],
      },
      spec: ephemeral.volumeClaimTemplate.spec,
    }));
}

export function startEphemeralVolumeController(context: ControllerContext): Controller {
  const pods = context.informers.informer(kinds.Pod);
  const claims = context.informers.informer(kinds.PersistentVolumeClaim);
  const queue = createQueue(context, 'ephemeral-volume', async (key) => {
    const pod = pods.get(key);
    if (pod === undefined || !isPodActive(pod)) return;
    for (const claim of ephemeralClaims(pod)) {
      if (claims.get(keyOf(claim)) !== undefined) continue;
      try {
        await context.client.create(kinds.PersistentVolumeClaim, claim);
      } catch (error) {
        if (!isReason(error, 'AlreadyExists')) throw error;
      }
    }
  });
  pods.addHandler({
    added: (pod) => {
      if (((pod['spec']?.volumes ?? []) as Json[]).some(({ ephemeral }) => ephemeral !== undefined))
        queue.add(keyOf(pod));
    },
  });
  return { name: 'ephemeral-volume', queues: [queue] };
}
