/** Bounds of the store; the first two are etcd's, so that what is accepted here is accepted there. */
export const transactionOperationsMax = 128;
export const transactionBytesMax = 1_572_864;
/**
 * A watcher further behind than this re-reads history in place of queueing: transactions, and bytes of their values.
 */
export const watchQueueTransactionsMax = 4096;
export const watchQueueBytesMax = 16 * 1024 * 1024;
/** Keys in one leaf of the key tree; insertion moves at most this many pointers. */
export const treeLeafKeysMax = 256;
/** Transactions that one group commit writes at most, so that an acknowledgement never waits for a huge one. */
export const groupCommitTransactionsMax = 512;
/**
 * The file gives free pages back when nothing was written for so long, so many at a time, until so many (or a tenth of
 * the file) are left.
 */
export const vacuumIdleMs = 2_000;
export const vacuumPagesPerStep = 256;
export const vacuumPagesKept = 256;
/** What the write-ahead log is cut to. */
export const walBytesMax = 8 * 1024 * 1024;
/**
 * A write within this time says that writes succeed; else one is tried, at most so often, and must answer in so long.
 */
export const healthFreshMs = 10_000;
export const healthProbeIntervalMs = 1_000;
export const healthProbeMsMax = 5_000;
