/**
 * The embedded resolver of user-defined networks. A container finds it at 127.0.0.11: sockets of the engine's own
 * inside the container's network namespace, on ports that nobody chose, with two rules there that lead port 53 to them
 * (so that the container may serve port 53 itself). Who asks is known by the socket. A container on several networks is
 * answered for all of them, and its links and resolvers are its own. An engine that starts makes the sockets anew for
 * every container that runs.
 *
 * Names of containers are answered here, everything else is sent on as it came - but for a container whose networks are
 * all internal: it reaches nothing outside, and a resolver must not be its way out.
 */
import { familyOf, ipOfReverseName } from '#base/ip.ts';
import type { DnsForwarder } from '#net/dns-forwarder.ts';
import { createDnsForwarder } from '#net/dns-forwarder.ts';
import { dnsFailure, dnsFlag, encodeDnsAnswer, parseDnsQuery } from '#net/dns-message.ts';
import type { DnsRecord } from '#net/dns-message.ts';
import type { DnsListener } from '#net/dns-server.ts';
import { dnsTcpBytesMax, listenDns } from '#net/dns-server.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { openNamespaceSockets } from '#os/namespace-sockets.linux.ts';
import type { Nft } from '#os/nft.ts';
import { readHostResolver } from './etc-files.ts';
import { resolverPortTriesMax } from './limits.ts';

export const resolverAddress = '127.0.0.11';

export interface NamedEndpoint {
  containerId: string;
  networkId: string;
  networkName: string;
  addresses: string[];
  names: string[];
  /** Further names of other containers that this one alone knows, as `name:alias`. */
  links?: string[];
}
export interface Asking {
  /** Resolvers asked instead of the host's. */
  servers: string[];
  /** A network of the container leads outside. */
  forwards: boolean;
}

const recordTtlSeconds = 600;
const flags = dnsFlag.authoritative | dnsFlag.recursionAvailable;

function plainName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

export class NameServer {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #random: Random;
  readonly #nft: Nft;
  readonly #forwarder: DnsForwarder;
  readonly #doors = new Map<string, { asking: Asking; listener: DnsListener }>();
  readonly #endpoints = new Map<string, NamedEndpoint[]>();

