/** Bounds of `src/engine`. */
/** Containers that are being started at once; more wait their turn, so that fifty Pods do not starve one another. */
export const concurrentStartsMax = 6;
export const concurrentRemovalsMax = 4;
export const attachClientBufferBytesMax = 1024 * 1024;
export const logReadChunkBytes = 64 * 1024;
export const logLineBytesMax = 1024 * 1024;
export const eventHistoryMax = 256;
export const execsPerContainerMax = 256;
export const recordBytesMax = 4 * 1024 * 1024;
/** Docker's restart back-off: 100 ms doubled up to a minute; a run of ten seconds starts over. */
export const restartDelayFirstMs = 100;
export const restartDelayMsMax = 60_000;
export const restartResetAfterMs = 10_000;
export const logMaxBytesDefault = 64 * 1024 * 1024;
export const logRotateCheckMs = 15_000;
export const stopTimeoutMsDefault = 10_000;
/** Where nothing was asked: four files of at most `logMaxBytesDefault`. */
export const logFilesDefault = 4;
export const healthLogEntriesMax = 5;
export const healthOutputBytesMax = 4096;
export const seccompFiltersMax = 64;
/** BPF_MAXINSNS (4096) filters of eight bytes. */
export const seccompFilterBytesMax = 32 * 1024;
/** How long a new engine waits for the lock of one that was killed. */
export const lockWaitMsMax = 1_500;
export const lockRetryMs = 20;
/** Between two tries to write a record on a full disk. */
export const saveRetryMs = 2_000;
/** Ports that are tried for the resolver in a container's namespace. */
export const resolverPortTriesMax = 16;
