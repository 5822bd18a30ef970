/** Bounds of what etcd is asked. */

/**
 * A write or a consistent read has an answer, or an error, within so long: a lost majority must be told of in five
 * seconds.
 */
export const requestMsMax = 4_500;
/** After so long another member is asked. */
export const attemptMsMax = 2_000;
export const connectMsMax = 1_000;
/** Between two attempts. */
export const retryMs = 100;
/** etcd ends the connection of who pings more often than every five seconds. */
export const pingIntervalMs = 6_000;
export const pingMsMax = 2_000;
/** A page of a listing is far smaller; a transaction of the largest kind, and the values that it replaced, fit. */
export const etcdMessageBytesMax = 64 * 2 ** 20;
export const etcdSessionMemoryMbMax = 128;
export const etcdWindowBytes = 8 * 2 ** 20;
/** Keys of one page when the store is read as a whole: it begins with few and looks how large they are. */
export const pageKeysMin = 32;
export const pageKeysMax = 4096;
/** Pages are made larger below, smaller above. */
export const pageBytesWanted = 4 * 2 ** 20;
/** Between two attempts to follow etcd's changes; it doubles while nothing comes. */
export const watchRetryMs = 100;
export const watchRetryMsMax = 2_000;
/** However late an answer came, the change that it speaks of is waited for so long. */
export const mirrorMsMin = 250;
/** A server that nobody asks for what is current asks by itself so often. */
export const confirmIntervalMs = 3_000;
/** Bytes of keys and values of one transaction while a state is moved; etcd takes half as much again. */
export const movedBytesMax = 2 ** 20;
