/**
 * Holds ports of the host by bound sockets that never listen: others find the port in use, and nothing is answered
 * here.
 */
import { closeSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { call, inetAddress, tryCall } from './libc.linux.ts';

export interface PortHolder {
  /** The port until `release`, or why it cannot be had (`EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`). */
  hold(ip: string, port: number, protocol: 'tcp' | 'udp' | 'sctp'): { release(): void } | { code: string };
  /** The host's range for ports that nobody chose. */
  dynamicRange(): [number, number];
}

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

function setReuse(fd: number, value: 0 | 1): void {
  call('setsockopt', 'SO_REUSEADDR', fd, 1, 2, Buffer.from([value, 0, 0, 0]), 4);
}

export const linuxPortHolder: PortHolder = {
  hold(ip, port, protocol) {
    if (protocol === 'sctp') return { release: () => undefined };
    const fd = call('socket', protocol, 2, (protocol === 'tcp' ? 1 : 2) | 0x80000, 0);
    const address = inetAddress(ip, port);
    let result = tryCall('bind', fd, address, address.length);
    // Connections of a server that was killed a moment ago may still linger on its port. Once bound, the socket
    // conflicts with others again.
    if (result < 0 && protocol === 'tcp' && names.get(-result) === 'EADDRINUSE') {
      setReuse(fd, 1);
      result = tryCall('bind', fd, address, address.length);
      setReuse(fd, 0);
    }
    if (result === 0) return { release: () => closeSync(fd) };
    closeSync(fd);
    return { code: names.get(-result) ?? `E${-result}` };
  },
  dynamicRange() {
    try {
      const [from, to] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number);
      return [from ?? 32768, to ?? 60999];
    } catch {
      return [32768, 60999];
    }
  },
};
