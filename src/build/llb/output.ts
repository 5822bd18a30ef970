/** What vertices make: layers on top of each other, or a directory that the client shares. */
import type { JsonObject } from '#base/unknown.ts';
import type { ImageLayer } from '#content/image-records.ts';
import type { BuildContext } from '../context.ts';

/** One step's part of a file system. */
export interface StepLayer {
  /** null: the step changed nothing. */
  layer: ImageLayer | null;
  /** When it was made; undefined: it came with an image, whose history says so. */
  createdAtMs: number | undefined;
  /** For the history of what has none of its own. */
  about: string;
}

export type Output =
  | {
      kind: 'layers';
      steps: readonly StepLayer[];
      /**
       * Some of the layers are known by diff id alone. Carries out what makes them; the result has all of its layers,
       * which may be others.
       */
      make?: () => Promise<Output>;
    }
  | { kind: 'tree'; tree: BuildContext };

/** With all of its layers. */
export function present(output: Output): Promise<Output> {
  return output.kind === 'layers' && output.make !== undefined ? output.make() : Promise.resolve(output);
}

export function isAbsent(output: Output): boolean {
  return output.kind === 'layers' && output.make !== undefined;
}

export const scratch: Output = { kind: 'layers', steps: [] };

export function layersOf(steps: readonly StepLayer[]): ImageLayer[] {
  return steps.flatMap(({ layer }) => (layer === null ? [] : [layer]));
}

/** What a vertex tells of its work. */
export interface VertexOutput {
  /** It was done before. */
  cached(): void;
  /** A command runs in this container, and has ended. */
  started(containerId: string): void;
  ended(containerId: string): void;
  log(bytes: Uint8Array): void;
  /** A count that grows, `transferring context`. */
  count(name: string, current: number, isDone?: boolean): void;
  /** Progress of a pull, in the form of the Engine API. */
  event(event: JsonObject): void;
  /** Idempotent. */
  end(error?: unknown): void;
}

/** Nobody looks. */
export const silentOutput: VertexOutput = {
  cached: () => {},
  started: () => {},
  ended: () => {},
  log: () => {},
  count: () => {},
  event: () => {},
  end: () => {},
};
