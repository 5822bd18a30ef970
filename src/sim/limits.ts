/** Bounds and defaults of the simulator. */
/** Virtual time without any condition met before `runUntil` gives up. */
export const runUntilMsMax = 24 * 3_600_000;
/** Timers fired at one instant before the simulator says that time does not move. */
export const timersPerInstantMax = 1_000_000;
/** Lines of a container's log that are kept. */
export const logLinesMax = 10_000;
/** Committed operations of history that are kept for watches. */
export const historyTransactionsMax = 10_000;
/**
 * Watches of the cluster's own parts do not end by themselves: each would have to be opened anew every virtual hour.
 */
export const watchSecondsMax = 10 * 365 * 86_400;
/** A write of the simulated disk is safe after at most this long. */
export const diskSyncMsMax = 4;
/** A ConfigMap or Secret that a node has seen is believed to be there for this long. */
export const referenceBelievedMs = 60_000;
export const referencesRememberedMax = 1_000;
/** A container that has ended is started again this much later at the earliest: a kubelet looks once a second. */
export const endSeenMs = 1_000;
/** Memory of a container that no script speaks of. */
export const idleMemoryBytes = 16 * 1024 * 1024;
/**
 * A node's disk, and what it is short of when less is left: the kubelet's defaults (100Mi of memory, 10 % of the disk).
 */
export const diskBytes = 100 * 1024 * 1024 * 1024;
export const memoryThresholdBytes = 100 * 1024 * 1024;
export const diskThresholdBytes = diskBytes / 10;
/**
 * A healthy server stops this soon after the signal; and it gets this long for it whatever its preStop hook has used up
 * of the grace period.
 */
export const stopMsDefault = 100;
export const signalGraceMinMs = 2_000;
/** What a full disk answers to whoever writes. */
export const diskFullProblem = 'write /var/lib/tiphys: no space left on device';
/** How late a request is at most that others overtake, or that arrives a second time. */
export const lateMsMax = 2_000;
/** A node that could not say how it is says it again after this time. */
export const reportRetryMs = 2_000;
