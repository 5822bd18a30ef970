/**
 * A TCP connection made inside a network namespace. The thread enters the namespace only for socket(2) and connect(2)
 * started without waiting: a socket stays in the namespace in which it was made, whoever uses it later.
 */
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { call, cloneFlag, errno, inetAddress, tryCall, SystemError } from './libc.linux.ts';

const connecting = 115;

export function connectInNamespace(path: string | undefined, address: string, port: number): Promise<Duplex> {
  let fd = -1;
  inNamespace(path, () => {
    fd = call('socket', 'tcp', 2, 1 | 0x80800, 0);
    const target = inetAddress(address, port);
    const result = tryCall('connect', fd, target, target.length);
    if (result < 0 && result !== -connecting && result !== -errno.EINTR) {
      closeSync(fd);
      throw new SystemError('connect', -result, `${address}:${port}`);
    }
  });
  return whenConnected(fd, `${address}:${port}`);
}

/** Runs something short and synchronous inside a namespace. */
export function inNamespace(path: string | undefined, run: () => void): void {
  if (path === undefined) {
    run();
    return;
  }
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const target = openSync(path, 'r');
    try {
      call('setns', path, target, cloneFlag.newNet);
    } finally {
      closeSync(target);
    }
    try {
      run();
    } finally {
      call('setns', 'home', home, cloneFlag.newNet);
    }
  } finally {
    closeSync(home);
  }
}

/**
 * libuv takes over a socket that is still connecting; the first write or read tells how it went, so SO_ERROR is asked
 * once it is writable.
 */
async function whenConnected(fd: number, what: string): Promise<Duplex> {
  const state = Buffer.alloc(4);
  const size = Buffer.from([4, 0, 0, 0]);
  const poll = Buffer.alloc(8);
  for (let waited = 0; waited < 400; waited++) {
    poll.writeInt32LE(fd, 0);
    poll.writeInt16LE(4, 4);
    poll.writeInt16LE(0, 6);
    if (tryCall('poll', poll, 1, 0) > 0) break;
    await new Promise((resolve) => {
      setTimeout(resolve, waited < 20 ? 1 : 25);
    });
  }
  tryCall('getsockopt', fd, 1, 4, state, size);
  const error = state.readInt32LE(0);
  if (error !== 0) {
    closeSync(fd);
    throw new SystemError('connect', error, what);
  }
  return new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
}
