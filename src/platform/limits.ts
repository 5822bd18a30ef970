/** Bounds of `src/platform`. */
import { certificateBackdateMs } from '#base/x509.ts';

/** A part's log; as much again is kept of what was before. */
export const processLogBytesMax = 16 * 1024 * 1024;
/** Written between two looks at its size. */
export const processLogCheckBytes = 256 * 1024;
/** How soon a certificate is asked for again: at first, and at most; and how long one waits to be decided. */
export const certificateRetryMs = 20;
export const certificateRetryMsMax = 30_000;
export const certificateWaitMsMax = 60_000;
/** Once this part of its time has passed, `up` makes the user's kubeconfig anew, and a start the authority. */
export const renewalPartMin = 0.7;
/** How often a node that knows no cluster yet looks whether the server has left word. */
export const bootstrapLookMs = 5;
/** How long a bootstrap token of this machine holds; a new one is made at half of that. */
export const bootstrapTokenMs = 24 * 3_600_000;
/** How soon it is tried again to make one. */
export const bootstrapTokenRetryMs = 1_000;
/** How often the leading server renews its lease, and others look whether it does. */
export const controlPlaneRetryMs = 5_000;
/** The same where several servers share their store; how long a lease is good, and until when it must be renewed. */
export const sharedRetryMs = 1_500;
export const sharedLookMs = 500;
export const sharedLeaseMs = 7_000;
export const sharedRenewDeadlineMs = 5_000;
/** How long a move back to SQLite waits for the lease of a server that was killed. */
export const otherServersWaitMs = 15_000;
/** How soon a server that begins asks an etcd again that did not answer. */
export const etcdRetryMs = 1_000;
/** What a part has to end after it was told to; then it is killed. */
export const partStopTimeoutMs = 10_000;
/** How often a process that takes another one's place looks whether that is gone, and whether a port is free. */
export const heirStepMs = 5;
/**
 * How long a process that replaces another one may take until it is ready, and how often it may be started for that.
 */
export const replaceMsMax = 180_000;
export const replaceStartsMax = 3;
/** What is read of another engine's files: of a database, of any other file that is read whole, of a line. */
export const boltFileBytesMax = 512 * 1024 * 1024;
export const boltDepthMax = 32;
export const importedTextBytesMax = 16 * 1024 * 1024;
export const importedLineBytesMax = 16 * 1024 * 1024;
/** How often a server looks whether its keys have changed. */
export const keyPollMs = 1_000;
/**
 * How long a server may take to say which keys it has, when it runs and when it begins anew, and to take up others (it
 * begins anew, and seals everything); and how often it is asked.
 */
export const keysAskMsMax = 10_000;
export const keysAnswerMsMax = 30_000;
export const keysTakenMsMax = 300_000;
export const keysStepMs = 200;
/** How long a command waits for the nodes to have certificates of the authority that signs now. */
export const nodesCurrentMsMax = 90_000;
/** How often a node looks whether its certificates are of it, while they are not. */
export const authorityLookMs = 1_000;
/** How long a server may take to tell a machine that joins who it is, and what it may say. */
export const discoveryMsMax = 10_000;
/** How soon one that cannot serve now is asked again. */
export const discoveryRetryMs = 500;
export const clusterInfoBytesMax = 1024 * 1024;
/** How far clocks of two machines may be apart: certificates hold from so long before they are issued on. */
export const clockSkewMsMax = certificateBackdateMs;
/** Minor versions of Kubernetes. */
export const kubeletMinorsBehindMax = 3;
/** How long a node that joins waits for its Pod range, and how often it looks. */
export const podRangeMsMax = 15_000;
export const podRangeStepMs = 100;
/** How long a token to join by holds unless it is said, and at most. */
export const joinTokenMs = 3_600_000;
export const joinTokenMsMax = 7 * 24 * 3_600_000;
/** How long a machine that joined tries to reach the server in the Pod network. */
export const podNetworkMsMax = 15_000;
/** How long `leave` and `remove` wait beyond what the drain may take. */
export const removalMsMax = 30_000;
export const removalStepMs = 200;
/** How long a server that was told to start anew may take. */
export const serverRestartMsMax = 60_000;
/** How long a command waits for the cluster's nodes. */
export const nodesAnswerMsMax = 5_000;
/**
 * How long nothing is heard of a node before it is taken for lost, unless `up` is told otherwise; nodes renew their
 * Leases four times in this time. And what may be chosen.
 */
