/**
 * The two doors of a DNS server, UDP and TCP, on an address or on sockets that are there. What comes in is bounded:
 * messages by their size, answers under way by their number, a TCP connection by one question at a time and by its idle
 * time.
 */
import { createSocket } from 'node:dgram';
import type { RemoteInfo } from 'node:dgram';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { whenDrained } from '#base/streams.ts';
import type { Clock } from '#os/clock.ts';
import { withLength } from './dns-forwarder.ts';
import { dnsAnswersPendingMax, dnsQueryBytesMax, dnsTcpConnectionsMax, dnsTcpIdleMs } from './limits.ts';

/** `limit`: bytes that the answer may have. Undefined: no answer. */
export type DnsAnswerer = (
  message: Buffer,
  from: { address: string; transport: 'udp' | 'tcp' },
) => Promise<Buffer | undefined>;

export type DnsPlace = { address: string; port: number } | { udpFd: number; tcpFd: number };

export interface DnsListener {
  /** Resolves when both doors are open; rejects when one cannot be. */ ready: Promise<void>;
  close(): Promise<void>;
}

export const dnsTcpBytesMax = 65_535;

export function listenDns(place: DnsPlace, clock: Clock, answer: DnsAnswerer): DnsListener {
  let pending = 0;
  const ask = async (message: Buffer, address: string, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> => {
    if (message.length > dnsQueryBytesMax || pending >= dnsAnswersPendingMax) return undefined;
    pending++;
    try {
      return await answer(message, { address, transport });
    } finally {
      pending--;
    }
  };
  const udp = createSocket({ type: 'udp4', reuseAddr: 'address' in place });
  udp.on('message', (message: Buffer, from: RemoteInfo) => {
    void ask(message, from.address, 'udp').then(
      (reply) => {
        if (reply !== undefined) udp.send(reply, from.port, from.address, () => {});
      },
      () => {},
    );
  });
  const connections = new Set<Socket>();
  const tcp = createServer((socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    serveConnection(socket, clock, (message) => ask(message, socket.remoteAddress ?? '', 'tcp'));
  });
  tcp.maxConnections = dnsTcpConnectionsMax;
  const opened = (door: NodeJS.EventEmitter): Promise<void> =>
    new Promise((resolve, reject) => {
      door.once('listening', () => {
        door.on('error', () => {});
        resolve();
      });
      door.once('error', reject);
    });
  const ready = Promise.all([opened(udp), opened(tcp)]).then(() => {});
  if ('address' in place) {
    udp.bind(place.port, place.address);
    tcp.listen(place.port, place.address);
  } else {
    udp.bind({ fd: place.udpFd });
    tcp.listen({ fd: place.tcpFd });
  }
  udp.unref();
  tcp.unref();
  return {
    ready,
    async close() {
      for (const socket of connections) socket.destroy();
      const closed = (door: { close(done: () => void): unknown }): Promise<void> =>
        new Promise((done) => {
          try {
            door.close(() => done());
          } catch {
            done();
          }
        });
      await Promise.all([closed(udp), closed(tcp)]);
    },
  };
}

/** Questions of one connection, one after the other: who does not read answers sends no more questions. */
function serveConnection(socket: Socket, clock: Clock, ask: (message: Buffer) => Promise<Buffer | undefined>): void {
  let buffer: Buffer = Buffer.alloc(0);
  let timer = clock.setTimer(dnsTcpIdleMs, () => socket.destroy(), { background: true });
  let busy = false;
  const next = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0) && !socket.destroyed) {
      const message = Buffer.from(buffer.subarray(2, 2 + buffer.readUInt16BE(0)));
      buffer = buffer.subarray(2 + message.length);
      // Told by whoever answers; the client hears nothing, and asks again.
      const reply = await ask(message).catch(() => undefined);
      if (reply === undefined) {
        socket.destroy();
        break;
      }
      if (!socket.write(withLength(reply))) await whenDrained(socket);
    }
    busy = false;
    socket.resume();
  };
  socket.on('error', () => socket.destroy());
  socket.on('close', () => timer.cancel());
  socket.on('data', (chunk: Buffer) => {
    timer.cancel();
    timer = clock.setTimer(dnsTcpIdleMs, () => socket.destroy(), { background: true });
    buffer = Buffer.concat([buffer, chunk]);
    // More than this comes only when the message that is being read is whole.
    if (buffer.length > dnsQueryBytesMax + 2) socket.pause();
    if (buffer.length >= 2 && buffer.readUInt16BE(0) > dnsQueryBytesMax) {
      socket.destroy();
      return;
    }
    void next();
  });
}
