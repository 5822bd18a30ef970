/**
 * A Pod's volumes on the node: what each source becomes as a directory or file that containers bind. Content that the
 * cluster holds is made by `projected-volume.ts` and written by `atomic-writer.ts`; Secrets, tokens and certificates
 * lie on a tmpfs. Rules: Kubernetes documentation, "Volumes".
 */
import type { HostPathVolumeSource, Pod, Volume } from '#api/core.v1.ts';
import { chmod, chown, lstat, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { writeAtomically } from './atomic-writer.ts';
import { podDir, podSecretsDir, volumesFolder, type KubeletPaths } from './pod-paths.ts';
import { projectFiles, projectedSources } from './projected-volume.ts';
import type { MountedVolumes } from './doors.ts';
import { claimNameOf } from './local-storage.ts';
import { amount } from './qos.ts';
import type { VolumeContext, VolumeSources } from './volume-sources.ts';

/** Makes every volume of the Pod; safe to repeat, and repeating it brings projected content up to date. */
export async function mountVolumes(pod: Pod, context: VolumeContext): Promise<MountedVolumes> {
  const mounted = new Map<string, { path: string; readOnly: boolean }>();
  for (const volume of pod.spec.volumes ?? []) {
    // The engine shows an image to a container; nothing of it lies here.
    if (volume.image !== undefined) continue;
    try {
      mounted.set(volume.name, await mountVolume(pod, volume, context));
    } catch (error) {
      const problem = error as Error;
      throw new ApiError('InternalError', `MountVolume.SetUp failed for volume "${volume.name}" : ${problem.message}`);
    }
  }
  return mounted;
}

async function mountVolume(
  pod: Pod,
  volume: Volume,
  context: VolumeContext,
): Promise<{ path: string; readOnly: boolean }> {
  const uid = pod.metadata.uid;
  const fsGroup: number | undefined = pod.spec.securityContext?.fsGroup;
  if (volume.hostPath !== undefined) return { path: await checkHostPath(volume.hostPath), readOnly: false };
  if (volume.emptyDir !== undefined) return { path: await makeEmptyDir(pod, volume, context), readOnly: false };
  if (volume.persistentVolumeClaim !== undefined || volume.ephemeral !== undefined) {
    const path = await claimPath(pod, volume, context);
    if (fsGroup !== undefined)
      await giveToGroup(path, fsGroup, pod.spec.securityContext?.fsGroupChangePolicy === 'OnRootMismatch');
    return { path, readOnly: volume.persistentVolumeClaim?.readOnly === true };
  }
  const source = projectedSources(volume);
  if (source === undefined)
    throw new ApiError(
      'BadRequest',
      `no volume plugin matched name: ${Object.keys(volume)
        .filter((key) => key !== 'name')
        .join(', ')}`,
    );
  const plugin = source.secret ? podSecretsDir(context.paths, uid) : podDir(context.paths, uid);
  const directory = join(plugin, volumesFolder, source.plugin, volume.name);
  const files = await projectFiles(pod, source, directory, context);
  await writeAtomically(directory, files, fsGroup, context.nowMs);
  return { path: directory, readOnly: true };
}

async function makeEmptyDir(pod: Pod, volume: Volume, context: VolumeContext): Promise<string> {
  const path = join(podDir(context.paths, pod.metadata.uid), volumesFolder, 'kubernetes.io~empty-dir', volume.name);
  const { medium = '', sizeLimit } = volume.emptyDir ?? {};
  if (medium !== '' && medium !== 'Memory')
    throw new ApiError('BadRequest', `medium ${JSON.stringify(medium)} of an emptyDir is not supported by this node`);
  await mkdir(path, { recursive: true });
  if (medium === 'Memory' && !(await context.sources.isMounted(path))) {
    const size = amount(sizeLimit);
    await context.sources.mountTmpfs(path, size === undefined || size === 0 ? undefined : size);
  }
  const fsGroup: number | undefined = pod.spec.securityContext?.fsGroup;
  await chmod(path, fsGroup === undefined ? 0o777 : 0o2777);
  if (fsGroup !== undefined) await chown(path, 0, fsGroup);
  return path;
}

async function checkHostPath(source: HostPathVolumeSource): Promise<string> {
  const type: string = source.type ?? '';
  const found = await lstat(source.path).catch(() => undefined);
  const fail = (what: string): never => {
    throw new ApiError('BadRequest', `hostPath type check failed: ${source.path} is not a ${what}`);
  };
  switch (type) {
    case '':
    case undefined:
      if (found === undefined) await mkdir(source.path, { recursive: true, mode: 0o755 });
      break;
    case 'DirectoryOrCreate':
      if (found === undefined) await mkdir(source.path, { recursive: true, mode: 0o755 });
      else if (!found.isDirectory() && !found.isSymbolicLink()) fail('directory');
      break;
    case 'Directory':
      if (found?.isDirectory() !== true && found?.isSymbolicLink() !== true) fail('directory');
      break;
    case 'FileOrCreate':
      if (found === undefined) await writeFile(source.path, '', { mode: 0o644, flag: 'wx' });
      else if (!found.isFile() && !found.isSymbolicLink()) fail('file');
      break;
    case 'File':
      if (found?.isFile() !== true && found?.isSymbolicLink() !== true) fail('file');
      break;
    case 'Socket':
      if (found?.isSocket() !== true) fail('socket file');
      break;
    case 'CharDevice':
      if (found?.isCharacterDevice() !== true) fail('character device');
      break;
    case 'BlockDevice':
      if (found?.isBlockDevice() !== true) fail('block device');
      break;
    default:
      fail(type);
  }
  return source.path;
}

/** Of a claim that the volume names, or of the one that was made for this very Pod (a generic ephemeral volume). */
async function claimPath(pod: Pod, source: Volume, context: VolumeContext): Promise<string> {
  const namespace = pod.metadata.namespace;
  const name = claimNameOf(pod, source) ?? '';
  const claim = await context.sources.claim(namespace, name);
  if (claim === undefined) throw new ApiError('NotFound', `persistentvolumeclaim "${name}" not found`);
  if (
    source.ephemeral !== undefined &&
    !(claim.metadata.ownerReferences ?? []).some((owner) => owner.controller === true && owner.uid === pod.metadata.uid)
  )
    throw new ApiError(
      'Conflict',
      `PVC ${namespace}/${name} was not created for pod ${namespace}/${pod.metadata.name} (pod is not owner)`,
    );
  if (claim.status?.phase !== 'Bound') throw new ApiError('Conflict', `persistentvolumeclaim "${name}" is not bound`);
  const volume = await context.sources.persistentVolume(claim.spec.volumeName ?? '');
  if (volume === undefined) throw new ApiError('NotFound', `persistentvolume "${claim.spec.volumeName}" not found`);
  const path: string | undefined = volume.spec.local?.path ?? volume.spec.hostPath?.path;
  if (path === undefined)
    throw new ApiError('BadRequest', `no volume plugin matched for persistentvolume "${claim.spec.volumeName}"`);
  if (
    volume.spec.hostPath?.type === 'DirectoryOrCreate' ||
    volume.metadata.annotations?.['pv.kubernetes.io/provisioned-by'] === 'tiphys.io/local-path'
  )
    await mkdir(path, { recursive: true, mode: 0o777 }).then(() => chmod(path, 0o777));
  await lstat(path);
  return path;
}

/** fsGroup on a claim: all of it, or (`OnRootMismatch`) nothing where the top belongs to the group already. */
async function giveToGroup(path: string, group: number, onlyOnMismatch: boolean): Promise<void> {
  const top = await lstat(path);
  if (onlyOnMismatch && top.gid === group && (top.mode & 0o2070) === 0o2070) return;
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    const full = join(entry.parentPath, entry.name);
    if (entry.isSymbolicLink()) continue;
    const stat = await lstat(full);
    await chown(full, stat.uid, group);
    await chmod(full, (stat.mode & 0o7777) | (entry.isDirectory() ? 0o2070 : 0o060));
  }
  await chown(path, top.uid, group);
  await chmod(path, (top.mode & 0o7777) | 0o2070);
}

/** Takes all of a Pod's volumes and files away; claims and host paths keep their content. */
export async function removePodFiles(
  paths: KubeletPaths,
  uid: string,
  sources: Pick<VolumeSources, 'unmount' | 'isMounted'>,
): Promise<void> {
  const emptyDirs = join(podDir(paths, uid), volumesFolder, 'kubernetes.io~empty-dir');
  for (const name of await readdir(emptyDirs).catch(() => [] as string[])) {
    const path = join(emptyDirs, name);
    if (await sources.isMounted(path)) await sources.unmount(path);
  }
  await rm(podSecretsDir(paths, uid), { recursive: true, force: true });
  await rm(podDir(paths, uid), { recursive: true, force: true });
}
