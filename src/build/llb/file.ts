/**
 * File operations: copies, new files and directories, removals, one after the other in a mounted root. Actions that
 * follow each other make one layer; one that copies from what an earlier action made reads that as files of its own.
 */
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { CopyAction, Owner, StagedCopy } from '#content/copy.ts';
import type { ImageLayer } from '#content/image-records.ts';
import { digestOf, fileActionKey, layersKey } from '../cache-keys.ts';
import { takeLayer } from './exec.ts';
import { openView } from './view.ts';
import { cleanContextPath } from '../context.ts';
import { hasWildcard } from '../patterns.ts';
import { expandInRoot, openCopySource, treeContentKey } from './copy-source.ts';
import type { SourcePart } from './copy-source.ts';
import { resolveOwner } from './owner.ts';
import { layersOf, scratch } from './output.ts';
import type { Output, StepLayer } from './output.ts';
import type { SolverContext, Work } from './work.ts';
import type { FileAction, FileOp, Vertex } from './vertex.ts';

type CopyFileAction = FileAction & { kind: 'copy' };

interface Prepared {
  actions: CopyAction[];
  release: () => Promise<void>;
}

/** `apply` may be called while the work goes on; `finish` comes last, and ends it. */
export interface LayerWork {
  root: string;
  apply(actions: CopyAction[]): Promise<void>;
  finish(actions: CopyAction[]): Promise<void>;
}

/** What work writes into a mounted root of the layers, as a layer; null when it writes nothing. */
export async function copyToLayer(
  context: SolverContext,
  below: readonly ImageLayer[],
  work: (into: LayerWork) => Promise<void>,
): Promise<ImageLayer | null> {
  const { content, signal } = context;
  const { id, root, release } = await openView(context, below);
  const stage = content.blobs.scratchPath();
  try {
    mkdirSync(stage, { mode: 0o700 });
    let staged: StagedCopy[] = [];
    await work({
      root,
      async apply(actions) {
        await content.layers.copyInto(root, actions, { signal });
      },
      async finish(actions) {
        staged = await content.layers.copyInto(root, actions, { signal, stage });
      },
    });
    return await takeLayer(context, { id, layers: below, staged }, []);
  } finally {
    await rm(stage, { recursive: true, force: true });
    await release();
  }
}

/** A run of actions, each on what the one before made. */
interface Chain {
  actions: FileAction[];
  /** What the first of them works on. */
  input: number | undefined;
}

function removals(root: string, action: FileAction & { kind: 'remove' }): CopyAction[] {
  const paths = expandInRoot(root, cleanContextPath(action.path), true);
  if (paths.length === 0 && !action.allowsNone)
    throw new ApiError('BadRequest', `rm ${action.path}: no such file or directory`);
  return paths.map((target) => ({ kind: 'remove', target, allowsNone: true }));
}

class FileVertex {
  readonly #context: SolverContext;
  readonly #op: FileOp;
  readonly #inputs: readonly Output[];
  /** What actions made that others copy from: each once. */
  readonly #made = new Map<number, Promise<Output>>();

  constructor(context: SolverContext, op: FileOp, inputs: readonly Output[]) {
    this.#context = context;
    this.#op = op;
    this.#inputs = inputs;
  }

