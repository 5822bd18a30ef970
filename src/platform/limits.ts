/** Bounds of `src/platform`. */
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
/** What a part has to end after it was told to; then it is killed. */
export const partStopTimeoutMs = 10_000;
/** How long Pods of a node that leaves may take to be evicted and to end, and how often they are looked at. */
export const drainMsMax = 120_000;
export const drainStepMs = 200;
/** What is read of another engine's files: of a database, of any other file that is read whole, of a line. */
export const boltFileBytesMax = 512 * 1024 * 1024;
export const boltDepthMax = 32;
export const importedTextBytesMax = 16 * 1024 * 1024;
export const importedLineBytesMax = 16 * 1024 * 1024;
/** How often the server looks for other encryption keys, and how long a command waits for it to use them. */
export const keyPollMs = 1_000;
export const sealingMsMax = 300_000;
