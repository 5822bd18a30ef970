/** Bounds of `src/engine`. */
/** Containers that are being started at once; more wait their turn, so that fifty Pods do not starve one another. */
export const concurrentStartsMax = 6;
export const concurrentRemovalsMax = 4;
export const logReadChunkBytes = 64 * 1024;
/** Of what is looked through from the end: the last lines are mostly near. */
export const logTailChunkBytes = 4 * 1024;
/**
 * A record of the monitor holds at most one of its reads (8 KiB) and a head; what is longer was not written by it and
 * is passed over.
 */
export const logRecordBytesMax = 1024 * 1024;
/** Rotated files of one log that are looked for. */
export const logRotatedFilesMax = 1000;
/** How far before the last lines earlier pieces of them are looked for, among records of the other stream. */
export const logLookBackBytesMax = 1024 * 1024;
export const eventHistoryMax = 256;
export const execsPerContainerMax = 256;
/** Docker's restart back-off: 100 ms doubled up to a minute; a run of ten seconds starts over. */
export const restartDelayFirstMs = 100;
export const restartDelayMsMax = 60_000;
export const restartResetAfterMs = 10_000;
export const logMaxBytesDefault = 64 * 1024 * 1024;
/**
 * A log that grows is looked at again before it can have filled up at this rate, but not more often than the least and
 * not later than the most.
 */
export const logFillBytesPerMs = 100 * 1024;
export const logCheckMsMin = 10;
export const logCheckMsMax = 1_000;
/** How long the monitor may take to open a new file after a rotation before it is told again. */
export const logReopenMsMax = 2_000;
/**
 * The monitor begins a file anew at this many bytes, or at all that the log may hold where that is more: the bound
 * while no engine runs.
 */
export const logMonitorBytesMin = 64 * 1024 * 1024;
export const stopTimeoutMsDefault = 10_000;
/** Where nothing was asked: four files of at most `logMaxBytesDefault`. */
export const logFilesDefault = 4;
export const healthLogEntriesMax = 5;
export const healthOutputBytesMax = 4096;
export const seccompFiltersMax = 64;
/** BPF_MAXINSNS (4096) filters of eight bytes. */
export const seccompFilterBytesMax = 32 * 1024;
/** How long a new engine waits for the lock of one that was killed. */
export const lockWaitMsMax = 1_500;
export const lockRetryMs = 20;
/** Between two tries to write a record on a full disk. */
export const saveRetryMs = 2_000;
/** Ports that are tried for the resolver in a container's namespace. */
export const resolverPortTriesMax = 16;
/** What the kernel may hold of a command's output when it has ended: a socket's buffers, and what Node read ahead. */
export const execPipeBytesMax = 512 * 1024;
/** Looks for the pid of a command are twice as far apart each time, up to this. */
export const execPidWaitMsMax = 1_000;
/** An output that stays open after its process, and gave nothing for so long, holds nothing of it. */
export const execIdleWaitMs = 100;
/** Of what the runtime complains. */
export const execErrorBytesMax = 64 * 1024;
/** As docker has it: less does not start a process. */
export const memoryLimitBytesMin = 6 * 1024 * 1024;
/** PID_MAX_LIMIT of 64-bit Linux: more than all processes there can be is no limit, and the kernel refuses it. */
export const pidsMaxMax = 4 * 1024 * 1024;
/** Files looked at before other work has its turn. */
export const treeEntriesPerTurn = 1000;
/** Links followed on the way to one path, as the kernel's own bound is 40. */
export const pathLinksMax = 255;
/** Files of a container's root that are read whole: /etc/passwd and /etc/group. */
export const rootTextBytesMax = 4 * 1024 * 1024;

/** Bytes of a volume's name: it is a directory's (limits.h: NAME_MAX). */
export const volumeNameBytesMax = 255;
/** What a link of a container that has ended gets to go by itself. */
export const linkRemovalDelayMs = 2_000;
/** One message of a log driver: longer lines are sent in pieces, as docker cuts them. */
export const logMessageBytesMax = 16 * 1024;
/** How long a receiver of logs may take to be connected to, and to acknowledge; and what an answer may hold. */
export const logConnectMsMax = 10_000;
/** How long the start of a container waits for a receiver that refuses connections. */
export const logRefusedMsMax = 2_000;
export const logAckMsMax = 30_000;
export const logAckBytesMax = 4096;
/** How soon a receiver whose queue is full is tried again; one that is away: at first, and at most. */
export const logFullRetryMs = 10;
export const logRetryMs = 100;
export const logRetryMsMax = 10_000;
/** How long the removal of a container waits for the last of its log to be taken; where nobody takes it, less. */
export const logFlushMsMax = 10_000;
export const logFlushAwayMsMax = 2_000;
/** How often it is written down how far a log was sent. */
export const logPlaceMs = 1_000;
/** How long a managed plugin may take to listen, and to end; how often it is looked whether it listens. */
export const pluginStartMsMax = 30_000;
export const pluginStopMsMax = 10_000;
export const pluginPollMs = 50;
/** The first pause before one that ended runs again, and the longest. */
export const pluginRestartMs = 1000;
export const pluginRestartMsMax = 60_000;
/** How long a log driver of a plugin may take to begin, to end, and to read the next line. */
export const logPluginMsMax = 10_000;
/** How long it is waited for its reading what it was told to read. */
export const logReaderMsMax = 1_000;
/** Of device descriptions (CDI): how many files of a directory, and bytes of each. */
export const cdiFilesMax = 1000;
export const cdiFileBytesMax = 4 * 1024 * 1024;
/** Nodes that are asked for an image which they say they have. */
export const peersAskedMax = 8;
