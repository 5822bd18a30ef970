/** Bounds of the controllers. */
/** Keys that one controller reconciles at once. */
export const reconcileConcurrencyMax = 8;
/** Writes that one reconciliation has under way at once. */
export const writesInFlightMax = 32;
/** Pods that one reconciliation of a ReplicaSet or Job creates or deletes at most; the rest follows in the next. */
export const burstPodsMax = 500;
/** Endpoints in one EndpointSlice, and in all of an Endpoints object. */
export const endpointsPerSliceMax = 100;
export const endpointsPerObjectMax = 1_000;
/** Objects of the garbage collector handled at once. */
export const collectorConcurrencyMax = 16;
/** Terminated Pods kept before the oldest are collected. */
export const terminatedPodsMax = 12_500;
/** Owners known to be gone that the garbage collector remembers. */
export const absentOwnersMax = 500;
/** How long the failed Pod of a DaemonSet is left where it is: at first, and at most. */
export const failureBackoffMs = 1_000;
export const failureBackoffMsMax = 900_000;
/** Nodes and DaemonSets whose failures are remembered before the old ones are forgotten. */
export const failuresRememberedMax = 1_000;
/** How long certificate requests are kept: undecided since they were made, approved and denied since that. */
export const requestPendingMsMax = 24 * 3_600_000;
export const requestApprovedMsMax = 3_600_000;
export const requestDeniedMsMax = 3_600_000;
/** How long a node's request for a Pod's certificate is kept. */
export const podCertificateRequestMsMax = 900_000;
/** What a ReplicaSet keeps of its former revisions. */
export const revisionHistoryCharsMax = 2_000;
/** Objects that a storage migration reads at once; how long it waits for its resource, and between two looks. */
export const migratedPageMax = 500;
export const migrationResourceMs = 60_000;
export const migrationRetryMs = 5_000;
/** How long Pods of a node that leaves may take to be evicted and to end, and how often they are looked at. */
export const drainMsMax = 120_000;
export const drainStepMs = 200;
/**
 * How long after the certificates of a node were refused its object goes: a second machine of its name is given none
 * until then, so that no time that is written in seconds fits both.
 */
export const removalSettleMs = 2_000;
/** How long it is remembered that a node was taken out: no certificate holds longer. */
export const removedNodeMsMax = 366 * 86_400_000;
