/**
 * `docker cp` and `export`: files of a container in and out as tar. A running container is frozen while its files are
 * walked, so that none of its processes can put a link where a directory was checked a moment before; a stopped one has
 * its root mounted for the time.
 */
import { statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { decompress } from '#content/compression.ts';
import { layerExpandedBytesMax } from '#content/limits.ts';
import { packTar, tarHeaderOf, type Owner } from '#content/pack.ts';
import { unpackTar } from '#content/unpack.ts';
import { whileStill } from './freeze.ts';
import { lstatOrUndefined, readlinkSync } from '#os/named-files.ts';
import { goModeOf } from '#os/go-mode.ts';
import { packFile } from './pack-file.ts';
import type { Container } from './container.ts';
import type { ContainerTable } from './container-table.ts';
import { mountImages, unmountImages } from './image-mounts.ts';
import { markRoot } from './runtime/bundle.ts';
import { resolveInRoot } from './runtime/root-path.ts';
import { subDirectory } from './sub-path.ts';
import { resolveUser } from './runtime/user.ts';
import { runningMapping } from './container-mapping.ts';

export interface PathStat {
  name: string;
  size: number;
  mode: number;
  mtime: string;
  linkTarget: string;
}

/** Runs with the container's tree at hand: its root, or the volume that holds the path. */
async function withTree<T>(
  table: ContainerTable,
  container: Container,
  path: string,
  run: (root: string, inner: string, readOnly: boolean) => Promise<T>,
): Promise<T> {
  const { record } = container;
  const readOnlyRoot = record.spec.security.readOnlyRoot === true;
  return whileStill(table, container, async (frozen) => {
    if (!frozen) return withStoppedTree(table, container, path, run);
    const mount = mountOf(container, path);
    return run(`/proc/${record.run!.pid}/root`, path, mount === undefined ? readOnlyRoot : mount.readOnly);
  });
}

async function withStoppedTree<T>(
  table: ContainerTable,
  container: Container,
  path: string,
  run: (root: string, inner: string, readOnly: boolean) => Promise<T>,
): Promise<T> {
  const { context } = table;
  const { record } = container;
  return container.lock.run(async () => {
    const mount = mountOf(container, path);
    await using undo = new AsyncDisposableStack();
    if (mount !== undefined && mount.type !== 'tmpfs') {
      if (mount.type === 'image') undo.defer(() => unmountImages(context, record));
      const images = mount.type === 'image' ? await mountImages(context, record) : undefined;
      if (mount.type === 'volume') undo.defer(() => table.volumes.release(mount.source, record.id));
      const source = subDirectory(
        images?.get(mount.target) ??
          (mount.type === 'volume' ? await table.volumes.use(mount.source, record.id) : mount.source),
        mount,
      );
      if (statSync(source, { throwIfNoEntry: false })?.isDirectory() === true)
        return await run(source, path.slice(mount.target.length) || '/', mount.readOnly);
    }
    const { root } = await context.snapshots.mountContainerRoot(record.id, record.spec.imageId);
    try {
      return await run(root, path, record.spec.security.readOnlyRoot === true);
    } finally {
      await context.snapshots.unmountContainerRoot(record.id);
    }
  });
}

function mountOf(container: Container, path: string): Container['record']['spec']['mounts'][number] | undefined {
  const matching = container.record.spec.mounts.filter(
    (mount) => path === mount.target || path.startsWith(`${mount.target}/`),
  );
  return matching.sort((a, b) => b.target.length - a.target.length)[0];
}

function normalise(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return `/${parts.join('/')}`;
}

function locate(container: Container, root: string, inner: string, asked: string): { path: string; stat: Stats } {
  const followLast = /\/\.?$/.test(asked);
  const path = resolveInRoot(root, inner, followLast);
  const stat = lstatOrUndefined(path === root ? `${root}/` : path);
  if (stat === undefined)
    throw new ApiError('NotFound', `Could not find the file ${asked} in container ${container.id}`);
  if (followLast && !stat.isDirectory()) throw new ApiError('BadRequest', `not a directory`);
  return { path: path === root ? `${root}/` : path, stat };
}

/** In a running container's view of its root; not its files. */
const kernelFiles = /^(proc|sys|dev)\/./;

/** What the archive's entries begin with: `.` when the contents alone are asked for (`dir/.`). */
function lastElement(asked: string): string {
  return /(?:^|\/)\.\/*$/.test(asked) ? '.' : basename(normalise(asked)) || '/';
}

function describe(path: string, asked: string, stat: Stats): PathStat {
  return {
    name: lastElement(asked).toWellFormed(),
    size: stat.size,
    mode: goModeOf(stat),
    mtime: stat.mtime.toISOString(),
    linkTarget: stat.isSymbolicLink() ? readlinkSync(path).toWellFormed() : '',
  };
}

export function statPath(table: ContainerTable, container: Container, asked: string): Promise<PathStat> {
  return withTree(table, container, normalise(asked), async (root, inner) => {
    const { path, stat } = locate(container, root, inner, asked);
    return describe(path, asked, stat);
  });
}

/** A running container's files are seen with the owners that they have outside; those of one at rest are not. */
function ownersInside(table: ContainerTable, container: Container): (owner: Owner) => Owner {
  const mapping = runningMapping(table, container.record);
  return mapping === undefined ? (owner) => owner : mapping.toInside;
}

function ownersOutside(
  table: ContainerTable,
  container: Container,
): { ownerOf?: (owner: Owner) => Owner; worker?: Owner } {
  const mapping = runningMapping(table, container.record);
  return mapping === undefined ? {} : { ownerOf: mapping.toOutside, worker: mapping.view.root };
}

/** Where an archive goes: first what it is of, then its bytes. */
export interface ArchiveSink {
  start(stat: PathStat): void;
  write(bytes: Uint8Array): Promise<void>;
}

/** Hands the archive's pieces to `write`, which answers when the client can take more. */
export function readArchive(
  table: ContainerTable,
  container: Container,
  asked: string,
  { start, write }: ArchiveSink,
): Promise<void> {
  return withTree(table, container, normalise(asked), async (root, inner) => {
    const { path, stat } = locate(container, root, inner, asked);
    const ownerOf = ownersInside(table, container);
    const name = lastElement(asked);
    const prefix = name === '/' ? '/' : `${name}/`;
    start(describe(path, asked, stat));
    if (stat.isDirectory()) {
      const owner = ownerOf({ uid: stat.uid, gid: stat.gid });
      await write(encodeTarHeader({ ...tarHeaderOf(path, name, stat)!, ...owner, path: prefix }));
      for (const bytes of packTar(path, {
        layer: false,
        skipRoot: true,
        prefix,
        ownerOf,
        filter: (entry) => !kernelFiles.test(`${path}/${entry}`.slice(root.length).replace(/^\/+/, '')),
      }))
        await write(bytes);
      return;
    }
    for (const bytes of packFile(path, name, stat, ownerOf)) await write(bytes);
    await write(tarEnd);
  });
}

/** The whole root filesystem, without what is mounted in it. */
export function exportRoot(
  table: ContainerTable,
  container: Container,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  return container.lock.run(async () => {
    const mounted = container.root;
    const root =
      mounted ?? (await table.context.snapshots.mountContainerRoot(container.id, container.record.spec.imageId)).root;
    try {
      // One that was never started has it, too.
      markRoot(root);
      const ownerOf = ownersInside(table, container);
      for (const bytes of packTar(root, { layer: false, skipRoot: true, ownerOf })) await write(bytes);
    } finally {
      if (mounted === undefined) await table.context.snapshots.unmountContainerRoot(container.id);
    }
  });
}

export interface ArchiveWrite {
  /** A tar archive, plain or compressed. */
  source: AsyncIterable<Uint8Array>;
  noOverwriteDirNonDir: boolean;
  copyOwner: boolean;
}

export function writeArchive(
  table: ContainerTable,
  container: Container,
  asked: string,
  { source, ...options }: ArchiveWrite,
): Promise<void> {
  return withTree(table, container, normalise(asked), async (root, inner, readOnly) => {
    if (readOnly)
      throw new ApiError(
        'Forbidden',
        mountOf(container, normalise(asked)) === undefined
          ? 'container rootfs is marked read-only'
          : 'mounted volume is marked read-only',
      );
    const path = resolveInRoot(root, inner);
    const stat = lstatOrUndefined(path === root ? `${root}/` : path);
    if (stat === undefined)
      throw new ApiError('NotFound', `Could not find the file ${asked} in container ${container.id}`);
    if (!stat.isDirectory()) throw new ApiError('BadRequest', 'extraction point is not a directory');
    // Without a user of its own a container keeps the owners that the archive names.
    const own =
      container.record.spec.user ?? table.context.images.find(container.record.spec.imageId)?.config.user ?? '';
    const user = options.copyOwner && own !== '' ? resolveUser(root, own) : undefined;
    // Plain or compressed in any way, as docker takes it.
    const expanded = await decompress(source, {
      bytesMax: layerExpandedBytesMax,
      processes: table.context.os.processes,
    });
    await unpackTar(expanded, path, {
      layer: false,
      keepsKinds: options.noOverwriteDirNonDir,
      ...(user === undefined ? {} : { owner: { uid: user.uid, gid: user.gid } }),
      ...ownersOutside(table, container),
    });
  });
}
