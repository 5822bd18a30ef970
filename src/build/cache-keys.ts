/**
 * What decides whether work was done before: the keys of the build cache, all of them. A key is a digest over what the
 * work reads and does, never over names, times or bounds, so equal work is done once, whoever asks and in which build.
 */
import { createHash } from 'node:crypto';
import type { RunConfig } from '#content/image-file.ts';
import type { ImageLayer } from '#content/image-records.ts';
import type { ExecOp, Operation } from './operations.ts';

export function layersKey(layers: ImageLayer[]): string[] {
  return layers.map((layer) => layer.diffId);
}

/** What of a command decides its result: its bounds do not. */
function executionKey(request: ExecOp['request']): object {
  const { command, env, user, workingDir, network, mounts, extraHosts } = request;
  return { command, env, user, workingDir, network, mounts, extraHosts };
}

export function operationKey(layers: ImageLayer[], op: Operation): string {
  if (op.kind === 'file') return digestOf('file', op.isLinked ? [] : layersKey(layers), op.key);
  return digestOf('exec', layersKey(layers), executionKey(op.request));
}

function digestOf(...parts: unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/** What of an instruction that copies decides its result, besides the content that it copies. */
export interface CopyPlan {
  target: string;
  isDirectory: boolean;
  owner: object | undefined;
  mode: number | undefined;
  exclude: string[];
  keepsParents: boolean;
  unpacks: boolean | undefined;
  keyword: string;
  /** Name and content of each. */
  heredocs: string[][];
}

/** Where a copy takes its files from, by their content. */
export type CopySource =
  | { content: string }
  /** Name and digest of each download, beside what comes from the context. */
  | { content: string; urls: string[][] }
  | { from: string[]; sources: string[] };

export function copyKey(plan: CopyPlan, source: CopySource): object {
  const { keyword, heredocs, unpacks, ...rest } = plan;
  return { ...rest, ...(unpacks === undefined ? {} : { unpacks }), keyword, heredocs, ...source };
}

/** A step of a stage: the image before it (or the platform, for what starts from nothing), its words, what it does. */
export function stepKey(
  parent: string | string[],
  createdBy: string,
  config: RunConfig,
  op: Operation | undefined,
): string {
  const done = op === undefined ? '' : op.kind === 'file' ? op.key : executionKey(op.request);
  return digestOf(parent, createdBy, config, done, op?.kind === 'file' && op.isLinked);
}