  /** Back from action `last` to the input, or to what another action also works on. */
  chain(last: number): Chain {
    const count = this.#inputs.length;
    const actions: FileAction[] = [];
    let at: number | undefined = last + count;
    while (at !== undefined && at >= count) {
      const action: FileAction | undefined = this.#op.actions[at - count];
      if (action === undefined || actions.length > this.#op.actions.length)
        throw new ApiError('BadRequest', 'a file operation names an input that it has not');
      actions.unshift(action);
      at = action.input;
    }
    return { actions, input: at };
  }

  input(index: number | undefined): Output {
    if (index === undefined) return scratch;
    const found = this.#inputs[index];
    if (found === undefined) throw new ApiError('BadRequest', 'a file operation names an input that it has not');
    return found;
  }

  async below(chain: Chain): Promise<readonly StepLayer[]> {
    return this.#context.toSteps(this.input(chain.input));
  }

  /** The content that an action copies; what an earlier action made is known by that action. */
  async #fromKey(action: FileAction): Promise<unknown> {
    if (action.kind !== 'copy') return '';
    const { from } = action;
    if (from !== undefined && from >= this.#inputs.length) return '';
    const input = this.input(from);
    if (input.kind === 'layers') return layersKey(layersOf(input.steps));
    return treeContentKey(input.tree, action);
  }

  async actionKey(action: FileAction): Promise<unknown> {
    return [fileActionKey(action, this.#inputs.length), await this.#fromKey(action)];
  }

  #copiesLayers(action: FileAction): action is CopyFileAction {
    if (action.kind !== 'copy' || (action.from !== undefined && action.from >= this.#inputs.length)) return false;
    return this.input(action.from).kind === 'layers';
  }

  get readsLayers(): boolean {
    return this.#op.actions.some((action) => this.#copiesLayers(action));
  }

  /** As `actionKey`, by the files that are copied out of layers in place of the layers. */
  async contentKey(action: FileAction): Promise<unknown> {
    if (!this.#copiesLayers(action)) return this.actionKey(action);
    const { content, signal } = this.#context;
    const source = await openCopySource(this.#context, this.input(action.from), action);
    try {
      const files: string[] = [];
      for (const { root, paths, excluded } of source.parts)
        files.push(await content.layers.digestFiles(root, paths, excluded, signal));
      return [fileActionKey(action, this.#inputs.length), 'files', ...files];
    } finally {
      await source.release();
    }
  }

  /** The outputs that `from` stands for: an input, or what actions of this vertex made. */
  async #copied(from: number | undefined): Promise<Output> {
    const count = this.#inputs.length;
    if (from === undefined || from < count) return this.input(from);
    let made = this.#made.get(from);
    if (made === undefined) this.#made.set(from, (made = this.#make(from - count)));
    return made;
  }

  async #make(last: number): Promise<Output> {
    const chain = this.chain(last);
    const below = await this.below(chain);
    const layer = await this.run(chain, below);
    return { kind: 'layers', steps: [...below, { layer, createdAtMs: undefined, about: '' }] };
  }

  async run(chain: Chain, below: readonly StepLayer[]): Promise<ImageLayer | null> {
    return copyToLayer(this.#context, layersOf(below), async ({ root, apply, finish }) => {
      const releases: (() => Promise<void>)[] = [];
      let actions: CopyAction[] = [];
      try {
        for (const action of chain.actions) {
          if (action.kind === 'remove' && action.allowsWildcard && hasWildcard(action.path)) {
            // What it matches may have been made just before.
            await apply(actions);
            actions = removals(root, action);
            continue;
          }
          const owner = await resolveOwner(action.owner, (index) => this.#rootOf(index, root, releases));
          const prepared = await this.#prepare(action, owner);
          actions.push(...prepared.actions);
          releases.push(prepared.release);
        }
        await finish(actions);
      } finally {
        for (const release of releases.reverse()) await release();
      }
    });
  }

  /** Files in which names of owners are looked up. */
  async #rootOf(index: number | undefined, root: string, releases: (() => Promise<void>)[]): Promise<string> {
    if (index === undefined || index >= this.#inputs.length) return root;
    const { root: known, release } = await openView(
      this.#context,
      layersOf(await this.#context.toSteps(this.input(index))),
    );
    releases.push(release);
    return known;
  }

  async #prepare(action: FileAction, owner: Owner | undefined): Promise<Prepared> {
    const mtimeMs = action.timestampNs === undefined ? undefined : action.timestampNs / 1e6;
    const withOwner = owner === undefined ? {} : { owner };
    const withTime = mtimeMs === undefined ? {} : { mtimeMs };
    const plain = (made: CopyAction): Prepared => ({ actions: [made], release: async () => {} });
    switch (action.kind) {
      case 'copy':
        return this.#prepareCopy(action, owner);
      case 'makeFile':
        return plain({
          kind: 'file',
          target: posix.dirname(action.path),
          name: posix.basename(action.path),
          isDirectory: true,
          content: action.data,
          mode: action.mode & 0o7777,
          mtimeMs: mtimeMs ?? this.#context.clock.now(),
          ...withOwner,
        });
      case 'makeDirectory':
        return plain({
          kind: 'makeDirectory',
          target: action.path,
          mode: action.mode & 0o7777,
          makesParents: action.makesParents,
          ...withOwner,
          ...withTime,
        });
      case 'remove':
        return plain({ kind: 'remove', target: action.path, allowsNone: action.allowsNone });
      default:
        return plain({
          kind: 'symlink',
          target: action.path,
          linkTarget: action.linkTarget,
          ...withOwner,
          ...withTime,
        });
    }
  }

  async #prepareCopy(action: CopyFileAction, owner: Owner | undefined): Promise<Prepared> {
    const { content } = this.#context;
    const source = await openCopySource(this.#context, await this.#copied(action.from), action);
    const scratches: string[] = [];
    const release = async (): Promise<void> => {
      await source.release();
      await Promise.all(scratches.map((path) => rm(path, { recursive: true, force: true })));
    };
    try {
      const paths = source.parts.flatMap((part) => part.paths);
      const [first = { root: '', paths: [], excluded: [] }] = source.parts;
      const plain: CopyAction & { kind: 'copy' } = {
        kind: 'copy',
        sourceRoot: first.root,
        sources: [],
        target: action.target,
        isDirectory: /(^|\/)\.?$/.test(action.target) || paths.length > 1,
        exclude: first.excluded,
        keepsParents: action.include.length > 0,
        makesDirectory: !action.copiesContents,
        canLink: source.canLink,
        ...(owner === undefined ? {} : { owner }),
        ...(action.mode === undefined ? {} : { mode: action.mode & 0o7777 }),
        ...(action.modeText === '' ? {} : { modeText: action.modeText }),
        ...(action.timestampNs === undefined ? {} : { mtimeMs: action.timestampNs / 1e6 }),
      };
      if (!action.unpacks) return { actions: copiesOf(plain, source.parts, action), release };
      const actions: CopyAction[] = [];
      for (const path of paths) {
        const archive = await source.archive(path);
        if (archive === undefined) {
          actions.push({ ...plain, sources: [path] });
          continue;
        }
        const unpacked = content.blobs.scratchPath();
        scratches.push(unpacked);
        await content.layers.unpackFile(archive, unpacked);
        actions.push({ ...plain, sourceRoot: unpacked, sources: ['.'], exclude: [], makesDirectory: false });
      }
      return { actions, release };
    } catch (error) {
      await release();
      throw error;
    }
  }
}

/** One copy out of each directory; the target of patterns is made, though they match nothing. */
function copiesOf(
  plain: CopyAction & { kind: 'copy' },
  parts: readonly SourcePart[],
  { include, target }: CopyFileAction,
): CopyAction[] {
  const made = parts
    .filter(({ paths }) => paths.length > 0)
    .map(({ root, paths, excluded }) => ({ ...plain, sourceRoot: root, sources: paths, exclude: excluded }));
  if (made.length > 0 || include.length === 0) return made;
  return [{ kind: 'makeDirectory', target, mode: 0o755, makesParents: true }];
}

export async function fileWork(
  context: SolverContext,
  vertex: Vertex,
  op: FileOp,
  inputs: readonly Output[],
): Promise<Work> {
  const file = new FileVertex(context, op, inputs);
  const ends = op.actions.flatMap((action, index) =>
    action.output === undefined ? [] : [{ index, output: action.output }],
  );
  const count = Math.max(0, ...ends.map(({ output }) => output + 1));
  const chains: (Chain | undefined)[] = [];
  for (let output = 0; output < count; output++) {
    const end = ends.find((each) => each.output === output);
    chains.push(end === undefined ? undefined : file.chain(end.index));
  }
  const below: (readonly StepLayer[])[] = [];
  for (const chain of chains) below.push(chain === undefined ? [] : await file.below(chain));
  const keys: unknown[] = [];
  for (const action of op.actions) keys.push(await file.actionKey(action));
  const belowKeys = below.map((steps) => layersKey(layersOf(steps)));
  const contentKey = async (): Promise<string | undefined> => {
    const ofContent: unknown[] = [];
    try {
      for (const action of op.actions) ofContent.push(await file.contentKey(action));
    } catch {
      // What is missing is told by the work itself.
      context.signal.throwIfAborted();
      return undefined;
    }
    return digestOf('file', ofContent, belowKeys);
  };
  return {
    key: digestOf('file', keys, belowKeys),
    ...(file.readsLayers ? { contentKey } : {}),
    about: vertex.name,
    outputs: count,
    below,
    async run() {
      const layers: (ImageLayer | null)[] = [];
      for (const [index, chain] of chains.entries())
        layers.push(chain === undefined ? null : await file.run(chain, below[index] ?? []));
      return layers;
    },
  };
}
