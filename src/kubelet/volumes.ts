/**
 * A Pod's volumes on the node: what each source becomes as a directory or file that containers bind.
 *
 * Content of ConfigMaps, Secrets, tokens and the downward API is written the way Kubernetes does it ("atomic writer"):
 * a dated directory, and a link `..data` that is swapped by rename, so that a reader sees all of the old content or all
 * of the new. Secrets and tokens lie on a tmpfs. Rules: Kubernetes documentation, "Volumes", "Projected Volumes",
 * "Downward API".
 */
import type {
  ConfigMapProjection,
  Container,
  DownwardAPIProjection,
  HostPathVolumeSource,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  SecretProjection,
  ServiceAccountTokenProjection,
  Volume,
  VolumeProjection,
} from '#api/core.v1.ts';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { codeOf } from '#base/thrown.ts';
import { podDir, podSecretsDir, type KubeletPaths } from './pod-paths.ts';
import type { MountedVolumes } from './doors.ts';
import { fieldValue, resourceFieldValue, type EnvContext, type ReferencedObjects } from './env.ts';
import { amount } from './qos.ts';

export interface VolumeSources extends ReferencedObjects {
  claim(namespace: string, name: string): Promise<PersistentVolumeClaim | undefined>;
  persistentVolume(name: string): Promise<PersistentVolume | undefined>;
  /** A token bound to the Pod: the text and when it ends (ms since 1970). */
  token(
    pod: Pod,
    audience: string | undefined,
    expirationSeconds: number,
  ): Promise<{ token: string; expiresAtMs: number }>;
  mountTmpfs(path: string, sizeBytes: number | undefined): Promise<void>;
  unmount(path: string): Promise<void>;
  isMounted(path: string): Promise<boolean>;
}

export interface VolumeContext {
  paths: KubeletPaths;
  sources: VolumeSources;
  downward: Pick<EnvContext, 'nodeAllocatable' | 'podIp' | 'hostIp'>;
  nowMs: number;
}

interface ProjectedFile {
  path: string;
  content: Buffer;
  mode: number;
  /** Owner of a token that only one user may read; else root. */ uid?: number;
}

/**
 * What a group is given on read-only volumes of its Pod, as the kubelet does: files to read, directories to enter, and
 * what is made there stays the group's.
 */
const groupReads = { file: 0o440, directory: 0o2550 };

