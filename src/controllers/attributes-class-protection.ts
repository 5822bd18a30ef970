/**
 * Lets a VolumeAttributesClass go when no claim and no volume names it any more (Kubernetes documentation, "Volume
 * Attributes Classes"; the finalizer `kubernetes.io/vac-protection` is put there by admission).
 */
import type { PersistentVolume, PersistentVolumeClaim } from '#api/core.v1.ts';
import type { VolumeAttributesClass } from '#api/storage.v1.ts';
import { kinds } from '#base/kinds.ts';
import { addFinalizer, type Controller, type ControllerContext, createQueue, removeFinalizer } from './runtime.ts';

const finalizer = 'kubernetes.io/vac-protection';

const named = (names: readonly (string | undefined)[]): string[] =>
  names.flatMap((name) => (name === undefined || name === '' ? [] : [name]));

const classesOfClaim = ({ spec, status }: PersistentVolumeClaim): string[] =>
  named([
    spec.volumeAttributesClassName,
    status?.currentVolumeAttributesClassName,
    status?.modifyVolumeStatus?.targetVolumeAttributesClassName,
  ]);
const classesOfVolume = ({ spec }: PersistentVolume): string[] => named([spec.volumeAttributesClassName]);

export function startAttributesClassProtection(context: ControllerContext): Controller {
  const { informers } = context;
  const classes = informers.informer(kinds.VolumeAttributesClass);
  const claims = informers.informer(kinds.PersistentVolumeClaim).addIndex('attributes-class', classesOfClaim);
  const volumes = informers.informer(kinds.PersistentVolume).addIndex('attributes-class', classesOfVolume);

  const queue = createQueue(context, 'attributes-class-protection', async (name) => {
    const found = classes.get(name);
    if (found === undefined) return;
    const { deletionTimestamp, finalizers = [] } = found.metadata;
    if (deletionTimestamp === undefined) {
      // Whatever was stored before the server put the finalizer there itself.
      if (!finalizers.includes(finalizer)) await addFinalizer(context, kinds.VolumeAttributesClass, found, finalizer);
      return;
    }
    const isUsed = [...claims.by('attributes-class', name), ...volumes.by('attributes-class', name)].length > 0;
    if (!isUsed) await removeFinalizer(context, kinds.VolumeAttributesClass, found, finalizer);
  });
  const onClass = ({ metadata }: VolumeAttributesClass): void => queue.add(metadata.name);
  classes.addHandler({ added: onClass, updated: onClass });
  /** A class is looked at again when the last that named it may be gone. */
  const onUser = (names: readonly string[]): void => {
    for (const name of names) if (classes.get(name)?.metadata.deletionTimestamp !== undefined) queue.add(name);
  };
  claims.addHandler({
    updated: (_claim, old) => onUser(classesOfClaim(old)),
    deleted: (claim) => onUser(classesOfClaim(claim)),
  });
  volumes.addHandler({
    updated: (_volume, old) => onUser(classesOfVolume(old)),
    deleted: (volume) => onUser(classesOfVolume(volume)),
  });
  return { name: 'attributes-class-protection', queues: [queue] };
}
