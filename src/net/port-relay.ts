/**
 * Carries connections where the kernel cannot translate them: from a published port of version 6 to a container that
 * has only an address of version 4, and from `::1` (Linux has no `route_localnet` for version 6), which is what
 * docker's userland proxy is for. All else is turned by the rules before it could come here, so that this part alone
 * stops answering while the engine is dead. Where the user wants no rules it carries everything that is published.
 */
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { IpFamily } from '#base/ip.ts';
import type { Clock } from '#os/clock.ts';
import { relayClientsMax, relayIdleMs } from './limits.ts';

export interface RelayTarget {
  ip: string;
  port: number;
  protocol: 'tcp' | 'udp';
  /** Of the socket that others connect to. */
  near: IpFamily;
}
export interface Relay {
  close(): void;
}

/** `fd` is a bound socket, and the relay's from now on. */
export function startRelay(fd: number, target: RelayTarget, clock: Clock): Relay {
  return target.protocol === 'tcp' ? relayStreams(fd, target) : relayDatagrams(fd, target, clock);
}

function relayStreams(fd: number, target: RelayTarget): Relay {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: target.ip, port: target.port, allowHalfOpen: true });
    const pairs: [Socket, Socket][] = [
      [near, far],
      [far, near],
    ];
    for (const [from, to] of pairs) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        // What ended in order has told its end by the pipe.
        if (!from.readableEnded) to.destroy();
      });
      from.pipe(to);
    }
  });
  server.maxConnections = relayClientsMax;
  server.on('error', () => {});
  server.listen({ fd });
  return {
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function relayDatagrams(fd: number, target: RelayTarget, clock: Clock): Relay {
  const near = createSocket(target.near === 'IPv6' ? 'udp6' : 'udp4');
  const clients = new Map<string, { far: ReturnType<typeof createSocket>; touch(): void; close(): void }>();
  const open = (key: string, reply: (message: Buffer) => void): NonNullable<ReturnType<typeof clients.get>> => {
    const far = createSocket(target.ip.includes(':') ? 'udp6' : 'udp4');
    const close = (): void => {
      timer.cancel();
      if (clients.delete(key)) far.close();
    };
    let timer = clock.setTimer(relayIdleMs, close, { background: true });
    const client = {
      far,
      close,
      touch() {
        timer.cancel();
        timer = clock.setTimer(relayIdleMs, close, { background: true });
      },
    };
    clients.set(key, client);
    far.on('error', close);
    far.on('message', (message) => {
      client.touch();
      reply(message);
    });
    return client;
  };
  near.on('error', () => {});
  near.on('message', (message, from) => {
    const key = `${from.address} ${from.port}`;
    const known = clients.get(key);
    if (known === undefined && clients.size >= relayClientsMax) return;
    const client = known ?? open(key, (answer) => near.send(answer, from.port, from.address, () => {}));
    client.touch();
    client.far.send(message, target.port, target.ip, () => {});
  });
  near.bind({ fd });
  return {
    close() {
      for (const client of clients.values()) client.close();
      near.close();
    },
  };
}
