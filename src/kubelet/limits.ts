/** Bounds of the kubelet. Units last. The figures are Kubernetes' own where it names one. */
/** Where the node's owner has not said otherwise; and what the node's part of the Pod range has addresses for. */
export const podsPerNodeDefault = 110;
export const podsPerNodeMax = 250;
/** Limits of a control group: the kernel refuses longer quotas; more bytes are no exact number here, nor anywhere. */
export const cpuQuotaUsMax = 2 ** 43;
export const memoryLimitBytesMax = 2 ** 52;
export const leaseSecondsDefault = 40;
export const leaseRenewals = 4;
export const nodeStatusIntervalMs = 300_000;
/** How soon the status follows a change of the node's images. */
export const imagesReportDelayMs = 500;
export const restartBackOffInitialMs = 10_000;
export const restartBackOffMaxMs = 300_000;
/** A container that ran this long starts its back-off anew. */
export const restartBackOffResetMs = 600_000;
export const imageBackOffInitialMs = 10_000;
export const imageBackOffMaxMs = 300_000;
/** ErrImagePull is shown for this long, then ImagePullBackOff until the next pull. */
export const imageErrorShownMs = 2_000;
export const terminationMessageBytesMax = 4096;
/** Bytes of log taken as the message under `FallbackToLogsOnError`, and the lines. */
export const terminationLogBytesMax = 2048;
export const terminationLogLinesMax = 80;
export const probeOutputBytesMax = 10_240;
export const projectedRefreshMs = 60_000;
/** How long a Pod's start waits for the answer to one request for a certificate before it reports that it waits. */
export const certificateAnswerMsMax = 20_000;
/** A request for a certificate that is not to be seen for so long has been deleted. */
export const certificateAskedMsMax = 600_000;
/** Certificates that were issued together are renewed within this time of each other. */
export const certificateJitterMsMax = 300_000;
export const logFileBytesMax = 10 * 1024 * 1024;
export const logFilesMax = 5;
/** A pass that starts containers reports what it waits for after this time. */
export const interimStatusMs = 300;
/** While a node goes down, the API server has so long to take what is said. */
export const shutdownWordMsMax = 3_000;
export const syncErrorRetryMs = 2_000;
export const syncErrorRetryMaxMs = 60_000;
/**
 * Pods of at least this priority (system-cluster-critical) are neither refused nor evicted when the node is short of
 * something.
 */
export const criticalPriorityMin = 2_000_000_000;
/**
 * A node stays under pressure for this long after the last sign of it, where Pods were evicted for it, and is looked at
 * this often (Node-pressure Eviction).
 */
export const pressureTransitionMs = 300_000;
/** Where none were, nothing flaps: minutes would only hold a mended machine back. */
export const pressureReliefMs = 5_000;
export const evictionIntervalMs = 10_000;
/** What a Pod has to end that is evicted at once. */
export const evictionGraceMs = 1_000;
/** A measuring of a Pod's files holds for this many times what it took: no tree of files keeps the node busy. */
export const storageCostFactor = 20;
/** For figures that are asked for, it may be so old. */
export const storageAgeMsMax = 60_000;
export const pressureCheckMs = 10_000;
/** Quantities whose value is remembered: the same few are written again and again. */
export const quantitiesRememberedMax = 4_096;
/** Moments whose text is remembered. */
export const timesRememberedMax = 256;
/** Dead containers kept for each container of a Pod, so that `logs --previous` answers. */
export const deadContainersKept = 1;
export const imageGcHighPercent = 85;
export const imageGcLowPercent = 80;
export const imageGcIntervalMs = 300_000;
/** A WebSocket message of exec, attach or port-forward, as the real kubelet's library has it. */
export const webSocketMessageBytesMax = 32 * 1024 * 1024;
/** Of a container whose process could not be started. */
export const startErrorExitCode = 128;
/**
 * Less left than this, and the node is under pressure: Kubernetes' defaults for hard eviction (Node-pressure Eviction),
 * and for processes what is kept back from Pods anyway.
 */
export const memoryAvailableBytesMin = 100 * 1024 * 1024;
export const nodefsAvailablePercentMin = 10;
export const nodefsInodesFreePercentMin = 5;
export const imagefsAvailablePercentMin = 15;
export const imagefsInodesFreePercentMin = 5;
export const pidsAvailablePercentMin = 5;
/** A container that runs for longer than this when its probes begin was there before the kubelet. */
export const lateProbeMs = 5_000;
/** A postStart hook has so long. */
export const hookMsMax = 3_600_000;
/** Whatever its preStop hook has used up of the grace period, a container has so long after the signal. */
export const signalGraceMsMin = 2_000;
/** Of the processes that the host can have, what all Pods together may; the rest is the node's own. */
export const podProcessesMaxPercent = 90;
/** `HOST_NAME_MAX` of Linux. */
export const hostnameBytesMax = 64;
/** A node that could not say how it is says it again after this time. */
export const reportRetryMs = 2_000;
/** Of the tmpfs that Secrets and tokens lie on. */
export const secretsBytesMax = 256 * 1024 * 1024;

/** Between two attempts to resize a Pod that could not be, or not wholly. */
export const resizeRetryMs = 10_000;

/** Of a log, sent together. */
export const logChunkBytes = 32 * 1024;
/** How long it is remembered whose a bearer token is, and what somebody may do or not: the kubelet's defaults. */
export const tokenKnownMs = 120_000;
export const accessAllowedMs = 300_000;
export const accessRefusedMs = 30_000;
/** What is remembered of each, and how many are asked for at a time. */
export const accessKnownMax = 1_000;
export const accessReviewsMax = 64;
export const bearerTokenBytesMax = 65_536;
