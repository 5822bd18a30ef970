/** A port of a container as it is reached from outside. */
export interface PublishedPort {
  hostIp: string;
  /** 0: not on the host; the container's own address is reached from outside (gateway mode `routed`). */
  hostPort: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  /** Of another family than `hostIp`, the port is relayed, not translated (port-relay.ts). */
  ip: string;
  port: number;
}

/** Whether a host's address stands for all of its family. */
export function isAnyAddress(hostIp: string): boolean {
  return hostIp === '0.0.0.0' || hostIp === '::';
}
