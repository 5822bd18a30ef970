/**
 * The build graph's operations, LLB-like: *source* (an image's layers, or nothing), *exec* (a command over a root),
 * *file* (copies into a
 * root). An operation's key is a digest of what it does and of the layers it does it to, so equal work is done once,
 * whoever asks and in which build. `solve` gives the layer that an operation adds, or null when it changes nothing.
 *
 * Front ends (`dockerfile/stage.ts`) make operations; nothing here knows instructions.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Content } from '#content/content.ts';
import type { ImageLayer, ImageRecords } from '#content/image-records.ts';
import { toImageLayer, writeImage } from '#content/image-writer.ts';
import { findMountPoints } from '#content/mount-points.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import type { Clock, Random } from '#os/clock.ts';
import { layersKey, operationKey } from './cache-keys.ts';
import type { BuildCache } from './cache.ts';
import type { ExecOp, FileOp, Operation } from './operations.ts';
import type { BuildRunner } from './runner.ts';

export interface GraphContext {
  content: Content;
  images: ImageRecords;
  snapshots: BuildSnapshots;
  runner: BuildRunner;
  cache: BuildCache;
  clock: Clock;
  random: Random;
}

export interface SolveOptions {
  noCache: boolean;
  signal: AbortSignal;
  onOutput: (bytes: Uint8Array) => void;
  onStart?: (containerId: string) => void;
  onEnd?: (containerId: string) => void;
  about: string;
}

export class ExitError extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super(`the command exited with ${exitCode}`);
    this.name = 'ExitError';
    this.exitCode = exitCode;
  }
}

const running = new Map<string, Promise<ImageLayer | null>>();

// walk image-build 4/6: an operation on layers has a key of their digests: the cache answers, or it is carried out.
/** The layer that the operation adds to these layers. The same operation asked for twice at a time is done once. */
export async function solve(
  context: GraphContext,
  layers: ImageLayer[],
  op: Operation,
  options: SolveOptions,
): Promise<{ layer: ImageLayer | null; isCached: boolean }> {
  const key = operationKey(layers, op);
  if (!options.noCache) {
    const known = context.cache.op(key);
    if (known !== undefined) return { layer: known, isCached: true };
    const other = running.get(key);
    if (other !== undefined) {
      // What failed for the other may succeed here: it may have been cancelled.
      const layer = await other.catch(() => undefined);
      if (layer !== undefined) return { layer, isCached: true };
    }
  }
  const work = op.kind === 'exec' ? solveExec(context, layers, op, options) : solveFile(context, layers, op, options);
  running.set(key, work);
  try {
    const layer = await work;
    await context.cache.putOp(key, layer, options.about);
    return { layer, isCached: false };
  } finally {
    if (running.get(key) === work) running.delete(key);
  }
}

export function newContainerId(random: Random): string {
  return Buffer.from(random.bytes(32)).toString('hex');
}

/** Takes what a container wrote as a layer. */
async function takeLayer(context: GraphContext, id: string, layers: ImageLayer[]): Promise<ImageLayer | null> {
  const upper = await context.snapshots.detachUpper(id);
  for (const path of findMountPoints(context.content, upper, layers)) rmSync(join(upper, path), { recursive: true });
  const packed = await context.content.layers.commitUpper(upper);
  return packed.isEmpty ? null : toImageLayer(packed);
}

// walk image-build 5/6: RUN is a container of owner `build`; its upper directory becomes a layer blob.
async function solveExec(
  context: GraphContext,
  layers: ImageLayer[],
  op: ExecOp,
  options: SolveOptions,
): Promise<ImageLayer | null> {
  using hold = context.content.hold();
  for (const layer of layers) {
    hold.addBlob(layer.digest);
    hold.addLayer(layer.diffId);
  }
  // The command sees files, not the image's configuration: what it runs as is in the request.
  const image = await writeImage(context.content, context.images, {
    file: {
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: layersKey(layers) },
    },
    layers,
    createdAtMs: context.clock.now(),
    isIntermediate: true,
  });
  const pin = context.images.pin(image.id);
  // Another build that ran over the same layers may just have removed its own.
  if (context.images.get(image.id) === undefined) await context.images.put(image);
  const id = newContainerId(context.random);
  options.onStart?.(id);
  try {
    const { env, mounts } = op.request;
    const { exitCode } = await context.runner.run({
      ...op.request,
      env: [...env, ...op.hiddenEnv],
      mounts: [...mounts, ...op.hiddenMounts],
      id,
      imageId: image.id,
      onOutput: options.onOutput,
      signal: options.signal,
    });
    options.signal.throwIfAborted();
    if (exitCode !== 0) throw new ExitError(exitCode);
    const layer = await takeLayer(context, id, layers);
    if (layer !== null) {
      hold.addBlob(layer.digest);
      hold.addLayer(layer.diffId);
    }
    return layer;
  } finally {
    await context.runner.remove(id);
    await context.snapshots.removeContainerRoot(id);
    pin[Symbol.dispose]();
    if (context.images.get(image.id)?.isIntermediate === true && context.images.leasesOf(image.id).length === 0)
      await context.images.commit([{ table: 'images', key: image.id, value: undefined }]);
    options.onEnd?.(id);
  }
}

async function solveFile(
  context: GraphContext,
  layers: ImageLayer[],
  op: FileOp,
  options: SolveOptions,
): Promise<ImageLayer | null> {
  const below = op.isLinked ? [] : layers;
  const id = `build-${newContainerId(context.random).slice(0, 32)}`;
  const { actions, release } = await op.prepare();
  try {
    const { root } = await context.snapshots.mountLayers(id, below);
    await context.content.layers.copyInto(root, actions, options.signal);
    return await takeLayer(context, id, below);
  } finally {
    await context.snapshots.removeContainerRoot(id);
    await release();
  }
}
