/** Bounds of the API server. */
export const requestBodyBytesMax = 3 * 1024 * 1024;
/** Parsed views kept per generation; two generations live at a time. */
export const viewsMax = 10_000;
export const watchBookmarkIntervalMs = 60_000;
export const eventTtlSeconds = 3600;
/** Retries of the whole write path when another writer was faster. */
export const conflictRetriesMax = 100;
/** Attempts to create where an address, a generated name or a quota was taken meanwhile. */
export const createRetriesMax = 50;
export const historyKeepMs = 5 * 60_000;
export const historyStepsPerKeep = 10;
/** Revisions kept at most, whatever their age. */
export const historyRevisionsMax = 20_000;
/** Watch frames kept for watchers that have not sent them yet. */
export const watchFramesMax = 4096;
/** Requests under way at one time, watches and streams not counted; more are told to come back. */
export const requestsInFlightMax = 2000;
export const tokenSecondsMin = 600;
export const upgradeConnectTimeoutMs = 15_000;
/** Words of a kubelet's refusal that are passed on. */
export const kubeletErrorCharsMax = 4096;
