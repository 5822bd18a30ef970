/** Bounds of Services, DNS and Ingress on a node. */
export const rulesBatchElementsMax = 2_000;
export const rulesDelayMs = 5;
export const dnsTtlSeconds = 5;
export const dnsUdpBytesMax = 4_096;
export const dnsTcpConnectionsMax = 256;
export const dnsTcpIdleMs = 10_000;
export const dnsForwardPendingMax = 1_000;
export const dnsForwardTimeoutMs = 3_000;
export const dnsCacheEntriesMax = 10_000;
export const ingressReloadDelayMs = 50;
export const ingressServersStep = 8;
export const haproxyConnectionsMax = 8_192;
