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
/** A container that has ended is made anew this much later at the earliest: what it leaves is cleared away first. */
export const endSeenMs = 1_000;
/** How long a sandbox takes, an ordinary image pull included, where no script says it. */
export const sandboxMsMin = 200;
export const sandboxMsMax = 500;
/** Memory of a container that no script speaks of. */
export const idleMemoryBytes = 16 * 1024 * 1024;
/** A node's disk. */
export const diskBytes = 100 * 1024 * 1024 * 1024;
/** A healthy server stops this soon after the signal. */
export const stopMsDefault = 100;
/** What a full disk answers to whoever writes. */
export const diskFullProblem = 'write /var/lib/tiphys: no space left on device';
/** How late a request is at most that others overtake, or that arrives a second time. */
export const lateMsMax = 2_000;
