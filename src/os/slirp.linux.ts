/**
 * Ports of the host for an engine in a network namespace of its own: slirp4netns, which carries that namespace's
 * packets, listens for it outside. Each request is a connection to its socket with one JSON object each way.
 * Source: slirp4netns(1), "API SOCKET".
 */
import { closeSync } from 'node:fs';
import { fieldOf, itemsOf, type JsonObject } from '#base/unknown.ts';
import { call, withUnixAddress } from './libc.linux.ts';
import { linuxPortHolder, type HeldPort, type PortHolder } from './ports.ts';

/** The address that slirp4netns gives to the namespace, and the server of names that it is there. */
const slirpAddress = '10.0.2.100';
export const slirpNameServer = '10.0.2.3';

/** A stuck slirp4netns must not stop the engine. */
const answerWaitSeconds = 5;
const answerBytesMax = 1 << 20;

class SlirpError extends Error {}

/** One request; throws SlirpError with slirp4netns' own words. */
export function askSlirp(socketPath: string, execute: string, words: JsonObject = {}): unknown {
  const fd = call('socket', 'slirp4netns', 1, 1 | 0x80000, 0);
  try {
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(BigInt(answerWaitSeconds));
    for (const option of [20, 21]) call('setsockopt', 'SO_RCVTIMEO', fd, 1, option, timeout, timeout.length);
    withUnixAddress(socketPath, (address) => call('connect', socketPath, fd, address, address.length));
    const request = Buffer.from(JSON.stringify({ execute, arguments: words }));
    call('send', 'slirp4netns', fd, request, request.length, 0x4000);
    call('shutdown', 'slirp4netns', fd, 1);
    const answer: unknown = JSON.parse(readAll(fd));
    const refusal = fieldOf(answer, 'error');
    if (refusal !== undefined) throw new SlirpError(String(fieldOf(refusal, 'desc') ?? 'refused'));
    return fieldOf(answer, 'return');
  } finally {
    closeSync(fd);
  }
}

function readAll(fd: number): string {
  const chunks: Buffer[] = [];
  for (let size = 0; size <= answerBytesMax;) {
    const chunk = Buffer.alloc(4096);
    const count = call('recv', 'slirp4netns', fd, chunk, chunk.length, 0);
    if (count === 0) return Buffer.concat(chunks).toString();
    chunks.push(chunk.subarray(0, count));
    size += count;
  }
  throw new SlirpError('the answer is too long');
}

/**
 * Holds each port twice: outside, where slirp4netns listens, and inside, where nothing else of the namespace may have
 * it. Outside only TCP and UDP of version 4 can be had. `unprivilegedFrom`: the host's first port for everybody.
 */
export function createSlirpPortHolder(socketPath: string, unprivilegedFrom: number): PortHolder {
  return {
    ...linuxPortHolder,
    hasIpv6: () => false,
    hold(ip, port, protocol) {
      if (protocol === 'sctp' || ip.includes(':')) return { code: 'EPROTONOSUPPORT' };
      const inside = linuxPortHolder.hold('0.0.0.0', port, protocol);
      if ('code' in inside) return inside;
      const wanted = { proto: protocol, host_addr: ip, host_port: port };
      try {
        const id = forward(socketPath, wanted);
        return held(socketPath, inside, id);
      } catch (error) {
        inside.release();
        if (!(error instanceof SlirpError))
          return { code: 'EIO', reason: 'slirp4netns does not answer: restart the engine, which starts it again' };
        if (port >= unprivilegedFrom) return { code: 'EADDRINUSE' };
        return {
          code: 'EACCES',
          reason: `cannot expose privileged port ${port}, you can add 'net.ipv4.ip_unprivileged_port_start=${port}' to /etc/sysctl.conf (currently ${unprivilegedFrom}), or choose a larger port number (>= ${unprivilegedFrom}): permission denied`,
        };
      }
    },
  };
}

interface Forward {
  proto: 'tcp' | 'udp';
  host_addr: string;
  host_port: number;
}

/** The number of the forwarding; one that an engine of before has left is taken over. */
function forward(socketPath: string, wanted: Forward): number {
  const words = { ...wanted, guest_addr: slirpAddress, guest_port: wanted.host_port };
  const left = itemsOf(fieldOf(askSlirp(socketPath, 'list_hostfwd'), 'entries')).find((entry) =>
    Object.entries(words).every(([name, value]) => fieldOf(entry, name) === value),
  );
  return Number(fieldOf(left ?? askSlirp(socketPath, 'add_hostfwd', words), 'id'));
}

function held(socketPath: string, inside: HeldPort, id: number): HeldPort {
  return {
    ...inside,
    release() {
      inside.release();
      try {
        askSlirp(socketPath, 'remove_hostfwd', { id });
      } catch {
        // Gone with slirp4netns.
      }
    },
  };
}
