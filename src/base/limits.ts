/** Bounds of the formats in `base`. */

/** PAX and GNU long-name records of one entry. */
export const tarMetadataBytesMax = 1 << 20;
export const tarPathBytesMax = 4096 * 4;
export const tarSparseExtentsMax = 100_000;

/** Repository name with its domain, as the distribution specification bounds it. */
export const referenceNameMax = 255;
