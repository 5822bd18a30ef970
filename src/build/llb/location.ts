/** Where in the source of a front end something stands, and where what failed does. */

export interface SourceText {
  filename: string;
  /** The whole file. */
  data: Buffer;
  language: string;
}

export interface SourceLocation {
  text: SourceText;
  /** Lines, the first is 1, both included. */
  ranges: readonly { start: number; end: number }[];
}

const located = new WeakMap<object, SourceLocation>();

/** The innermost place counts: the first that is noted. */
export function noteLocation(error: unknown, location: SourceLocation | undefined): void {
  if (location !== undefined && typeof error === 'object' && error !== null && !located.has(error))
    located.set(error, location);
}

export function locationOf(error: unknown): SourceLocation | undefined {
  return typeof error === 'object' && error !== null ? located.get(error) : undefined;
}
