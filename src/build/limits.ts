/** Bounds of builds. */
/** Lines of an instruction that a client is shown when it fails. */
export const locationLinesMax = 100;
export const dockerfileBytesMax = 4 << 20;
export const dockerfileLineBytesMax = 1 << 20;
export const instructionsMax = 5000;
/** A word that is quoted in an error. */
export const quotedWordMax = 100;
export const heredocBytesMax = 16 << 20;
/** `<<`, spaces and the name. */
export const heredocNameMax = 1024;
export const wordExpandedBytesMax = 4 << 20;
/** `${a:-${b:-…}}`. */
export const wordDepthMax = 100;
/** Configurations of all steps of a build together: each step keeps its own. */
export const buildConfigBytesMax = 64 << 20;
/** Sources of one COPY or ADD. */
export const copySourcesMax = 1000;
/** What the context holds is kept in memory while it is built. */
export const contextEntriesMax = 1_000_000;
export const contextBytesMax = 64 * 2 ** 30;
export const ignoreFileBytesMax = 4 << 20;
export const ignorePatternsMax = 10_000;
/** Paths whose result is remembered for what lies below them. */
export const ignoredPathsKeptMax = 100_000;
/** Characters times states that the patterns of one file, or one pattern of an instruction, may take. */
export const patternStepsMax = 100_000_000;
export const patternTokensMax = 8192;
/** Steps remembered; the oldest that no image needs go first. */
export const cacheRecordsMax = 5000;
export const buildsInParallelMax = 8;
/** Containers of all builds together; a Dockerfile may have thousands of stages, which are built side by side. */
export const stepsInParallelMax = 8;
/** What is expanded of a file to see whether an archive begins in it. */
export const archiveHeadBytesMax = 8 << 20;
/** Files of the web of which it is remembered what their servers said of them. */
export const downloadsKnownMax = 1000;
export const addedUrlBytesMax = 16 * 2 ** 30;
/** A source given by URL in `remote`. */
/** Directories of clients that are kept for their next build. */
export const keptDirectoriesMax = 32;
/** What is kept of the words of `git`. */
export const gitErrorBytesMax = 16 << 10;
/** Vertices of a build definition that a client sends. */
export const definitionVerticesMax = 20_000;
/** How deep builds lie in builds, and bytes of the definition of one. */
export const nestedBuildsMax = 8;
export const nestedDefinitionBytesMax = 16 * 2 ** 20;
/** Connections of one command to its client's SSH agent. */
export const agentConnectionsMax = 64;
/** Records, and layers, of a cache that comes from elsewhere; what a client sends and a registry holds. */
export const cacheConfigRecordsMax = 20_000;
export const cacheConfigBytesMax = 16 * 2 ** 20;
/** Images of an index whose caches are looked at. */
export const cacheImagesMax = 16;
