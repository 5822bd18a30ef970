/** Bounds of the formats in `base`. */

/** PAX and GNU long-name records of one entry. */
export const tarMetadataBytesMax = 1 << 20;
export const tarPathBytesMax = 4096 * 4;
export const tarSparseExtentsMax = 100_000;

/** Repository name with its domain, as the distribution specification bounds it. */
export const referenceNameMax = 255;

/** A SPDY control frame as it is sent, and a header block inflated: names and values of a stream are a few hundred bytes. */
export const spdyControlBytesMax = 64 * 1024;
export const spdyHeaderBytesMax = 64 * 1024;
/** Streams of a connection at once, and bytes that each holds before the connection is not read any more. */
export const spdyStreamsMax = 1_000;
export const spdyStreamBufferBytesMax = 16 * 1024;
/** Bytes that came in and are not looked at yet, beyond which the connection is not read. */
export const spdyQueuedBytesMax = 256 * 1024;
/** Answers to control frames (pings, resets) that a peer does not take, beyond which it is hung up on. */
export const spdyAnswersPendingMax = 1_024;
