/**
 * A data directory of dockerd's (`/var/lib/docker`) as it lies on disk, while no dockerd works on it. It is read and
 * never written; the lock that dockerd takes on its volumes' database is held meanwhile, so that none starts.
 *
 * Source: moby 20.10 to 28, `layer/filestore.go`, `image/fs.go`, `reference/store.go`, `volume/local`.
 */
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { entriesOf, fieldOf, namedTextsOf } from '#base/unknown.ts';
import { listDirectory, readIfExists, statIfExists, tryLock } from '#os/files.ts';
import { readObject, readText } from './read-bounded.ts';

/** Where daemons keep locked databases, below the directory. */
const databases = [
  'volumes/metadata.db',
  'network/files/local-kv.db',
  'buildkit/cache.db',
  'buildkit/metadata_v2.db',
  'containerd/daemon/io.containerd.metadata.v1.bolt/meta.db',
];
/** Directories of graph drivers whose layers are not directories of overlayfs. */
const otherDrivers = ['aufs', 'btrfs', 'devicemapper', 'fuse-overlayfs', 'overlay', 'vfs', 'zfs'];

export interface DockerSource {
  directory: string;
  path(...parts: string[]): string;
  release(): void;
}

/** Throws Conflict where a daemon or a container uses it, and NotFound where it is no such directory. */
export function openSource(given: string): DockerSource {
  if (statIfExists(given)?.isDirectory() !== true) throw new ApiError('NotFound', `${given}: no such directory`);
  const directory = realpathSync(given);
  const path = (...parts: string[]): string => join(directory, ...parts);
  if (!existsSync(path('volumes')) || !existsSync(path('containers')))
    throw new ApiError(
      'BadRequest',
      `${directory} is not a data directory of dockerd: it has no volumes or containers`,
    );
  for (const name of databases) {
    const holder = lockHolder(path(name));
    if (holder !== undefined) throw inUse(directory, `process with PID ${holder}`);
  }
  const known = path('volumes/metadata.db');
  const lock = existsSync(known) ? tryLock(known) : undefined;
  if (lock === undefined && existsSync(known)) throw inUse(directory, 'a process that is not seen from here');
  try {
    refuseRunning(path('containers'), directory);
    refuseOtherDrivers(path('image'));
  } catch (error) {
    lock?.release();
    throw error;
  }
  return { directory, path, release: () => lock?.release() };
}

function inUse(directory: string, who: string): ApiError {
  return new ApiError('Conflict', `${directory} is in use by ${who}: stop the daemon and its containers first`);
}

/** Process that holds a lock on the file, as the kernel lists them: by device and inode. */
function lockHolder(path: string): number | undefined {
  const stat = statIfExists(path);
  if (stat === undefined) return undefined;
  for (const line of (readIfExists('/proc/locks') ?? '').split('\n')) {
    const [, , , kind, pid, file = ''] = line.split(/\s+/);
    const [, , inode] = file.split(':');
    if (kind !== 'WRITE' || Number(inode) !== stat.ino || !/^[1-9]/.test(pid ?? '')) continue;
    if (deviceOf(file) === stat.dev) return Number(pid);
  }
  return undefined;
}

/** `fe:00:123`: major and minor in hexadecimal, put together as stat(2) gives them. */
function deviceOf(file: string): number {
  const [major = 0, minor = 0] = file.split(':').map((part) => Number.parseInt(part, 16));
  return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}

/** A container outlives a daemon that was killed, or has live-restore: its process is in a group of its name. */
function refuseRunning(containers: string, directory: string): void {
  for (const id of listDirectory(containers)) {
    const pid = Number(fieldOf(readObject(join(containers, id, 'config.v2.json')), 'State', 'Pid') ?? 0);
    if (pid > 0 && (readIfExists(`/proc/${pid}/cgroup`) ?? '').includes(id))
      throw inUse(directory, `container ${id.slice(0, 12)}, whose process has PID ${pid}`);
  }
}

function refuseOtherDrivers(image: string): void {
  const other = listDirectory(image).find((name) => otherDrivers.includes(name));
  if (other !== undefined && listDirectory(join(image, other, 'imagedb/content/sha256')).length > 0)
    throw new ApiError(
      'BadRequest',
      `images of the storage driver ${other} cannot be taken over: 'docker save' them, or move that daemon to overlay2`,
    );
}

/** One layer of overlay2's. */
export interface SourceLayer {
  diffId: string;
  /** What it holds, as overlayfs has it. */
  directory: string;
  /** Absent where dockerd never had its archive. */
  splitPath?: string;
  parent?: string;
}

/** By chain id, `sha256:…`; undefined where there is none. */
export function readLayer(source: DockerSource, chainId: string): SourceLayer | undefined {
  const hex = hexOf(chainId);
  const directory = source.path('image/overlay2/layerdb/sha256', hex);
  const [diffId, cacheId] = ['diff', 'cache-id'].map((name) => readText(join(directory, name))?.trim());
  if (diffId === undefined || cacheId === undefined || !/^[0-9a-z]+$/.test(cacheId)) return undefined;
  const splitPath = join(directory, 'tar-split.json.gz');
  const parent = readText(join(directory, 'parent'))?.trim();
  return {
    diffId,
    directory: source.path('overlay2', cacheId, 'diff'),
    ...(existsSync(splitPath) ? { splitPath } : {}),
    ...(parent === undefined ? {} : { parent }),
  };
}

function hexOf(digest: string): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  if (hex === undefined) throw new ApiError('BadRequest', `not a digest: ${JSON.stringify(digest)}`);
  return hex;
}

/** What a container wrote, and the layer that it stands on; of overlay2's. */
export function readMount(source: DockerSource, containerId: string): { upper: string; chainId?: string } | undefined {
  const directory = source.path('image/overlay2/layerdb/mounts', containerId);
  const mountId = readText(join(directory, 'mount-id'))?.trim();
  if (mountId === undefined || !/^[0-9a-z]+$/.test(mountId)) return undefined;
  const chainId = readText(join(directory, 'parent'))?.trim();
  return {
    upper: source.path('overlay2', mountId, 'diff'),
    ...(chainId === undefined ? {} : { chainId }),
  };
}

/** `name:tag` and `name@digest`, each with the id of its image. */
export function readReferences(source: DockerSource): Map<string, string> {
  const found = new Map<string, string>();
  const repositories = readObject(source.path('image/overlay2/repositories.json'))?.['Repositories'] ?? {};
  for (const [, names] of entriesOf(repositories))
    for (const [name, id] of Object.entries(namedTextsOf(names))) found.set(name, id);
  return found;
}

export function listImageIds(source: DockerSource): string[] {
  return listDirectory(source.path('image/overlay2/imagedb/content/sha256'))
    .filter((hex) => /^[0-9a-f]{64}$/.test(hex))
    .map((hex) => `sha256:${hex}`);
}

export function imagePath(source: DockerSource, id: string): string {
  return source.path('image/overlay2/imagedb/content/sha256', hexOf(id));
}

/** `parent` or `lastUpdated`. */
export function imageMetadata(source: DockerSource, id: string, name: string): string | undefined {
  return readText(source.path('image/overlay2/imagedb/metadata/sha256', hexOf(id), name))?.trim();
}
