/** Bounds of the store; the first two are etcd's, so that what is accepted here is accepted there. */
export const transactionOperationsMax = 128;
export const transactionBytesMax = 1_572_864;
/** A watcher further behind than this re-reads history in place of queueing: transactions, and bytes of their values. */
export const watchQueueTransactionsMax = 4096;
export const watchQueueBytesMax = 16 * 1024 * 1024;
/** Keys in one leaf of the key tree; insertion moves at most this many pointers. */
export const treeLeafKeysMax = 256;
/** Transactions that one group commit writes at most, so that an acknowledgement never waits for a huge one. */
export const groupCommitTransactionsMax = 512;
