/** Bounds of `src/net`. */
/** Commands gathered into one nftables transaction; beyond it the rest waits for the next. */
export const ruleBatchCommandsMax = 512;
/** Tries to find a free dynamic host port before giving up. */
export const portSearchTriesMax = 4096;
/** Linux's own bound (IFNAMSIZ - 1). */
export const linkNameLengthMax = 15;
/**
 * Taking an instance down: time that processes have after SIGTERM, that monitors have after their containers, and
 * between two looks.
 */
export const stopGraceMs = 2_500;
export const monitorWaitMs = 5_000;
export const monitorEndMs = 1_000;
export const removalStepMs = 20;
/** A question over UDP or TCP; an answer over UDP, whatever its asker could take. */
export const dnsQueryBytesMax = 4_096;
export const dnsUdpBytesMax = 4_096;
/**
 * Answers that one address or container waits for, and questions sent on, in all and for each asker (a socket each).
 */
export const dnsAnswersPendingMax = 1_024;
export const dnsForwardPendingMax = 512;
export const dnsForwardPendingPerClientMax = 64;
export const dnsForwardTimeoutMs = 3_000;
export const dnsTcpConnectionsMax = 256;
export const dnsTcpIdleMs = 10_000;
/** Connections, or senders of datagrams, that one relayed port serves at once; a sender's place without traffic. */
export const relayClientsMax = 1_024;
export const relayIdleMs = 90_000;
