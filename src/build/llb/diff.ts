/**
 * What one output adds to another. Where it stands on the other, these are its own layers. Else both trees are compared,
 * and what has to become of the one so that it is the other is one layer.
 */
import type { Stats } from 'node:fs';
import { posix } from 'node:path';
import { giveWay } from '#os/turn.ts';
import type { CopyAction } from '#content/copy.ts';
import { chmodSync, chownSync, lstatSync, readBytes, readdirSync, readlinkSync, setTimes } from '#os/named-files.ts';
import { digestOf, layersKey } from '../cache-keys.ts';
import { copyToLayer } from './file.ts';
import { layersOf, present } from './output.ts';
import type { Output, StepLayer } from './output.ts';
import { openView } from './view.ts';
import type { SolverContext } from './work.ts';
import type { DiffOp } from './vertex.ts';

const comparedBytes = 1 << 20;

async function hasSameBytes(lower: string, upper: string, size: number): Promise<boolean> {
  for (let at = 0; at < size; at += comparedBytes) {
    if (!readBytes(lower, at, comparedBytes).equals(readBytes(upper, at, comparedBytes))) return false;
    await giveWay();
  }
  return true;
}

interface Entry {
  path: string;
  info: Stats;
}

const kindOf = ({ info }: Entry): number => info.mode & 0o170000;

async function isSame(lower: Entry, upper: Entry): Promise<boolean> {
  const [a, b] = [lower.info, upper.info];
  if (a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid || a.rdev !== b.rdev) return false;
  if (a.isSymbolicLink()) return readlinkSync(lower.path) === readlinkSync(upper.path);
  if (a.mtimeMs !== b.mtimeMs) return false;
  return !a.isFile() || (a.size === b.size && (await hasSameBytes(lower.path, upper.path, a.size)));
}

/** What has to be done in one tree to make it the other. */
class Comparison {
  readonly actions: CopyAction[] = [];
  /** Directories that stay and are otherwise: they are set when all in them is done. */
  readonly directories: Entry[] = [];
  readonly #lower: string;
  readonly #upper: string;

  constructor(lower: string, upper: string) {
    this.#lower = lower;
    this.#upper = upper;
  }

  #copy(path: string, { path: place, info }: Entry): void {
    if (info.isSymbolicLink()) {
      const { uid, gid, mtimeMs } = info;
      const linkTarget = readlinkSync(place);
      this.actions.push({ kind: 'symlink', target: `/${path}`, linkTarget, owner: { uid, gid }, mtimeMs });
      return;
    }
    const target = `/${posix.dirname(path)}`;
    const source = { sourceRoot: this.#upper, sources: [path] };
    this.actions.push({ kind: 'copy', ...source, target, isDirectory: true, makesDirectory: true });
  }

  /** Directories lie in each other as deep as the store lets paths be. */
  async compare(directory = ''): Promise<void> {
    await giveWay();
    const [lower, upper] = [this.#lower, this.#upper].map((root) => posix.join(root, directory));
    const [known, wanted] = [new Set(readdirSync(lower!)), new Set(readdirSync(upper!))];
    for (const name of known)
      if (!wanted.has(name))
        this.actions.push({ kind: 'remove', target: posix.join(directory, name), allowsNone: true });
    for (const name of [...wanted].sort()) await this.#entry(posix.join(directory, name), known.has(name));
  }

  async #entry(path: string, isKnown: boolean): Promise<void> {
    const at = (root: string): Entry => ({ path: `${root}/${path}`, info: lstatSync(`${root}/${path}`) });
    const upper = at(this.#upper);
    if (!isKnown) {
      this.#copy(path, upper);
      return;
    }
    const lower = at(this.#lower);
    const isKind = kindOf(lower) === kindOf(upper);
    if (isKind && upper.info.isDirectory()) {
      await this.compare(path);
      if (!(await isSame(lower, upper))) this.directories.push({ path, info: upper.info });
      return;
    }
    if (isKind && (await isSame(lower, upper))) return;
    this.actions.push({ kind: 'remove', target: path, allowsNone: true });
    this.#copy(path, upper);
  }
}

async function compareTrees(
  context: SolverContext,
  lower: readonly StepLayer[],
  upper: readonly StepLayer[],
): Promise<StepLayer> {
  const { cache, clock } = context;
  const about = 'difference of trees';
  const key = digestOf('difference', layersKey(layersOf(lower)), layersKey(layersOf(upper)));
  const known = cache.get(key);
  if (known !== undefined) return { layer: known.layers[0] ?? null, createdAtMs: known.atMs, about };
  const { root: wanted, release } = await openView(context, layersOf(upper));
  try {
    const layer = await copyToLayer(context, layersOf(lower), async ({ root, apply, finish }) => {
      const comparison = new Comparison(root, wanted);
      await comparison.compare();
      await apply(comparison.actions);
      for (const { path, info } of comparison.directories) {
        const place = `${root}/${path}`;
        chownSync(place, info.uid, info.gid);
        chmodSync(place, info.mode & 0o7777);
        setTimes(place, info.mtimeMs, info.mtimeMs);
      }
      await finish([]);
    });
    const atMs = clock.now();
    await cache.put(key, { layers: [layer], atMs, about });
    return { layer, createdAtMs: atMs, about };
  } finally {
    await release();
  }
}

export async function solveDiff(context: SolverContext, op: DiffOp, inputs: readonly Output[]): Promise<Output> {
  const stepsOf = async (index: number | undefined): Promise<readonly StepLayer[]> => {
    const input = index === undefined ? undefined : inputs[index];
    return input === undefined ? [] : context.toSteps(await present(input));
  };
  const [lower, upper] = [await stepsOf(op.lower), await stepsOf(op.upper)];
  const isBelow = lower.every(({ layer }, index) => layer?.diffId === upper[index]?.layer?.diffId);
  if (isBelow) return { kind: 'layers', steps: upper.slice(lower.length) };
  return { kind: 'layers', steps: [await compareTrees(context, lower, upper)] };
}
