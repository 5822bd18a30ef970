/**
 * What decides whether work was done before: the keys of the build cache, all of them. A key is a digest over what the
 * work reads and does, never over names, times or bounds, so equal work is done once, whoever asks and in which build.
 */
import { createHash } from 'node:crypto';
import type { ImageLayer } from '#content/image-records.ts';
import type { BuildContext } from './context.ts';
import type { ExecOp, FileAction } from './llb/vertex.ts';

export function layersKey(layers: readonly ImageLayer[]): string[] {
  return layers.map((layer) => layer.diffId);
}

export function digestOf(...parts: unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

/**
 * A command. `sandbox`: the network of steps that are not given another. `mounts`: for each mount what it is and its
 * content. Bounds, proxies and the values of secrets do not count.
 */
export function execKey(op: ExecOp, sandbox: string, mounts: unknown[]): string {
  const { args, env, cwd, user, extraHosts, hostname, validExitCodes } = op;
  const network = op.network === 'sandbox' ? sandbox : op.network;
  return digestOf('exec', { args, env, cwd, user, extraHosts, hostname, validExitCodes, network }, mounts);
}

/**
 * What of a file action decides its result, besides the content of the vertex's inputs. `inputs`: how many those are;
 * what earlier actions made is known by their place.
 */
export function fileActionKey(action: FileAction, inputs: number): object {
  const placeOf = (index: number | undefined): number => (index === undefined ? -1 : Math.max(-1, index - inputs));
  const place = { on: placeOf(action.input), from: action.kind === 'copy' ? placeOf(action.from) : -1 };
  return { place, output: action.output, ...plainActionKey(action) };
}

function plainActionKey(action: FileAction): object {
  const { input: _input, output: _output, ...rest } = action;
  // Whether nothing found is an error decides no result.
  if (rest.kind === 'copy') return { ...rest, from: undefined, allowsNone: true };
  if (rest.kind === 'makeFile') return { ...rest, data: rest.data.toString('base64') };
  return rest;
}

/** A client's directory as a whole. */
export function treeKey(tree: BuildContext): string {
  return digestOf('tree', tree.digest(['']));
}
