/** Bounds of the scheduler. */
/** Bindings under way at once. */
export const bindingsInFlightMax = 128;
/** Back-off of a Pod that failed: first, doubled each time, at most. */
export const podBackoffMs = 1_000;
export const podBackoffMsMax = 10_000;
/** A Pod that no event brought back is tried again after this time: a net under missed hints. */
export const unschedulableMsMax = 300_000;
/** Below this many nodes all are looked at; above, enough feasible ones end the search. */
export const feasibleNodesMin = 100;
export const feasiblePercentMin = 5;
/** How long claims of a placed Pod may take to be bound. */
export const volumeBindingMs = 600_000;
/** A binding that nobody answered is looked up after this time, doubled up to the bound. */
export const bindingCheckMs = 100;
export const bindingCheckMsMax = 10_000;
/** Preemption dry runs: share of nodes in percent, and the least number. */
export const preemptionCandidatesPercent = 10;
export const preemptionCandidatesMin = 100;
/** A synchronous slice of scheduling before other work gets its turn. */
export const sliceMsMax = 5;