/** Makes every volume of the Pod; safe to repeat, and repeating it brings projected content up to date. */
export async function mountVolumes(pod: Pod, context: VolumeContext): Promise<MountedVolumes> {
  const mounted = new Map<string, { path: string; readOnly: boolean }>();
  for (const volume of pod.spec.volumes ?? []) {
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
  const directory = join(plugin, 'volumes', source.plugin, volume.name);
  const files = await projectFiles(pod, source, directory, context);
  await writeAtomically(directory, files, fsGroup, context.nowMs);
  return { path: directory, readOnly: true };
}

interface ProjectedSource {
  plugin: string;
  secret: boolean;
  sources: VolumeProjection[];
  defaultMode: number;
}

/** ConfigMap, Secret, downward API and projected volumes as one list of projected sources. */
function projectedSources(volume: Volume): ProjectedSource | undefined {
  const mode = (source: { defaultMode?: number }): number => source.defaultMode ?? 0o644;
  if (volume.configMap !== undefined)
    return {
      plugin: 'kubernetes.io~configmap',
      secret: false,
      sources: [{ configMap: volume.configMap }],
      defaultMode: mode(volume.configMap),
    };
  if (volume.secret !== undefined)
    return {
      plugin: 'kubernetes.io~secret',
      secret: true,
      sources: [{ secret: { ...volume.secret, name: volume.secret.secretName ?? '' } }],
      defaultMode: mode(volume.secret),
    };
  if (volume.downwardAPI !== undefined)
    return {
      plugin: 'kubernetes.io~downward-api',
      secret: false,
      sources: [{ downwardAPI: volume.downwardAPI }],
      defaultMode: mode(volume.downwardAPI),
    };
  if (volume.projected !== undefined)
    return {
      plugin: 'kubernetes.io~projected',
      secret: true,
      sources: volume.projected.sources ?? [],
      defaultMode: mode(volume.projected),
    };
  return undefined;
}

async function projectFiles(
  pod: Pod,
  { sources, defaultMode }: { sources: VolumeProjection[]; defaultMode: number },
  directory: string,
  context: VolumeContext,
): Promise<ProjectedFile[]> {
  const files: ProjectedFile[] = [];
  for (const source of sources) {
    if (source.configMap !== undefined)
      files.push(...(await configFiles(pod, { what: 'configmap', source: source.configMap, defaultMode }, context)));
    else if (source.secret !== undefined)
      files.push(...(await configFiles(pod, { what: 'secret', source: source.secret, defaultMode }, context)));
    else if (source.downwardAPI !== undefined)
      files.push(...downwardFiles(pod, source.downwardAPI, defaultMode, context));
    else if (source.serviceAccountToken !== undefined)
      files.push(await tokenFile(pod, source.serviceAccountToken, { defaultMode, directory }, context));
    else
      throw new ApiError(
        'BadRequest',
        `projected sources of this kind are not supported by this node: ${Object.keys(source).join(', ') || 'none'}`,
      );
  }
  return files;
}

interface ConfigSource {
  what: 'configmap' | 'secret';
  source: ConfigMapProjection | SecretProjection;
  defaultMode: number;
}

async function configFiles(
  pod: Pod,
  { what, source, defaultMode }: ConfigSource,
  context: VolumeContext,
): Promise<ProjectedFile[]> {
  const namespace = pod.metadata.namespace;
  const object =
    what === 'secret'
      ? await context.sources.secret(namespace, source.name ?? '')
      : await context.sources.configMap(namespace, source.name ?? '');
  if (object === undefined) {
    if (source.optional === true) return [];
    throw new ApiError('NotFound', `${what} "${source.name}" not found`);
  }
  const content = new Map<string, Buffer>();
  for (const [key, value] of Object.entries(object.data ?? {}))
    content.set(key, Buffer.from(value, what === 'secret' ? 'base64' : 'utf8'));
  for (const [key, value] of Object.entries('binaryData' in object ? (object.binaryData ?? {}) : {}))
    content.set(key, Buffer.from(value, 'base64'));
  if (source.items === undefined || source.items.length === 0)
    return [...content].map(([path, data]) => ({ path, content: data, mode: defaultMode }));
  const files: ProjectedFile[] = [];
  for (const item of source.items) {
    const data = content.get(item.key);
    if (data === undefined) {
      if (source.optional === true) continue;
      throw new ApiError(
        'NotFound',
        `references non-existent ${what === 'secret' ? 'secret' : 'config'} key: ${item.key}`,
      );
    }
    files.push({ path: safeRelative(item.path), content: data, mode: item.mode ?? defaultMode });
  }
  return files;
}

function downwardFiles(
  pod: Pod,
  source: DownwardAPIProjection,
  defaultMode: number,
  context: VolumeContext,
): ProjectedFile[] {
  return (source.items ?? []).map((item) => {
    const value =
      item.fieldRef !== undefined
        ? fieldValue(pod, item.fieldRef.fieldPath, context.downward.podIp, context.downward.hostIp)
        : resourceFieldValue(
            { pod, nodeAllocatable: context.downward.nodeAllocatable },
            item.resourceFieldRef ?? { resource: '' },
            undefined,
          );
    return { path: safeRelative(item.path), content: Buffer.from(value), mode: item.mode ?? defaultMode };
  });
}

interface TokenNote {
  expiresAtMs: number;
  issuedAtMs: number;
  podUid: string;
}

/** A token file; a new token only when four fifths of the old one's life are over, or it is older than a day. */
async function tokenFile(
  pod: Pod,
  source: ServiceAccountTokenProjection,
  { defaultMode, directory }: { defaultMode: number; directory: string },
  context: VolumeContext,
): Promise<ProjectedFile> {
  const path = safeRelative(source.path);
  const notePath = `${directory}.${path.replaceAll('/', '_')}.json`;
  const uid = onlyUserOf(pod);
  const how = {
    mode: uid !== undefined || pod.spec.securityContext?.fsGroup !== undefined ? 0o600 : defaultMode,
    ...(uid === undefined ? {} : { uid }),
  };
  try {
    const note = JSON.parse(await readFile(notePath, 'utf8')) as TokenNote;
    const ageMs = context.nowMs - note.issuedAtMs;
    if (ageMs < 0.8 * (note.expiresAtMs - note.issuedAtMs) && ageMs < 86_400_000)
      return { path, content: await readFile(join(directory, path)), ...how };
  } catch {
    /* none yet, or unreadable: ask for one */
  }
  const made = await context.sources.token(pod, source.audience, source.expirationSeconds ?? 3600);
  await mkdir(dirname(notePath), { recursive: true });
  await writeFile(
    notePath,
    JSON.stringify({
      expiresAtMs: made.expiresAtMs,
      issuedAtMs: context.nowMs,
      podUid: pod.metadata.uid,
    } satisfies TokenNote),
  );
  return { path, content: Buffer.from(made.token), ...how };
}

/** The user as which every container of the Pod runs, where the Pod says so for each of them. */
function onlyUserOf(pod: Pod): number | undefined {
  const containers: Container[] = [...(pod.spec.initContainers ?? []), ...(pod.spec.containers ?? [])];
  const users = new Set(
    containers.map((container) => container.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser),
  );
  return users.size === 1 ? [...users][0] : undefined;
}

/** Refuses paths that leave the volume; the API server has refused them before, a node does not rely on it. */
function safeRelative(path: string): string {
  if (path.startsWith('/') || path.split('/').includes('..') || path === '')
    throw new ApiError('BadRequest', `invalid path: ${path}`);
  return path;
}

async function writeAtomically(
  directory: string,
  files: ProjectedFile[],
  fsGroup: number | undefined,
  nowMs: number,
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o755 });
  const current = await readlink(join(directory, '..data')).catch(() => undefined);
  if (current !== undefined && (await sameContent(join(directory, current), files))) return;
  const time = new Date(nowMs).toISOString().replace(/[-:T]/g, '_').replace('Z', '');
  const target = await mkdtemp(join(directory, `..${time}.`));
  await chmod(target, 0o755);
  const stamp = basename(target);
  for (const file of files) {
    const path = join(target, file.path);
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    await writeFile(path, file.content, { mode: 0o600 });
    // The owner first: a change of it takes set-id bits away.
    if (file.uid !== undefined || fsGroup !== undefined) await chown(path, file.uid ?? 0, fsGroup ?? 0);
    await chmod(path, fsGroup === undefined ? file.mode : file.mode | groupReads.file);
  }
  if (fsGroup !== undefined)
    for (const path of [directory, target, ...(await directoriesBelow(target))]) {
      await chown(path, 0, fsGroup);
      await chmod(path, 0o755 | groupReads.directory);
    }
  await symlink(stamp, join(directory, '..data_tmp')).catch(async () => {
    await rm(join(directory, '..data_tmp'));
    await symlink(stamp, join(directory, '..data_tmp'));
  });
  await rename(join(directory, '..data_tmp'), join(directory, '..data'));
  const tops = new Set(files.map((file) => file.path.split('/')[0]!));
  for (const top of tops)
    await symlink(join('..data', top), join(directory, top)).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  for (const entry of await readdir(directory)) {
    if (entry === '..data' || entry === stamp || tops.has(entry)) continue;
    await rm(join(directory, entry), { recursive: true, force: true });
  }
}