export const nodeGraceMs = 10_000;
export const nodeGraceMsMax = 3_600_000;
/** How often a node that joined looks whether it still belongs to its cluster, and how often it must be refused. */
export const membershipLookMs = 15_000;
export const membershipLooksMin = 3;
/** What Pods have to end on a node that was taken out. */
export const removedGraceMs = 10_000;
/** etcd's heartbeats, and after how long without one another member leads: a machine may be busy. */
export const etcdHeartbeatMs = 150;
export const etcdElectionMs = 1_500;
/** What the cluster's own etcd holds at most: as much as its makers advise. */
export const etcdQuotaBytes = 8 * 1024 ** 3;
/** How long one member of etcd may take to answer what is asked of its members, and what it may say. */
export const etcdAskMsMax = 5_000;
export const etcdAnswerBytesMax = 1024 * 1024;
/** How long an etcd may take to begin. */
export const etcdStartMsMax = 60_000;
/** How often somebody who waits for a move of the state, or for etcd, looks. */
export const movePollMs = 20;
/** How long a machine that joins as a server waits for the state to move, and for its member to catch up. */
export const admissionMsMax = 180_000;
export const admissionStepMs = 500;
/** With less left of its disk a machine is said to be full: a file of etcd's log has as much. */
export const diskBytesMin = 64 * 1024 ** 2;
/** How often a server looks after its member of etcd. */
export const etcdUpkeepMs = 3_000;
/** Between attempts to gain space in an etcd that has none and does not say whether some could be gained. */
export const blindDefragmentMsMin = 15_000;
export const blindDefragmentMsMax = 600_000;
/** A learner that never began is taken out of etcd after so long. */
export const idleLearnerMsMax = 600_000;
/** A file of etcd's is made smaller when it is so large, and so much of it is free. */
export const defragmentBytesMin = 64 * 1024 ** 2;
export const defragmentFreePartMin = 0.5;
export const defragmentMsMax = 120_000;
/** How long a command that a server starts may take until it says that it is there. */
export const attemptStartMsMax = 15_000;
/** How long a command waits until a server's member of etcd has its vote. */
export const promotionMsMax = 60_000;
/** How long etcd may take to count its members as well after one was added. */
export const etcdHealthMsMax = 20_000;
/** Of what etcd may hold so much is free when writes are let in again after there was no space. */
export const roomPartMin = 0.1;
/** A backup: pieces of age's payload (its specification has them so), and what its first lines may be. */
export const sealedPieceBytes = 64 * 1024;
export const sealedHeaderBytesMax = 64 * 1024;
/** Parts that sections of a backup come in, and what its small entries may be. */
export const backupPartBytes = 4 * 1024 * 1024;
export const backupEntryBytesMax = 16 * 1024 * 1024;
/** One frame of a section: its description, and what is held of it in memory. */
export const backupFrameHeadBytesMax = 32 * 1024 * 1024;
export const backupFrameBytesMax = 16 * 1024 * 1024;
/** Keys that are taken in one turn of the store's thread, and how often a reading begins anew. */
export const stateKeysPerTurn = 2_000;
export const stateAttemptsMax = 5;
/** Files of volumes, in one archive. */
export const volumeEntriesMax = 100_000_000;
/**
 * Resource versions after a restore begin so far above those of the backup, and so much further for each second since:
 * more than the cluster can have handed out meanwhile.
 */
export const restoredRevisionsStep = 1_000_000_000;
export const restoredRevisionsPerSecond = 20_000;
export const revisionMax = 2 ** 45;
/** A store of S3: parts begin with this length, which doubles after so many of them. */
export const s3PartBytes = 16 * 1024 * 1024;
export const s3PartsPerSize = 2_000;
export const s3AttemptsMax = 5;
export const s3RetryMs = 200;
/** What is read of an error. */
export const s3AnswerBytesMax = 64 * 1024;
/** How often the server looks whether a backup is due, and how soon one that failed is tried again. */
export const backupLookMs = 5_000;
export const backupRetryMs = 10 * 60_000;
export const backupEveryMsMin = 60_000;
export const backupEveryMsMax = 366 * 24 * 3_600_000;
export const backupsKeptDefault = 14;
export const backupsKeptMax = 10_000;
/** How long an upgrade waits for another one on the machine that may end in a moment. */
export const upgradeLockWaitMs = 1_000;
/** How often a machine looks which program it is to run, and others whether it does. */
export const programLookMs = 500;
/** What is sent of a program's file at a time, and how long that may take. */
export const programPieceBytes = 4 * 1024 * 1024;
export const programAskMsMax = 30_000;
/** How long one machine may take to come to another program, and the cluster to be well before the next one's turn. */
export const machineUpgradeMsMax = 600_000;
export const machineWellMsMax = 120_000;
/**
 * How long another machine's upgrade is taken to go on when nothing is heard of it, and how long its end is awaited.
 */
export const upgradeLeaseMs = 15_000;
export const upgradeLeaseWaitMs = 20_000;
/** Files and bytes of a program that a machine keeps, and what must stay free beside it. */
export const programFilesMax = 20_000;
export const programBytesMax = 1024 * 1024 * 1024;
export const programRoomBytes = 64 * 1024 * 1024;
