/** Bounds of the content store. */

/**
 * Manifests, indexes and configurations are read whole; layers never are. The distribution specification asks for at
 * least 4 MiB.
 */
export const manifestBytesMax = 4 << 20;
export const configBytesMax = 8 << 20;
/** Statements about one image that an answer holds. */
export const attestationBytesMax = 32 << 20;
/** Indexes within indexes. */
export const indexDepthMax = 3;
/** Manifests of one index, those of indexes within it counted. */
export const indexManifestsMax = 10_000;
/** Manifests that an archive's indexes name. */
export const archiveManifestsMax = 10_000;
/** Files of an image archive, and bytes of all of them, expanded. */
export const archiveEntriesMax = 100_000;
export const archiveBytesMax = 256 * 2 ** 30;

/** One record of the journal. */
export const recordBytesMax = 16 << 20;
/** The journal is written anew when it holds this many bytes and more than half are stale. */
export const journalCompactBytesMin = 256 << 10;

/** A half-made upload is given up after this long without a byte. */
export const uploadIdleMs = 3600 * 1000;
/** Uploads in progress, of all users and of one. Where there are more, one that had no byte for so long makes room. */
export const uploadsMax = 1000;
export const uploadsPerUserMax = 100;
export const uploadEvictableIdleMs = 60_000;

/** Entries, expanded bytes and path depth of one layer. */
export const layerEntriesMax = 2_000_000;
export const layerExpandedBytesMax = 256 * 2 ** 30;
export const layerPathDepthMax = 256;
/** Linux's NAME_MAX: one component of a path. */
export const fileNameBytesMax = 255;
/** Directories that a layer has files in without naming them; each is remembered. */
export const impliedDirectoriesMax = 20_000;
/** Rows of layers of which it is remembered that they need nothing on top. */
export const plainChainsKeptMax = 1000;
/** A layer or configuration that a registry announces. */
export const remoteBlobBytesMax = 256 * 2 ** 30;
/** What a program that decompresses says when it fails. */
export const programErrorBytesMax = 2000;
/** The dictionary that an xz stream may ask for; the program's highest preset needs 65 MiB. */
export const xzMemoryMibMax = 512;
export const symlinkHopsMax = 40;

/** Pieces in which a layer is deflated, and how many of them at a time. */
export const gzipPieceBytes = 1 << 20;
export const gzipPiecesInParallelMax = 4;
/** Of a file that a reader of eStargz fetches at once; and bytes of an archive that belong to no entry. */
export const estargzChunkBytes = 4 << 20;
export const estargzHeldBytesMax = 64 << 20;

/** Layers unpacked at a time. */
export const unpackConcurrencyMax = 2;

/** A blob or layer that was published this recently is not collected: its maker is about to name it. */
export const contentYouthMs = 5000;
/** Between two collections that nobody asked for. */
export const collectEveryMs = 60_000;

/** overlayfs takes 500 lower directories at most. */
export const layersPerImageMax = 480;

/** Compressed transfers from registries. */
export const downloadConcurrencyMax = 4;
export const downloadAttemptsMax = 5;
export const redirectsMax = 10;
/** Tags that one pull of all of them takes. */
export const remoteTagsMax = 10_000;
export const connectTimeoutMs = 10_000;
export const answerTimeoutMs = 120_000;

/** Compressed forms of layers that are remembered. */
export const compressedLayersMax = 10_000;
/** A worker that unpacked or packed waits this long for more. */
export const layerWorkerIdleMs = 5000;
