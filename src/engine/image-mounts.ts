/**
 * Images that are mounted into containers (`--mount type=image`): read-only, each by a root of its own, which is kept
 * and leased with its container. Their names in the snapshots are `CONTAINER.mount-N`.
 */
import { ApiError } from '#base/errors.ts';
import { familiarName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { ContainerRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';
import type { ContainerSpec, ContainerStatus, Mount, Owner } from './engine.ts';

interface ImageMount {
  mount: Mount;
  imageId: string;
  rootId: string;
}

function imageMounts(id: string, mounts: readonly Mount[]): ImageMount[] {
  return mounts
    .filter((mount) => mount.type === 'image')
    .map((mount, at) => ({ mount, imageId: mount.imageId ?? '', rootId: `${id}.mount-${at}` }));
}

/** Containers that run an image, or have it mounted. */
export function usersOfImage(
  containers: readonly ContainerStatus[],
  imageId: string,
): { id: string; isRunning: boolean; owner: Owner }[] {
  return containers
    .filter((container) => container.imageId === imageId || container.mountedImageIds?.includes(imageId) === true)
    .map(({ id, state, owner }) => ({ id, isRunning: state === 'running', owner }));
}

/** Says which images are meant, once and for all. Throws NotFound. */
export function resolveImages(context: EngineContext, mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => {
    if (mount.type !== 'image') return mount;
    const image = context.images.find(mount.source);
    if (image === undefined)
      throw new ApiError('NotFound', `No such image: ${familiarName(withDefaultTag(parseReference(mount.source)))}`);
    return { ...mount, imageId: image.id };
  });
}

/**
 * Leases of its own image and of those that it mounts: written as its record is, without waiting for the disk. A new
 * engine makes them agree with the records that it finds (`settleLeases` of recovery.ts).
 */
export async function leaseImages({ images }: EngineContext, id: string, spec: ContainerSpec): Promise<void> {
  const { owner } = spec;
  if (spec.imageId !== '') await images.lease(owner, spec.imageId, `container/${id}`, { sync: false });
  for (const { imageId, rootId } of imageMounts(id, spec.mounts))
    await images.lease(owner, imageId, `container/${id}/${rootId}`, { sync: false });
}

export function releaseImages({ images }: EngineContext, id: string, owner: Owner): Promise<void> {
  return images.releaseLease(owner, `container/${id}`, { sync: false });
}

/** Where the files of each are, by its target. */
export async function mountImages(
  { snapshots }: EngineContext,
  { id, spec }: ContainerRecord,
): Promise<ReadonlyMap<string, string>> {
  const roots = new Map<string, string>();
  for (const { mount, imageId, rootId } of imageMounts(id, spec.mounts))
    roots.set(mount.target, (await snapshots.mountContainerRoot(rootId, imageId)).root);
  return roots;
}

/** Safe to repeat. */
export async function unmountImages({ snapshots }: EngineContext, { id, spec }: ContainerRecord): Promise<void> {
  for (const { rootId } of imageMounts(id, spec.mounts)) await snapshots.unmountContainerRoot(rootId);
}

/** Safe to repeat. */
export async function removeImageRoots({ snapshots }: EngineContext, { id, spec }: ContainerRecord): Promise<void> {
  for (const { rootId } of imageMounts(id, spec.mounts)) await snapshots.removeContainerRoot(rootId);
}
