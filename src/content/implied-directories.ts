/**
 * Directories that a layer names nothing of but files below them. Applied to what lies below, as the specification has
 * it, such a layer leaves them as they were: `/tmp` keeps its mode, and `/lib` stays the symlink that it was, so that
 * the file lands where it leads. Layers are unpacked each on its own here, so what lay below is not known then; the
 * unpacked layer remembers these directories (`LayerRecord.implied`), and whoever mounts layers together puts one more
 * on top of them, made by `makeParents`: the directories as they are to be seen and, where a symlink is to be seen in
 * place of a directory, that symlink and hard links to the files at the place that it leads to.
 *
 * Specification: OCI image layer, "Applying Changesets"; overlayfs.rst, "whiteouts and opaque directories" and "merged
 * directories".
 */
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lstatOrUndefined,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  setTimes,
  symlinkSync,
} from '#os/named-files.ts';
import { getXattr, listXattrs, setXattr } from '#os/special-files.ts';
import { symlinkHopsMax } from './limits.ts';
import { pathParts } from './safe-path.ts';

export interface LayerTree {
  /** Absolute. */ directory: string;
  implied: ReadonlySet<string>;
}

/** What is seen at a path when layers lie on each other. */
interface Seen {
  kind: 'missing' | 'directory' | 'symlink' | 'other';
  /** Layers, the topmost first, whose directories are merged there; or the one that has what is seen. */
  layers: number[];
  /** The same and those that an opaque mark hides: the mark is about what lies in a directory, not about itself. */
  all: number[];
  /** Below the merged directories lies a symlink, which they hide, in this layer. */
  hiddenSymlink?: number;
}

/** Merged look-ups, `layers[0]` topmost. Never follows a symlink. */
class MergedView {
  readonly #layers: readonly LayerTree[];
  constructor(layers: readonly LayerTree[]) {
    this.#layers = layers;
  }

  pathIn(layer: number, path: string): string {
    return path === '' ? this.#layers[layer]!.directory : `${this.#layers[layer]!.directory}/${path}`;
  }

  at(path: string): Seen {
    const every = this.#layers.map((_, index) => index);
    let seen: Seen = { kind: 'directory', layers: every, all: every };
    let here = '';
    for (const part of pathParts(path)) {
      if (seen.kind !== 'directory') return { kind: 'missing', layers: [], all: [] };
      here = here === '' ? part : `${here}/${part}`;
      seen = this.#step(seen.layers, here);
    }
    return seen;
  }

  #step(candidates: number[], path: string): Seen {
    const merged: number[] = [];
    const all: number[] = [];
    let isOpaque = false;
    for (const layer of candidates) {
      const own = this.pathIn(layer, path);
      const info = lstatOrUndefined(own);
      if (info === undefined) continue;
      if (info.isDirectory()) {
        all.push(layer);
        if (!isOpaque) merged.push(layer);
        isOpaque ||= Buffer.from(getXattr(own, 'trusted.overlay.opaque') ?? []).toString() === 'y';
        continue;
      }
      const isWhiteout = info.isCharacterDevice() && info.rdev === 0;
      if (merged.length > 0)
        return { kind: 'directory', layers: merged, all, ...(info.isSymbolicLink() ? { hiddenSymlink: layer } : {}) };
      return {
        kind: isWhiteout ? 'missing' : info.isSymbolicLink() ? 'symlink' : 'other',
        layers: isWhiteout ? [] : [layer],
        all: [],
      };
    }
    return merged.length === 0 ? { kind: 'missing', layers: [], all: [] } : { kind: 'directory', layers: merged, all };
  }

  isImplied(layer: number, path: string): boolean {
    return this.#layers[layer]!.implied.has(path);
  }

  /**
   * The directory that a path leads to in the layers from `from` on, symlinks followed; undefined where there is none.
   */
  resolve(path: string, from: number): string | undefined {
    const below = new MergedView(this.#layers.slice(from));
    let parts = pathParts(path);
    const done: string[] = [];
    for (let hops = 0; parts.length > 0;) {
      const part = parts.shift()!;
      if (part === '..') {
        done.pop();
        continue;
      }
      const here = [...done, part].join('/');
      const seen = below.at(here);
      if (seen.kind === 'directory') {
        done.push(part);
        continue;
      }
      if (seen.kind !== 'symlink') return undefined;
      if (++hops > symlinkHopsMax) return undefined;
      const target = readlinkSync(below.pathIn(seen.layers[0]!, here));
      if (target.startsWith('/')) done.length = 0;
      parts = [...pathParts(target), ...parts];
    }
    return done.join('/');
  }
}

