/** Bounds of the registry. */

/** A blob that is pushed. */
export const blobBytesMax = 64 * 2 ** 30;
/** Tags or repositories in one answer; more come by the `Link` header. */
export const pageItemsMax = 1000;
export const tagsPerPutMax = 100;
/** A blob that was pushed and that no manifest names is collected after this long. */
export const unnamedBlobMs = 24 * 3600 * 1000;
/** How long a password that was checked is not checked again: scrypt is slow on purpose. */
export const credentialCacheMs = 5 * 60 * 1000;
export const credentialCacheMax = 1000;
/** Password checks at a time; the rest is refused, so that guessing cannot take the machine. */
export const passwordChecksMax = 8;
export const passwordBytesMax = 4096;
