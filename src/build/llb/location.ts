/** Where in the source of a front end something stands, and where what failed does, in it and in the graph. */

import { locationLinesMax } from '../limits.ts';

export interface SourceText {
  filename: string;
  /** The whole file. */
  data: Buffer;
  language: string;
  /** Where the file comes from, as the protocol says it. */
  definition?: { def: string[] };
}

export interface SourceLocation {
  text: SourceText;
  /** Lines, the first is 1, both included. */
  ranges: readonly { start: number; end: number }[];
}

/** As the protocol has them: one for each line. */
export function lineRanges(ranges: SourceLocation['ranges']): { start: { line: number }; end: { line: number } }[] {
  return ranges.flatMap(({ start, end }) =>
    Array.from({ length: Math.min(locationLinesMax, end - start + 1) }, (_, at) => ({
      start: { line: start + at },
      end: { line: start + at },
    })),
  );
}

const located = new WeakMap<object, SourceLocation>();

/** The innermost place counts: the first that is noted. */
export function noteLocation(error: unknown, location: SourceLocation | undefined): void {
  if (location !== undefined && typeof error === 'object' && error !== null && !located.has(error))
    located.set(error, location);
}

const failedVertices = new WeakMap<object, string>();

/** The first that is noted is the one that failed. */
export function noteVertex(error: unknown, digest: string): void {
  if (typeof error === 'object' && error !== null && !failedVertices.has(error)) failedVertices.set(error, digest);
}

/** Digest of the vertex that failed. */
export function failedVertexOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null ? failedVertices.get(error) : undefined;
}

export function locationOf(error: unknown): SourceLocation | undefined {
  return typeof error === 'object' && error !== null ? located.get(error) : undefined;
}
