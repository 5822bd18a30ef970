/**
 * Questions that are not ours, sent on to resolvers. Each goes out from a socket of its own that is connected to the
 * resolver, with a number that nobody can guess, and only an answer to that very question is taken: a container that
 * sends answers of its own to the node forges nothing (RFC 5452). Resolvers are asked one after the other; what comes
 * back cut is asked for again by TCP where the asker can take more.
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { familyOf } from '#base/ip.ts';
import type { Clock, Random } from '#os/clock.ts';
import { cutDnsAnswer, dnsFailure, dnsFlag, isDnsAnswerTo } from './dns-message.ts';
import { dnsForwardPendingMax, dnsForwardPendingPerClientMax, dnsForwardTimeoutMs } from './limits.ts';

export interface DnsForwarder {
  /**
   * The answer, of at most `limit` bytes, with the asker's own number; SERVFAIL when no resolver answers. `client`: who
   * asks, for the bound of each.
   */
  ask(message: Buffer, servers: readonly string[], limit: number, client: string): Promise<Buffer>;
}

export function createDnsForwarder(options: { clock: Clock; random: Random; port?: number }): DnsForwarder {
  const { clock, random } = options;
  const port = options.port ?? 53;
  const pending = new Map<string, number>();
  let total = 0;

  const askUdp = (server: string, query: Buffer): Promise<Buffer | undefined> =>
    new Promise((resolve) => {
      const socket = createSocket(familyOf(server) === 'IPv6' ? 'udp6' : 'udp4');
      const timer = clock.setTimer(dnsForwardTimeoutMs, () => finish(undefined), { background: true });
      const finish = (answer: Buffer | undefined): void => {
        timer.cancel();
        socket.removeAllListeners('message');
        try {
          socket.close();
        } catch {
          /* closed by an error before */
        }
        resolve(answer);
      };
      socket.on('error', () => finish(undefined));
      socket.on('message', (answer) => {
        if (isDnsAnswerTo(query, answer)) finish(answer);
      });
      socket.connect(port, server, () => socket.send(query));
    });
  const askTcp = (server: string, query: Buffer): Promise<Buffer | undefined> =>
    new Promise((resolve) => {
      const socket = connect(port, server);
      let buffer: Buffer = Buffer.alloc(0);
      const finish = (answer: Buffer | undefined): void => {
        timer.cancel();
        socket.destroy();
        resolve(answer);
      };
      const timer = clock.setTimer(dnsForwardTimeoutMs, () => finish(undefined), { background: true });
      socket.on('error', () => finish(undefined));
      socket.on('close', () => finish(undefined));
      socket.on('connect', () => socket.write(withLength(query)));
      socket.on('data', (chunk: Buffer) => {
        buffer = Buffer.concat([buffer, chunk]);
        if (buffer.length < 2 || buffer.length < 2 + buffer.readUInt16BE(0)) return;
        const answer = buffer.subarray(2, 2 + buffer.readUInt16BE(0));
        finish(isDnsAnswerTo(query, answer) ? answer : undefined);
      });
    });
  const askAll = async (message: Buffer, servers: readonly string[], limit: number): Promise<Buffer> => {
    const query = Buffer.from(message);
    query.set(random.bytes(2), 0);
    for (const server of servers) {
      const first = await askUdp(server, query);
      if (first === undefined) continue;
      const isCut = (first.readUInt16BE(2) & dnsFlag.truncated) !== 0;
      const answer = Buffer.from(isCut && limit > first.length ? ((await askTcp(server, query)) ?? first) : first);
      message.copy(answer, 0, 0, 2);
      return cutDnsAnswer(answer, limit);
    }
    return dnsFailure(message, 'SERVFAIL');
  };
  return {
    async ask(message, servers, limit, client) {
      const own = pending.get(client) ?? 0;
      if (total >= dnsForwardPendingMax || own >= dnsForwardPendingPerClientMax) return dnsFailure(message, 'SERVFAIL');
      total++;
      pending.set(client, own + 1);
      try {
        return await askAll(message, servers, limit);
      } finally {
        total--;
        const left = pending.get(client)! - 1;
        if (left === 0) pending.delete(client);
        else pending.set(client, left);
      }
    },
  };
}

/** As TCP carries a message (RFC 1035, 4.2.2). */
export function withLength(message: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(message.length);
  return Buffer.concat([head, message]);
}
