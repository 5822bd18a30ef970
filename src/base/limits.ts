/** Bounds of the formats in `base`. */

/** PAX and GNU long-name records of one entry. */
export const tarMetadataBytesMax = 1 << 20;
export const tarPathBytesMax = 4096 * 4;
export const tarSparseExtentsMax = 100_000;

/** Repository name with its domain, as the distribution specification bounds it. */
export const referenceNameMax = 255;

/**
 * A SPDY control frame as it is sent, and a header block inflated: names and values of a stream are a few hundred
 * bytes.
 */
export const spdyControlBytesMax = 64 * 1024;
export const spdyHeaderBytesMax = 64 * 1024;
/** Streams of a connection at once, and bytes that each holds before the connection is not read any more. */
export const spdyStreamsMax = 1_000;
export const spdyStreamBufferBytesMax = 16 * 1024;
/** Bytes that came in and are not looked at yet, beyond which the connection is not read. */
export const spdyQueuedBytesMax = 256 * 1024;
/** Answers to control frames (pings, resets) that a peer does not take, beyond which it is hung up on. */
export const spdyAnswersPendingMax = 1_024;

/**
 * Size of a YAML document once its aliases are written out, in nodes and characters together: twice its text and this
 * much. A document without aliases never has more than its text.
 */
export const yamlAliasSizeMax = 1 << 20;
export const yamlDepthMax = 100;

/** Nesting of a JSON text. */
export const jsonDepthMax = 500;
/**
 * Values in one JSON text, and keys in one object of it: each costs many times its characters, in every step of a
 * request.
 */
export const jsonValuesMax = 150_000;
export const jsonObjectKeysMax = 10_000;
/** Digits of an integer that is looked at to see whether a double holds it. */
export const integerDigitsMax = 400;
/** Keys named as given twice; what comes after them is counted as one. */
export const jsonDuplicatesMax = 100;
/** Characters of a path within a message. */
export const jsonPathCharsMax = 1_024;

/** Operations of one JSON Patch. */
export const patchOperationsMax = 10_000;
/** Bytes that the `copy` operations of one JSON Patch add together. */
export const patchCopyBytesMax = 3 * 1024 * 1024;
/** List items that the operations of one JSON Patch move aside together. */
export const patchMovedItemsMax = 20_000_000;

/** Characters of a pattern that a user gives. */
export const patternCharsMax = 16_384;
/** Instructions of a compiled pattern. */
export const patternInstructionsMax = 10_000;
/** Instructions times characters that the patterns of one object may cost. */
export const patternStepsMax = 40_000_000;
/** Compiled patterns kept. */
export const patternsKeptMax = 256;
/** Memory that the states of one compiled pattern may take. */
export const patternStateBytesMax = 1 << 20;

/** Values of a selector's requirement that are compared one by one; more are looked up. */
export const selectorValuesScannedMax = 16;

/** Of a text that may be an IP address (`ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`): longer ones are none. */
export const ipCharsMax = 45;
