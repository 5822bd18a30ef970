/**
 * A pair of server sockets, UDP and TCP, in a network namespace: made and bound there, then used from here. A socket
 * stays in the namespace in which it was made. Ports are tried in the order given, as the namespace belongs to somebody
 * who may have taken any of them.
 */
import { closeSync } from 'node:fs';
import { inNamespace } from './connect.linux.ts';
import { SystemError, call, errno, inetAddress, tryCall } from './libc.linux.ts';

export interface NamespaceSockets {
  udpFd: number;
  tcpFd: number;
  udpPort: number;
  tcpPort: number;
}

const closeOnExecNonBlocking = 0x80800;

/** Throws the last failure when no port is free. */
export function openNamespaceSockets(namespace: string, address: string, ports: readonly number[]): NamespaceSockets {
  const out: NamespaceSockets = { udpFd: -1, tcpFd: -1, udpPort: 0, tcpPort: 0 };
  try {
    inNamespace(namespace, () => {
      [out.udpFd, out.udpPort] = bindFirst(2, address, ports);
      [out.tcpFd, out.tcpPort] = bindFirst(1, address, ports);
    });
    return out;
  } catch (error) {
    for (const fd of [out.udpFd, out.tcpFd]) if (fd >= 0) closeSync(fd);
    throw error;
  }
}

function bindFirst(kind: 1 | 2, address: string, ports: readonly number[]): [number, number] {
  let last: number = errno.EADDRINUSE;
  for (const port of ports) {
    const fd = call('socket', 'dns', 2, kind | closeOnExecNonBlocking, 0);
    const target = inetAddress(address, port);
    const result = tryCall('bind', fd, target, target.length);
    if (result === 0) return [fd, port];
    closeSync(fd);
    last = -result;
    if (last !== errno.EADDRINUSE) break;
  }
  throw new SystemError('bind', last, address);
}
