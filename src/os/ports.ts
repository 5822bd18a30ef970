/**
 * Holds ports of the host by bound sockets that never listen: others find the port in use, and nothing is answered
 * here.
 */
import { closeSync, existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { call, inetAddress, tryCall } from './libc.linux.ts';

export interface HeldPort {
  /** The bound socket; absent where the protocol has none here (sctp). */
  fd?: number;
  release(): void;
}

export interface PortHolder {
  /** The port until `release`, or why it cannot be had (`EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`). */
  hold(ip: string, port: number, protocol: 'tcp' | 'udp' | 'sctp'): HeldPort | { code: string; reason?: string };
  /** Whether the host has addresses of version 6 at all. */
  hasIpv6(): boolean;
  /** The host's range for ports that nobody chose. */
  dynamicRange(): [number, number];
}

const closeOnExecNonBlocking = 0x80800;
const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

function setReuse(fd: number, value: 0 | 1): void {
  call('setsockopt', 'SO_REUSEADDR', fd, 1, 2, Buffer.from([value, 0, 0, 0]), 4);
}

export const linuxPortHolder: PortHolder = {
  hold(ip, port, protocol) {
    if (protocol === 'sctp') return { release: () => undefined };
    const isV6 = ip.includes(':');
    const fd = call('socket', protocol, isV6 ? 10 : 2, (protocol === 'tcp' ? 1 : 2) | closeOnExecNonBlocking, 0);
    const address = inetAddress(ip, port);
    // The same port of version 4 is another's, or held by itself.
    if (isV6) call('setsockopt', 'IPV6_V6ONLY', fd, 41, 26, Buffer.from([1, 0, 0, 0]), 4);
    let result = tryCall('bind', fd, address, address.length);
    // Connections of a server that was killed a moment ago may still linger on its port. Once bound, the socket
    // conflicts with others again.
    if (result < 0 && protocol === 'tcp' && names.get(-result) === 'EADDRINUSE') {
      setReuse(fd, 1);
      result = tryCall('bind', fd, address, address.length);
      setReuse(fd, 0);
    }
    // One of version 6 will listen, which conflicts by itself; its connections must not outlive it as conflicts.
    if (result === 0 && isV6 && protocol === 'tcp') setReuse(fd, 1);
    if (result === 0) return { fd, release: () => closeSync(fd) };
    closeSync(fd);
    return { code: names.get(-result) ?? `E${-result}` };
  },
  hasIpv6: () => existsSync('/proc/net/if_inet6'),
  dynamicRange() {
    try {
      const [from, to] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number);
      return [from ?? 32768, to ?? 60999];
    } catch {
      return [32768, 60999];
    }
  },
};
