/** Where in the source of a front end something stands, and where what failed does, in it and in the graph. */

import { createHash } from 'node:crypto';
import type { Message } from '#grpc/fields.ts';
import { locationLinesMax } from '../limits.ts';

export interface SourceText {
  filename: string;
  /** The whole file. */
  data: Buffer;
  language: string;
  /** Where the file comes from, as the protocol says it. */
  definition?: { def: string[] };
}

/** Where a text stands in a list that has each once; it is put there where it is missing. */
export function placeOfText(texts: SourceText[], text: SourceText): number {
  const isSame = ({ filename, language, data }: SourceText): boolean =>
    filename === text.filename && language === text.language && data.equals(text.data);
  const at = texts.findIndex((each) => each === text || isSame(each));
  return at < 0 ? texts.push(text) - 1 : at;
}

/** As the protocol has it. */
export function infoOfText({ filename, data, language, definition }: SourceText): Message {
  const def = (definition?.def ?? []).map((part) => Buffer.from(part, 'base64'));
  const digestOf = (part: Buffer): string => `sha256:${createHash('sha256').update(part).digest('hex')}`;
  // To clients a definition without metadata is none.
  const metadata = Object.fromEntries(def.map((part) => [digestOf(part), {}]));
  return { filename, data, language, ...(def.length === 0 ? {} : { definition: { def, metadata } }) };
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
