/** Bounds of the client. */
/** One watch event's or answer's bytes over HTTP. */
export const responseBodyBytesMax = 512 * 1024 * 1024;
export const watchEventBytesMax = 16 * 1024 * 1024;
/** Informers wait this long before they list or watch again after a failure; doubled each time. */
export const informerBackoffMs = 200;
export const informerBackoffMsMax = 30_000;
/** Work queues: first delay after a failure, doubled each time, and its bound. */
export const retryDelayMs = 5;
export const retryDelayMsMax = 300_000;
/** Events that wait to be written; beyond it new ones are dropped, as they are only for people. */
export const recorderQueueEventsMax = 2_000;
/** Recent events remembered for counting repeats. */
export const recorderCacheEntriesMax = 4_096;
/** Messages that differ but share object and reason within the window, before they are combined. */
export const recorderSimilarMax = 10;
export const recorderSimilarWindowMs = 600_000;
/** Events about one object from one source: burst, then one per refill interval. */
export const recorderBurstMax = 25;
export const recorderRefillMs = 300_000;
/** How long one HTTP request (not a watch) may take. */
export const requestTimeoutMs = 60_000;
/** A request that a server did not look at is sent again so often. */
export const unseenMax = 5;
/** Of several API servers one is pinged so often, and left when it is silent for so long. */
export const serverPingMs = 3_000;
export const serverSilenceMsMax = 5_000;