class ParentsMaker {
  readonly #view: MergedView;
  readonly #layers: readonly LayerTree[];
  readonly #into: string;
  /** Made directories with the time that they are to have once they are full. */
  readonly #made = new Map<string, number>();

  constructor(layers: readonly LayerTree[], into: string) {
    this.#layers = layers;
    this.#view = new MergedView(layers);
    this.#into = into;
  }

  run(): boolean {
    const moved: string[] = [];
    const all = [...new Set(this.#layers.flatMap((layer) => [...layer.implied]))];
    // Parents before what lies in them.
    for (const path of all.sort((a, b) => a.length - b.length)) {
      if (moved.some((each) => path === each || path.startsWith(`${each}/`))) continue;
      const seen = this.#view.at(path);
      // Seen as a layer above says, or gone.
      if (seen.kind !== 'directory' || !this.#view.isImplied(seen.layers[0]!, path)) continue;
      if (this.#made.has(`${this.#into}/${path}`)) continue;
      const isNamed = seen.all.some((layer) => !this.#view.isImplied(layer, path));
      if (isNamed) this.#directory(path);
      else if (seen.hiddenSymlink !== undefined && this.#restoreSymlink(path, seen)) moved.push(path);
    }
    for (const [path, timeMs] of [...this.#made].reverse()) setTimes(path, timeMs, timeMs);
    return this.#made.size > 0 || moved.length > 0;
  }

  /** The directory with the attributes of the topmost layer that names it. */
  #directory(path: string): string {
    const own = path === '' ? this.#into : `${this.#into}/${path}`;
    if (path === '' || this.#made.has(own)) return own;
    this.#directory(path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '');
    const { all } = this.#view.at(path);
    mkdirSync(own, { mode: 0o755 });
    const from = all.find((layer) => !this.#view.isImplied(layer, path)) ?? all[0];
    this.#made.set(own, 0);
    if (from === undefined) return own;
    const source = this.#view.pathIn(from, path);
    const info = lstatSync(source);
    chownSync(own, info.uid, info.gid);
    chmodSync(own, info.mode & 0o7777);
    for (const name of listXattrs(source)) {
      if (name.startsWith('trusted.overlay.')) continue;
      const value = getXattr(source, name);
      if (value !== undefined) setXattr(own, name, value);
    }
    this.#made.set(own, info.mtimeMs);
    return own;
  }

  /** The symlink again, and what the layers put into the directory in its place at the place that it leads to. */
  #restoreSymlink(path: string, seen: Seen): boolean {
    const target = this.#view.resolve(path, seen.hiddenSymlink!);
    if (target === undefined) return false;
    const parent = this.#directory(path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '');
    const link = this.#view.pathIn(seen.hiddenSymlink!, path);
    const info = lstatSync(link);
    const own = `${parent}/${path.slice(path.lastIndexOf('/') + 1)}`;
    symlinkSync(readlinkSync(link), own);
    lchownSync(own, info.uid, info.gid);
    setTimes(own, info.mtimeMs, info.mtimeMs);
    for (const layer of seen.layers) this.#linkInto(layer, path, target);
    return true;
  }

  #linkInto(layer: number, path: string, target: string): void {
    for (const name of readdirSync(this.#view.pathIn(layer, path))) {
      const from = this.#view.pathIn(layer, `${path}/${name}`);
      const to = target === '' ? name : `${target}/${name}`;
      if (lstatSync(from).isDirectory()) {
        this.#directory(to);
        this.#linkInto(layer, `${path}/${name}`, to);
        continue;
      }
      const place = `${this.#directory(target)}/${name}`;
      // A layer above has its own.
      const above = this.#view.at(to);
      if (lstatOrUndefined(place) === undefined && !(above.kind !== 'missing' && above.layers[0]! < layer))
        linkSync(from, place);
    }
  }
}

/**
 * Fills an empty directory with what is to lie on top of these layers (`layers[0]` topmost). False: nothing needs to.
 */
export function makeParents(layers: readonly LayerTree[], into: string): boolean {
  return layers.some((layer) => layer.implied.size > 0) && new ParentsMaker(layers, into).run();
}
