/**
 * Root filesystems of containers: an overlay of the image's unpacked layers (below) and the container's own writable
 * directory (above).
 *
 *   containers/ID/upper   what the container wrote; survives unmounting
 *   containers/ID/work    overlayfs's scratch
 *   containers/ID/root    mount point
 *   containers/ID/parents directories that layers do not name, as those below have them (`implied-directories.ts`)
 *   containers/ID/image   JSON {imageId, layers}: keeps the layers from collection as long as the directory is there
 *
 * Mounting is one mount(2) call: layers are unpacked when the image is pulled. An image whose layers are not unpacked
 * (kept data after a power loss) has them unpacked first. All calls are idempotent.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { Mounts } from '#os/mount.ts';
import type { Content } from './content.ts';
import { makeParents } from './implied-directories.ts';
import { plainChainsKeptMax } from './limits.ts';
import type { ImageLayer, ImageRecords } from './image-records.ts';

/** Owners of files as a user namespace has them. */
export interface MappedView {
  /** All of the content, shown so: a mount whose owner `root` stands for 0 on disk. */
  directory: string;
  root: { uid: number; gid: number };
}

export interface Snapshots {
  /** Directory of all layers and roots. */
  readonly contentRoot: string;
  /** With a view its files have those owners, and new ones are on disk as they would be without it. */
  mountContainerRoot(containerId: string, imageId: string, view?: MappedView): Promise<{ root: string }>;
  unmountContainerRoot(containerId: string): Promise<void>;
  removeContainerRoot(containerId: string): Promise<void>;
  upperDir(containerId: string): string;
  /**
   * Where the parts of a container's root are, mounted or not, as docker names them; `LowerDir` topmost first, joined
   * by colons.
   */
  directories(
    containerId: string,
    imageId: string,
  ): { LowerDir: string; MergedDir: string; UpperDir: string; WorkDir: string };
}

/** What the builder needs beyond containers: roots made of any layers, and an upper directory to take over. */
export interface BuildSnapshots extends Snapshots {
  mountLayers(id: string, layers: ImageLayer[]): Promise<{ root: string }>;
  /** A read-only view of an image's files. */
  mountReadOnly(id: string, layers: ImageLayer[]): Promise<{ root: string }>;
  /** The root of a container that another engine made: `fill` gets the empty directory of what it wrote. */
  adoptContainerRoot(
    id: string,
    image: { imageId: string; diffIds: string[] },
    fill: (upper: string) => Promise<void>,
  ): Promise<void>;
  /** Unmounts and moves the upper directory away, leaving an empty one. */
  detachUpper(id: string): Promise<string>;
}

interface Kept {
  imageId: string;
  layers: string[];
}
const idPattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

class OverlaySnapshots implements BuildSnapshots {
  readonly #content: Content;
  readonly #images: ImageRecords;
  readonly #mounts: Mounts;
  readonly #kept = new Map<string, Kept>();
  readonly #base: string;
  readonly #plainChains = new Set<string>();

