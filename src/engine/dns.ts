/**
 * The embedded resolver of user-defined networks: names and aliases of the containers on the network, everything else forwarded to the host's
 * resolvers as it came. It listens on each network's gateway address; after a restart of the engine it is there again under the same address.
 * Who asks is known by its address: a container on several networks is answered for all of them, and its links and resolvers are its own.
 */
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { createServer } from 'node:net';
import type { Server, Socket as TcpSocket } from 'node:net';
import { decode, encode } from 'dns-packet';
import type { Answer, Packet, Question } from 'dns-packet';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readHostResolver } from './etc-files.ts';
import { dnsInFlightMax, dnsMessageBytesMax, dnsUpstreamTimeoutMs } from './limits.ts';

export interface NamedEndpoint { containerId: string; networkId: string; ip: string; names: string[]; /** Further names of other containers that this one alone knows, as `name:alias`. */ links?: string[]; /** Resolvers asked instead of the host's. */ servers?: string[] }

const recordTtlSeconds = 600;
const responseCode = { noError: 0, serverFailure: 2, nameError: 3 } as const;
const authoritative = 0x0400 | 0x0080;

export class NameServer {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #random: Random;
  readonly #listeners = new Map<string, { udp: Socket; tcp: Server }>();
  readonly #endpoints = new Map<string, NamedEndpoint[]>();
  #inFlight = 0;

  constructor(options: { clock: Clock; log: Logger; random: Random }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#random = options.random;
  }

