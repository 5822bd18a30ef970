/** Bounds and defaults of the simulator. */
/** Virtual time without any condition met before `runUntil` gives up. */
export const runUntilMsMax = 24 * 3_600_000;
/** Timers fired at one instant before the simulator says that time does not move. */
export const timersPerInstantMax = 1_000_000;
export const leaseRenewMs = 10_000;
export const crashBackoffMs = 10_000;
export const crashBackoffMsMax = 300_000;
/** How often a kubelet tries again to make containers whose configuration is missing. */
export const createRetryMs = 10_000;
/** A container that ran this long starts its back-off anew. */
export const crashBackoffResetMs = 600_000;
/** Lines of a container's log that are kept. */
export const logLinesMax = 10_000;
/** Committed operations of history that are kept for watches. */
export const historyTransactionsMax = 10_000;
/** Watches of the cluster's own parts do not end by themselves: each would have to be opened anew every virtual hour. */
export const watchSecondsMax = 10 * 365 * 86_400;
/** A write of the simulated disk is safe after at most this long. */
export const diskSyncMsMax = 4;