  constructor(content: Content, images: ImageRecords, mounts: Mounts) {
    this.#content = content;
    this.#images = images;
    this.#mounts = mounts;
    this.#base = join(content.root, 'containers');
    mkdirSync(this.#base, { recursive: true, mode: 0o700 });
    for (const id of readdirSync(this.#base)) {
      try {
        this.#kept.set(id, JSON.parse(readFileSync(join(this.#base, id, 'image'), 'utf8')) as Kept);
      } catch {
        /* Half made: its owner removes it or mounts again. */
      }
    }
    content.addRoots(() => ({ blobs: [], layers: [...this.#kept.values()].flatMap((kept) => kept.layers) }));
  }

  #path(id: string, name = ''): string {
    if (!idPattern.test(id)) throw new ApiError('BadRequest', `invalid container id: ${id}`);
    return name === '' ? join(this.#base, id) : join(this.#base, id, name);
  }

  upperDir(containerId: string): string {
    return this.#path(containerId, 'upper');
  }

  directories(
    containerId: string,
    imageId: string,
  ): { LowerDir: string; MergedDir: string; UpperDir: string; WorkDir: string } {
    const diffIds =
      this.#kept.get(containerId)?.layers ?? this.#images.get(imageId)?.layers.map((layer) => layer.diffId) ?? [];
    const lowers = diffIds.map((diffId) => join(this.#content.root, this.#content.layers.directory(diffId))).reverse();
    return {
      LowerDir: lowers.join(':'),
      MergedDir: this.#path(containerId, 'root'),
      UpperDir: this.upperDir(containerId),
      WorkDir: this.#path(containerId, 'work'),
    };
  }

  get contentRoot(): string {
    return this.#content.root;
  }

  async mountContainerRoot(containerId: string, imageId: string, view?: MappedView): Promise<{ root: string }> {
    const record = this.#images.get(imageId);
    const kept = this.#kept.get(containerId);
    // The image may be gone by force while its container stays: the layers are still here.
    if (record === undefined && kept?.imageId !== imageId) throw new ApiError('NotFound', `No such image: ${imageId}`);
    if (record !== undefined) await this.#ensure(record.layers);
    const diffIds = record?.layers.map((layer) => layer.diffId) ?? kept!.layers;
    return this.#mount(containerId, { imageId, diffIds }, view);
  }

  mountLayers(id: string, layers: ImageLayer[]): Promise<{ root: string }> {
    return this.#ensure(layers).then(() =>
      this.#mount(id, { imageId: '', diffIds: layers.map((layer) => layer.diffId) }),
    );
  }

  async mountReadOnly(id: string, layers: ImageLayer[]): Promise<{ root: string }> {
    return this.mountLayers(id, layers);
  }

  async #ensure(layers: ImageLayer[]): Promise<void> {
    const missing = layers.filter((layer) => !this.#content.layers.has(layer.diffId));
    if (missing.length === 0) return;
    using hold = this.#content.hold();
    for (const layer of missing) {
      hold.addBlob(layer.digest);
      hold.addLayer(layer.diffId);
    }
    await Promise.all(missing.map((layer) => this.#content.layers.ensure(layer.diffId, layer.digest)));
  }

  async #mount(
    id: string,
    { imageId, diffIds }: { imageId: string; diffIds: string[] },
    view?: MappedView,
  ): Promise<{ root: string }> {
    const root = this.#path(id, 'root');
    // A layer that comes twice says nothing from below that it does not say above; the kernel takes none twice.
    const lowers = [...new Set(diffIds.map((diffId) => this.#content.layers.directory(diffId)).reverse())];
    if (!this.#kept.has(id)) {
      this.#makeDirectories(id);
      this.#keep(id, { imageId, layers: diffIds });
    }
    // An image without layers (FROM scratch) still needs something below.
    if (lowers.length === 0) {
      mkdirSync(this.#path(id, 'empty'), { recursive: true, mode: 0o755 });
      lowers.push(`containers/${id}/empty`);
    }
    await this.#mounts.unmount(root);
    if (await this.#layParents(id, diffIds)) lowers.unshift(`containers/${id}/parents`);
    await this.#mounts.mountOverlay({
      directory: view?.directory ?? this.#content.root,
      ...(view === undefined ? {} : { owner: view.root }),
      lowers,
      upper: `containers/${id}/upper`,
      work: `containers/${id}/work`,
      target: root,
    });
    return { root };
  }

  #makeDirectories(id: string): void {
    mkdirSync(this.#path(id), { recursive: true, mode: 0o710 });
    for (const name of ['upper', 'work', 'root'])
      mkdirSync(this.#path(id, name), { recursive: true, mode: name === 'upper' ? 0o755 : 0o700 });
  }

  #keep(id: string, kept: Kept): void {
    writeFileSync(this.#path(id, 'image'), JSON.stringify(kept));
    // Only now: on a full disk the next call must write it again, or the next process would not know the layers.
    this.#kept.set(id, kept);
  }

  async adoptContainerRoot(
    id: string,
    { imageId, diffIds }: { imageId: string; diffIds: string[] },
    fill: (upper: string) => Promise<void>,
  ): Promise<void> {
    await this.removeContainerRoot(id);
    this.#makeDirectories(id);
    this.#keep(id, { imageId, layers: diffIds });
    await fill(this.upperDir(id));
  }

  /** Directories that layers have files in but do not name look as the layers below have them. */
  async #layParents(id: string, diffIds: string[]): Promise<boolean> {
    const { layers, root } = this.#content;
    const trees = diffIds
      .map((diffId) => ({ directory: join(root, layers.directory(diffId)), implied: layers.implied(diffId) }))
      .reverse();
    const chain = diffIds.join();
    if (trees.every((tree) => tree.implied.size === 0) || this.#plainChains.has(chain)) return false;
    const parents = this.#path(id, 'parents');
    await rm(parents, { recursive: true, force: true });
    mkdirSync(parents, { mode: 0o755 });
    if (makeParents(trees, parents)) return true;
    // Looked through once: nothing lies below what these layers leave out.
    if (this.#plainChains.size >= plainChainsKeptMax) this.#plainChains.clear();
    this.#plainChains.add(chain);
    return false;
  }

  async unmountContainerRoot(containerId: string): Promise<void> {
    await this.#mounts.unmount(this.#path(containerId, 'root'));
  }

  async removeContainerRoot(containerId: string): Promise<void> {
    const path = this.#path(containerId);
    if (existsSync(path)) {
      await this.unmountContainerRoot(containerId);
      // Never through a mount that did not go: the image's files are below it.
      await this.#mounts.removeTrees([join(path, 'image'), path]);
    }
    this.#kept.delete(containerId);
  }

  async detachUpper(id: string): Promise<string> {
    await this.unmountContainerRoot(id);
    const taken = this.#path(id, 'taken');
    rmSync(taken, { recursive: true, force: true });
    await rename(this.upperDir(id), taken);
    mkdirSync(this.upperDir(id), { mode: 0o755 });
    return taken;
  }
}

export function createSnapshots(options: { content: Content; images: ImageRecords; mounts: Mounts }): BuildSnapshots {
  return new OverlaySnapshots(options.content, options.images, options.mounts);
}
