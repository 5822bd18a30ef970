/** Bounds of `src/platform`. */
/** A part's log; as much again is kept of what was before. */
export const processLogBytesMax = 16 * 1024 * 1024;
/** Written between two looks at its size. */
export const processLogCheckBytes = 256 * 1024;
