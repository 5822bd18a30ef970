/** Bounds of Services, DNS and Ingress on a node. */
export const rulesBatchElementsMax = 2_000;
/** Elements of a set or map that one command of nft changes. */
export const ruleCommandElementsMax = 500;
export const rulesDelayMs = 5;
/** After a transaction that the kernel refused. */
export const rulesRetryMs = 1_000;
export const dnsTtlSeconds = 5;
export const ingressReloadDelayMs = 50;
/** How long a change waits for certificates that were not read yet. */
export const ingressSecretWaitMsMax = 2_000;
export const ingressServersStep = 8;
export const haproxyConnectionsMax = 8_192;
/** How soon routes to other machines follow a change, and how often they are looked at without one. */
export const machineRoutesDelayMs = 5;
/** How soon the link is told again of an address that has come. */
export const announceAgainMs = 1_000;
export const machineRoutesLookMs = 30_000;
/** Clients that an endpoint of a Service with session affinity remembers, at a time. */
export const stickyClientsMax = 65_536;
