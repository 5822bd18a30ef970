/** Bounds of the server itself. */
/** On each address at once. */
export const apiConnectionsMax = 16_384;
export const jsonBodyBytesMax = 4 * 1024 * 1024;
/** A longer body is not shown to those who authorise. */
export const authorizedBodyBytesMax = 1024 * 1024;
/** Of a client that is attached by WebSocket. */
export const webSocketMessageBytesMax = 1024 * 1024;
export const statsIntervalMs = 1_000;
export const filtersBytesMax = 64 * 1024;
export const execRecordsMax = 4096;
/** How long an ended exec can still be inspected. */
export const execKeepMs = 300_000;
/** `docker search`: results asked for and at most, as docker has them, and the registry's answer. */
export const searchResultsDefault = 25;
export const searchResultsMax = 100;
export const searchAnswerBytesMax = 4 * 1024 * 1024;
/** Of events that a client has not taken: who reads no more is let go. */
export const eventClientBufferBytesMax = 4 * 1024 * 1024;
