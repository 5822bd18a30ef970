/**
 * User-namespace remapping (dockerd's `--userns-remap`): containers run in a user namespace whose root is nobody on the
 * host. All containers of an engine share one, so that what joins another's namespaces has rights in them.
 *
 * On disk nothing is remapped. The whole content is mounted once more with the namespace's owners (an idmapped mount),
 * and roots are made of that view: layers are stored once, what a container writes lies on disk as it would without
 * remapping, and a commit, a build or a start without it needs no change of owners. Volumes and the host's directories
 * are as they are: the namespace's root owns a new volume.
 *
 *   RUN/userns        the namespace, pinned; RUN/userns.json its maps
 *   RUN/content       the view
 *
 * Specification: user_namespaces(7), mount_setattr(2), overlayfs.rst; moby 28, daemon_unix.go.
 */
import { chmodSync, chownSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { MappedView } from '#content/snapshots.ts';
import type { Owner } from '#content/pack.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { isCode } from '#os/libc.linux.ts';
import type { Mounts } from '#os/mount.ts';
import type { IdMaps, IdRange, UserNamespaces } from '#os/user-namespaces.linux.ts';

export interface UserMapping {
  /** Path of the pinned namespace. */
  namespace: string;
  view: MappedView;
  /** By owners inside, those outside, and the other way round; who is nobody there is 65534. */
  toOutside(owner: Owner): Owner;
  toInside(owner: Owner): Owner;
  pinNetwork(path: string): Promise<void>;
}

export interface MappingPlaces {
  /** The engine's directories, and that of the content. */
  data: string;
  run: string;
  content: string;
}

const nobody = 65_534;

interface Doors {
  mounts: Mounts;
  userNamespaces: UserNamespaces;
}

/** Containers of before are in the namespace that is pinned; it is kept while the maps are the same. */
export async function openUserMapping(places: MappingPlaces, maps: IdMaps, doors: Doors): Promise<UserMapping> {
  const { mounts, userNamespaces } = doors;
  checkAbove(places);
  const namespace = `${places.run}/userns`;
  const directory = `${places.run}/content`;
  const kept = `${namespace}.json`;
  const text = JSON.stringify(maps);
  const isPinned = (await mounts.listBelow(namespace)).length > 0;
  if (!isPinned || readIfExists(kept) !== text) {
    await mounts.unmount(namespace);
    await userNamespaces.pinUser(namespace, maps);
    writeFileAtomic(kept, text);
  }
  await mounts.unmount(directory);
  await mounts
    .bindMapped({ source: places.content, target: directory, userNamespace: namespace })
    .catch((error: unknown) => {
      if (!isCode(error, 'EINVAL', 'EPERM', 'ENOSYS')) throw error;
      throw new ApiError(
        'ServiceUnavailable',
        `userns-remap: the kernel, or the file system of ${places.content}, cannot show files with other owners`,
      );
    });
  const toOutside = (owner: Owner): Owner => translate(owner, maps, (range) => [range.inside, range.outside]);
  const root = toOutside({ uid: 0, gid: 0 });
  for (const path of passages(places)) openPassage(path, root.gid);
  return {
    namespace,
    view: { directory: directory, root },
    toOutside,
    toInside: (owner) => translate(owner, maps, (range) => [range.outside, range.inside]),
    pinNetwork: (path) => userNamespaces.pinNetwork(path, namespace),
  };
}

function translate({ uid, gid }: Owner, maps: IdMaps, ends: (range: IdRange) => [number, number]): Owner {
  const one = (id: number, ranges: readonly IdRange[]): number => {
    for (const range of ranges) {
      const [from, to] = ends(range);
      if (id >= from && id < from + range.size) return id - from + to;
    }
    return nobody;
  };
  return { uid: one(uid, maps.uids), gid: one(gid, maps.gids) };
}

/** The namespace's root comes through them to its root file system, volumes and files in /etc; no other user does. */
function passages({ data, run, content }: MappingPlaces): string[] {
  return [
    dirname(content),
    content,
    `${content}/containers`,
    dirname(data),
    data,
    `${data}/containers`,
    `${data}/volumes`,
    run,
  ];
}

/** Directories that are not the engine's own stay as they are. */
function checkAbove({ content, run }: MappingPlaces): void {
  for (const below of [dirname(content), run])
    for (let path = dirname(below); path !== '/'; path = dirname(path))
      if ((statSync(path).mode & 0o001) === 0)
        throw new ApiError(
          'Forbidden',
          `userns-remap: root of containers cannot come through ${path}: 'chmod o+x' it, or use another --data-root`,
        );
}

export function openPassage(path: string, gid: number): void {
  chownSync(path, 0, gid);
  chmodSync(path, 0o710);
}