async function directoriesBelow(path: string): Promise<string[]> {
  return (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
}

async function sameContent(directory: string, files: ProjectedFile[]): Promise<boolean> {
  const existing = (await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])).filter(
    (entry) => entry.isFile(),
  );
  if (existing.length !== files.length) return false;
  for (const file of files) {
    const data = await readFile(join(directory, file.path)).catch(() => undefined);
    if (data === undefined || !data.equals(file.content)) return false;
  }
  return true;
}

async function makeEmptyDir(pod: Pod, volume: Volume, context: VolumeContext): Promise<string> {
  const path = join(podDir(context.paths, pod.metadata.uid), 'volumes', 'kubernetes.io~empty-dir', volume.name);
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
  const name: string = source.persistentVolumeClaim?.claimName ?? `${pod.metadata.name}-${source.name}`;
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
  const emptyDirs = join(podDir(paths, uid), 'volumes', 'kubernetes.io~empty-dir');
  for (const name of await readdir(emptyDirs).catch(() => [] as string[])) {
    const path = join(emptyDirs, name);
    if (await sources.isMounted(path)) await sources.unmount(path);
  }
  await rm(podSecretsDir(paths, uid), { recursive: true, force: true });
  await rm(podDir(paths, uid), { recursive: true, force: true });
}
