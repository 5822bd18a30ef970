/**
 * Datagrams to a unix socket, which Node does not have: systemd's notifications (sd_notify(3)), the journal, /dev/log.
 * A receiver that is slow is told by `full`, never waited for.
 */
import { call, errno, tryCall, withUnixAddress } from './libc.linux.ts';

export interface UnixDatagram {
  /** `gone`: nobody receives any more; what was sent is lost. */
  send(bytes: Uint8Array): 'sent' | 'full' | 'gone';
  close(): void;
}

const domainUnix = 1;
const typeDatagram = 2;
const closeOnExec = 0o2000000;
const nonBlocking = 0o4000;
const noSignal = 0x4000;
const noBufferSpace = 105;

/** Throws a SystemError where nobody receives datagrams at that path; `@name` is in the abstract namespace. */
export function openUnixDatagram(path: string): UnixDatagram {
  const descriptor = call('socket', path, domainUnix, typeDatagram | closeOnExec | nonBlocking, 0);
  try {
    if (path.startsWith('@')) {
      const name = Buffer.from(`\x01\x00\0${path.slice(1)}`, 'latin1');
      call('connect', path, descriptor, name, name.length);
    } else withUnixAddress(path, (address) => call('connect', path, descriptor, address, address.length));
  } catch (error) {
    tryCall('close', descriptor);
    throw error;
  }
  return {
    send(bytes) {
      const result = tryCall('send', descriptor, bytes, bytes.length, noSignal);
      if (result >= 0) return 'sent';
      return result === -errno.EAGAIN || result === -noBufferSpace ? 'full' : 'gone';
    },
    close: () => void tryCall('close', descriptor),
  };
}
