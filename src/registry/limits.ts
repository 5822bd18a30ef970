/** Bounds of the registry. */

/** A blob that is pushed. */
export const blobBytesMax = 64 * 2 ** 30;
/** Tags or repositories in one answer; more come by the `Link` header. */
export const pageItemsMax = 1000;
export const tagsPerPutMax = 100;
/** Layers of a manifest, or manifests of an index. Names and sizes of each are kept in memory. */
export const manifestEntriesMax = 10_000;
/** A blob that was pushed and that no manifest names is collected after this long. */
export const unnamedBlobMs = 24 * 3600 * 1000;
/**
 * How long a password that was checked is not checked again: scrypt is slow on purpose. Also for wrong ones, which are
 * answered at once then.
 */
export const credentialCacheMs = 5 * 60 * 1000;
export const credentialCacheMax = 1000;
/**
 * Password checks that wait their turn; one runs at a time. The rest is refused, so that guessing cannot take the
 * machine.
 */
export const passwordWaitersMax = 256;
export const passwordWaitersPerSourceMax = 8;
/** A source that gave a wrong password waits behind all others for this long. */
export const passwordSuspectMs = 60_000;
/**
 * After a wrong password suspects rest for this many times what its check took: guessing costs a quarter of one core.
 */
export const passwordRestFactor = 3;
export const passwordBytesMax = 4096;
/** A token of the registry, until the client has to show its password again. */
export const tokenMs = 5 * 60 * 1000;
/**
 * The headers of a request come within this time. A body may take as long as it comes, but not rest for longer than a
 * connection may.
 */
export const requestHeadersMs = 30_000;
export const connectionIdleMs = 10 * 60 * 1000;
export const connectionsMax = 2000;
export const connectionsPerSourceMax = 256;
