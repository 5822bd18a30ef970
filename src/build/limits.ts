/** Bounds of builds. */
export const dockerfileBytesMax = 4 << 20;
export const dockerfileLineBytesMax = 1 << 20;
export const instructionsMax = 5000;
export const heredocBytesMax = 16 << 20;
export const wordExpandedBytesMax = 4 << 20;
export const contextBytesMax = 64 * 2 ** 30;
export const ignoreFileBytesMax = 4 << 20;
export const ignorePatternsMax = 10_000;
/** Steps remembered; the oldest that no image needs go first. */
export const cacheRecordsMax = 5000;
export const buildsInParallelMax = 8;
export const stagesInParallelMax = 4;
export const addedUrlBytesMax = 16 * 2 ** 30;
/** A source given by URL in `remote`. */
export const stepOutputLineBytesMax = 64 << 10;
