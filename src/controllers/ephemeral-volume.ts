/**
 * Generic ephemeral volumes: a claim for each, owned by its Pod and gone with it (Kubernetes documentation, "Ephemeral
 * Volumes").
 */
import type { PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isPodActive } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, ownedBy } from './runtime.ts';

/** The claims that a Pod's ephemeral volumes need. */
function ephemeralClaims(pod: Pod): Manifest<PersistentVolumeClaim>[] {
  return (pod.spec.volumes ?? []).flatMap(({ name, ephemeral }) => {
    const template = ephemeral?.volumeClaimTemplate;
    if (template === undefined) return [];
    const metadata = {
      ...template.metadata,
      name: `${pod.metadata.name}-${name}`,
      namespace: pod.metadata.namespace,
      ownerReferences: [ownedBy(pod)],
    };
    return [{ apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata, spec: template.spec }];
  });
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
      if ((pod.spec?.volumes ?? []).some(({ ephemeral }) => ephemeral !== undefined)) queue.add(keyOf(pod));
    },
  });
  return { name: 'ephemeral-volume', queues: [queue] };
}
