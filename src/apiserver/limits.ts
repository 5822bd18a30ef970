/** Bounds of the API server. */
export const requestBodyBytesMax = 3 * 1024 * 1024;
/** Parsed views kept per generation; two generations live at a time. */
export const viewsMax = 10_000;
export const watchBookmarkIntervalMs = 60_000;
export const eventTtlSeconds = 3600;
/** Retries of the whole write path when another writer was faster. */
export const conflictRetriesMax = 100;
/** Turns of an apply between creating and updating, while others create and delete the object. */
export const applyRetriesMax = 100;
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
/** One warning of an answer, and all of them. */
export const warningCharsMax = 256;
export const warningsCharsMax = 4096;
/** Bodies that are being read or worked on, of everybody and of one user; who comes beyond it is told to come back. */
export const requestBodiesBytesMax = 256 * 1024 * 1024;
export const requestBodiesOfUserBytesMax = 64 * 1024 * 1024;
/** How long a body may take to arrive. */
export const requestBodyMsMax = 60_000;