  constructor(options: { clock: Clock; log: Logger; random: Random; nft: Nft }) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#random = options.random;
    this.#nft = options.nft;
    this.#forwarder = createDnsForwarder(options);
  }

  /**
   * Opens the resolver inside a container's namespace; what was open for it before is closed. Without rules there (an
   * old kernel) it takes port 53 itself.
   */
  async attach(containerId: string, namespace: string, asking: Asking): Promise<void> {
    await this.detach(containerId);
    const ports = Array.from(
      { length: resolverPortTriesMax },
      () => 32_768 + Math.floor(this.#random.float() * 28_000),
    );
    let sockets = openNamespaceSockets(namespace, resolverAddress, ports);
    let listener = this.#listen(containerId, sockets);
    try {
      await this.#nft.run(resolverRules(sockets.udpPort, sockets.tcpPort), namespace);
    } catch (error) {
      this.#log.warn('no rules for the resolver in a container; it takes port 53 there', {
        id: containerId,
        error: error as Error,
      });
      await listener.close();
      sockets = openNamespaceSockets(namespace, resolverAddress, [53]);
      listener = this.#listen(containerId, sockets);
    }
    this.#doors.set(containerId, { asking, listener });
    await listener.ready;
  }

  #listen(containerId: string, sockets: { udpFd: number; tcpFd: number }): DnsListener {
    const listener = listenDns(sockets, this.#clock, (message, from) =>
      this.#answer(containerId, message, from.transport),
    );
    listener.ready.catch((error: unknown) => this.#log.warn('the resolver of a container', { id: containerId, error }));
    return listener;
  }

  isAttached(containerId: string): boolean {
    return this.#doors.has(containerId);
  }

  /** Networks have come or gone. */
  change(containerId: string, asking: Asking): void {
    const door = this.#doors.get(containerId);
    if (door !== undefined) door.asking = asking;
  }

  async detach(containerId: string): Promise<void> {
    const door = this.#doors.get(containerId);
    this.#doors.delete(containerId);
    await door?.listener.close();
  }

  add(endpoint: NamedEndpoint): void {
    const others = (this.#endpoints.get(endpoint.networkId) ?? []).filter(
      (other) => other.containerId !== endpoint.containerId,
    );
    this.#endpoints.set(endpoint.networkId, [...others, endpoint]);
  }

  /** Takes the names of a container away, on one network or on all. */
  forget(containerId: string, networkId?: string): void {
    for (const [id, endpoints] of this.#endpoints) {
      if (networkId !== undefined && networkId !== id) continue;
      const left = endpoints.filter((endpoint) => endpoint.containerId !== containerId);
      if (left.length > 0) this.#endpoints.set(id, left);
      else this.#endpoints.delete(id);
    }
  }

  /**
   * Addresses as a container sees them: by its links first, then on every network that it is on; `name.network` names
   * one of them.
   */
  lookupFor(containerId: string, name: string): string[] {
    const plain = plainName(name);
    const own = [...this.#endpoints.values()].flatMap((endpoints) =>
      endpoints.filter((endpoint) => endpoint.containerId === containerId),
    );
    for (const mine of own) {
      const linked = mine.links?.find((link) => plainName(link.slice(link.indexOf(':') + 1)) === plain);
      const found = this.#named(
        mine.networkId,
        linked === undefined ? plain : plainName(linked.slice(0, linked.indexOf(':'))),
      );
      if (found.length > 0) return found;
    }
    for (const mine of own) {
      const suffix = `.${plainName(mine.networkName)}`;
      const found = plain.endsWith(suffix) ? this.#named(mine.networkId, plain.slice(0, -suffix.length)) : [];
      if (found.length > 0) return found;
    }
    return [];
  }

  #named(networkId: string, plain: string): string[] {
    return (this.#endpoints.get(networkId) ?? [])
      .filter((endpoint) => endpoint.names.some((known) => plainName(known) === plain))
      .flatMap((endpoint) => endpoint.addresses);
  }

  /** `name.network` of an address on a network that the container is on. */
  reverseFor(containerId: string, ip: string): string | undefined {
    for (const endpoints of this.#endpoints.values()) {
      if (!endpoints.some((endpoint) => endpoint.containerId === containerId)) continue;
      const found = endpoints.find((endpoint) => endpoint.addresses.includes(ip));
      if (found !== undefined) return `${found.names[0]}.${found.networkName}`;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#doors.keys()].map((id) => this.detach(id)));
  }

  async #answer(containerId: string, message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const question = parseDnsQuery(message);
    if (question === undefined) return undefined;
    if (typeof question === 'string') return dnsFailure(message, question);
    const limit = transport === 'tcp' ? dnsTcpBytesMax : question.udpBytesMax;
    const reply = (answers: DnsRecord[]): Buffer =>
      encodeDnsAnswer(question, { code: 'NOERROR', flags, answers }, limit);
    const own = this.lookupFor(containerId, question.name);
    if (own.length > 0) {
      const shift = Math.floor(this.#random.float() * own.length);
      const ordered = [...own.slice(shift), ...own.slice(0, shift)];
      const types = { IPv4: 'A', IPv6: 'AAAA' } as const;
      return reply(
        ordered.flatMap((data) => {
          const type = types[familyOf(data)!];
          return question.type === type || question.type === 'ANY'
            ? [{ type, name: question.name, ttl: recordTtlSeconds, data }]
            : [];
        }),
      );
    }
    const reversed = ipOfReverseName(question.name);
    const named = reversed === undefined ? undefined : this.reverseFor(containerId, reversed);
    if (named !== undefined) return reply([{ type: 'PTR', name: question.name, ttl: recordTtlSeconds, data: named }]);
    const asking = this.#doors.get(containerId)?.asking;
    if (asking?.forwards !== true) return dnsFailure(message, 'SERVFAIL');
    return this.#forwarder.ask(
      message,
      asking.servers.length > 0 ? asking.servers : readHostResolver().servers,
      limit,
      containerId,
    );
  }
}

/** In the container's own namespace, made whole in one transaction. */
function resolverRules(udpPort: number, tcpPort: number): string {
  return `
table ip tiphys_resolver {}
delete table ip tiphys_resolver
table ip tiphys_resolver {
  chain outgoing {
    type nat hook output priority -100; policy accept;
    ip daddr ${resolverAddress} udp dport 53 dnat to ${resolverAddress}:${udpPort}
    ip daddr ${resolverAddress} tcp dport 53 dnat to ${resolverAddress}:${tcpPort}
  }
}
`;
}