  listen(networkId: string, address: string): void {
    if (this.#listeners.has(networkId)) return;
    const udp = createSocket({ type: 'udp4', reuseAddr: false });
    const tcp = createServer((connection) => this.#serveTcp(networkId, connection));
    this.#listeners.set(networkId, { udp, tcp });
    udp.on('message', (message, from) => {
      if (this.#inFlight >= dnsInFlightMax) return;
      void this.#answer(networkId, from.address, message).then((answer) => { if (answer !== undefined) udp.send(answer, from.port, from.address); });
    });
    for (const server of [udp, tcp]) server.on('error', (error: Error) => this.#log.warn('the resolver of a network', { networkId, address, error: error.message }));
    udp.bind(53, address);
    tcp.listen(53, address);
    udp.unref();
    tcp.unref();
  }

  unlisten(networkId: string): void {
    const found = this.#listeners.get(networkId);
    this.#listeners.delete(networkId);
    found?.udp.close();
    found?.tcp.close();
  }

  add(endpoint: NamedEndpoint): void {
    const others = (this.#endpoints.get(endpoint.networkId) ?? []).filter((other) => other.containerId !== endpoint.containerId);
    this.#endpoints.set(endpoint.networkId, [...others, endpoint]);
  }

  /** Takes the names of a container away, on one network or on all. */
  forget(containerId: string, networkId?: string): void {
    for (const [id, endpoints] of this.#endpoints) {
      if (networkId === undefined || networkId === id) this.#endpoints.set(id, endpoints.filter((endpoint) => endpoint.containerId !== containerId));
    }
  }

  lookup(networkId: string, name: string): string[] {
    const plain = name.toLowerCase().replace(/\.$/, '');
    return (this.#endpoints.get(networkId) ?? []).filter((endpoint) => endpoint.names.some((known) => known.toLowerCase() === plain)).map((endpoint) => endpoint.ip);
  }

  /** As a container sees it: its links first, then every network that it is on, the one asked through before the others. */
  lookupFor(networkId: string, from: string, name: string): string[] {
    const asker = this.#endpointAt(networkId, from);
    const own = this.lookup(networkId, name);
    if (asker === undefined) return own;
    const plain = name.toLowerCase().replace(/\.$/, '');
    for (const id of [networkId, ...this.#endpoints.keys()]) {
      const mine = this.#endpoints.get(id)?.find((endpoint) => endpoint.containerId === asker.containerId);
      const linked = mine?.links?.find((link) => link.slice(link.indexOf(':') + 1).toLowerCase() === plain);
      const found = mine === undefined ? [] : this.lookup(id, linked === undefined ? name : linked.slice(0, linked.indexOf(':')));
      if (found.length > 0) return found;
    }
    return own;
  }

  #endpointAt(networkId: string, ip: string): NamedEndpoint | undefined { return this.#endpoints.get(networkId)?.find((endpoint) => endpoint.ip === ip); }

  /** The name of an address, for reverse look-ups. */
  reverse(networkId: string, ip: string): string | undefined {
    return (this.#endpoints.get(networkId) ?? []).find((endpoint) => endpoint.ip === ip)?.names[0];
  }

  close(): void { for (const id of [...this.#listeners.keys()]) this.unlisten(id); }

  #serveTcp(networkId: string, connection: TcpSocket): void {
    let left = Buffer.alloc(0);
    connection.on('error', () => connection.destroy());
    connection.setTimeout(dnsUpstreamTimeoutMs * 2, () => connection.destroy());
    connection.on('data', (part: Buffer) => {
      left = Buffer.concat([left, part]);
      while (left.length >= 2 && left.length >= 2 + left.readUInt16BE(0)) {
        const size = left.readUInt16BE(0);
        const message = left.subarray(2, 2 + size);
        left = left.subarray(2 + size);
        void this.#answer(networkId, connection.remoteAddress ?? '', message).then((answer) => {
          if (answer === undefined) return;
          const head = Buffer.alloc(2);
          head.writeUInt16BE(answer.length);
          connection.write(Buffer.concat([head, answer]));
        });
      }
    });
  }

  async #answer(networkId: string, from: string, message: Buffer): Promise<Buffer | undefined> {
    let query: Packet & { questions?: Question[] };
    try { query = decode(message); } catch { return undefined; }
    const question = query.questions?.[0];
    if (question === undefined || message.length > dnsMessageBytesMax) return undefined;
    const reply = (answers: Answer[], code: number): Buffer => encode({ type: 'response', id: query.id ?? 0, flags: authoritative | ((query.flags ?? 0) & 0x0100) | code, questions: [question], answers });
    const own = this.lookupFor(networkId, from, question.name);
    if (own.length > 0) {
      const shift = Math.floor(this.#random.float() * own.length);
      const ordered = [...own.slice(shift), ...own.slice(0, shift)];
      return reply(question.type === 'A' ? ordered.map((data) => ({ type: 'A', name: question.name, ttl: recordTtlSeconds, data })) : [], responseCode.noError);
    }
    const reversed = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa\.?$/i.exec(question.name);
    const named = reversed === null ? undefined : this.reverse(networkId, `${reversed[4]}.${reversed[3]}.${reversed[2]}.${reversed[1]}`);
    if (named !== undefined) return reply([{ type: 'PTR', name: question.name, ttl: recordTtlSeconds, data: named }], responseCode.noError);
    this.#inFlight++;
    try { return await this.#forward(message, this.#endpointAt(networkId, from)?.servers ?? []); } catch { return reply([], responseCode.serverFailure); } finally { this.#inFlight--; }
  }

  /** Raw bytes to each resolver in turn, of the container or else of the host; the answer's bytes come back as they are. */
  async #forward(message: Buffer, own: string[]): Promise<Buffer> {
    const servers = own.length > 0 ? own : readHostResolver().servers;
    let last: unknown = new Error('no resolver');
    for (const server of servers.filter((address) => !address.includes(':'))) {
      try { return await this.#ask(server, message); } catch (error) { last = error; }
    }
    throw last;
  }

  #ask(server: string, message: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const socket = createSocket('udp4');
      const timer = this.#clock.setTimer(dnsUpstreamTimeoutMs, () => finish(new Error('timeout')), { background: true });
      const finish = (result: Buffer | Error): void => {
        timer.cancel();
        socket.close();
        if (result instanceof Error) reject(result); else resolve(result);
      };
      socket.once('error', finish);
      socket.on('message', (answer, from) => { if (from.address === server && answer.readUInt16BE(0) === message.readUInt16BE(0)) finish(answer); });
      socket.connect(53, server, () => socket.send(message));
    });
  }
}
