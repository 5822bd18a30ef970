/** Which layers of an image each step of its graph stands for: those that it has up to there. */
import { ociLayerType } from '#content/image-writer.ts';
import type { Descriptor } from '#content/manifest.ts';
import type { StepLayer } from '../llb/output.ts';
import type { Edge, FileOp } from '../llb/vertex.ts';

/** What the actions that make this output work on; undefined: nothing. */
function inputOfFile({ actions }: FileOp, inputs: readonly Edge[], output: number): Edge | undefined {
  let at = actions.findIndex((action) => action.output === output);
  for (let left = actions.length; at >= 0 && left > 0; left--) {
    const input = actions[at]?.input;
    if (input === undefined || input < inputs.length) return input === undefined ? undefined : inputs[input];
    at = input - inputs.length;
  }
  return undefined;
}

/** A step makes one layer, or none, on top of these; 'other': it is no such step. */
function belowOf({ vertex: { op, inputs }, output }: Edge): Edge | undefined | 'other' {
  if (op.kind === 'file') return inputOfFile(op, inputs, output);
  if (op.kind !== 'exec') return 'other';
  const input = op.mounts.find((mount) => mount.output === output)?.input;
  return input === undefined ? undefined : inputs[input];
}

/** How many steps' layers an edge is made of; undefined: that only carrying it out tells. */
function countSteps(edge: Edge | undefined): number | undefined {
  let count = 0;
  for (let at = edge; at !== undefined;) {
    if (at.vertex.op.kind === 'merge') {
      const counts = at.vertex.inputs.map(countSteps);
      return counts.reduce<number | undefined>(
        (sum, each) => (sum === undefined || each === undefined ? undefined : sum + each),
        count,
      );
    }
    const below = belowOf(at);
    if (below === 'other') return undefined;
    count++;
    at = below;
  }
  return count;
}

/** `steps`: what the edge is made of, as it is exported. Edges without layers are left out. */
export function layersOfSteps(edge: Edge, steps: readonly StepLayer[]): Map<Edge, Descriptor[]> {
  const out = new Map<Edge, Descriptor[]>();
  let count = steps.length;
  for (let at: Edge | undefined = edge; at !== undefined && count > 0;) {
    const layers = steps.slice(0, count).flatMap(({ layer }) => layer ?? []);
    const described = layers.map(({ mediaType, digest, sizeBytes }) => ({
      mediaType: ociLayerType(mediaType),
      digest,
      size: sizeBytes,
    }));
    if (described.length > 0) out.set(at, described);
    const { op, inputs }: Edge['vertex'] = at.vertex;
    if (op.kind === 'merge') {
      const above = inputs.slice(1).map(countSteps);
      if (above.includes(undefined)) return out;
      count -= above.reduce<number>((sum, each) => sum + (each ?? 0), 0);
      at = inputs[0];
      continue;
    }
    const below: Edge | undefined | 'other' = belowOf(at);
    if (below === 'other') return out;
    count--;
    at = below;
  }
  return out;
}
