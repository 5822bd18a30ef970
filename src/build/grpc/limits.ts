/** Bounds of BuildKit's gRPC. */

/** gRPC's own bound in BuildKit's clients and servers is 16 MiB. */
export const messageBytesMax = 16 * 2 ** 20;
/** What Node's HTTP/2 may hold of a connection, in MB: several of the largest messages. */
export const sessionMemoryMbMax = 64;
/** Calls at a time on one connection. */
export const streamsMax = 256;
export const windowBytes = 2 ** 20;
/** A build waits so long for the session that its client names. */
export const sessionWaitMs = 5_000;
export const sessionsMax = 256;
/** Files of a context that are asked for ahead. */
export const filesAheadMax = 32;
export const filesAheadBytesMax = 8 * 2 ** 20;
/** What a build printed is kept for clients that come late. */
export const logBytesMax = 4 * 2 ** 20;
/** What one step prints is shown so far; BuildKit's bound. */
export const stepLogBytesMax = 2 * 2 ** 20;
/** Counts of bytes are shown so often, and at their end. */
export const countIntervalMs = 100;
/** A client that asks for a build's bridge or status may come before the build. */
export const jobWaitMs = 5_000;
/** Piece of a file or an archive that is sent to a client. */
export const sentChunkBytes = 64 * 2 ** 10;
/** Of a file that a front end reads; a message must hold it. */
export const readFileBytesMax = 15 * 2 ** 20;
/** Builds of before that are told of, and what is kept of the words of each. */
export const historyMax = 50;
export const historyLogBytesMax = 2 * 2 ** 20;
/** Results of one build that its client has not returned. */
export const resultsMax = 1000;
/** Builds that a client asked for and whose answer it has not yet. */
export const jobsMax = 64;

/** Platforms of one build. */
export const platformsMax = 64;
/** Statements that a scanner makes, and bytes of one. */
export const statementsMax = 1000;
export const statementBytesMax = 80 << 20;

/** Rules of a source policy, and how often they may convert one source. */
export const sourcePolicyRulesMax = 1000;
export const sourcePolicyRoundsMax = 20;
/** What a policy puts in place of a context, one after the other. */
export const contextRoundsMax = 10;
