/**
 * Published ports: which are taken, and by whom. Each is held by a bound socket while the platform lives, so that
 * another program of the host learns at once that the port is in use, as it would of dockerd; the traffic itself is
 * turned by the rules and never comes here, but for what they cannot turn (port-relay.ts).
 */
import { ApiError } from '#base/errors.ts';
import { familyOf, isIp, joinHostPort, type IpFamily } from '#base/ip.ts';
import type { HeldPort, PortHolder } from '#os/ports.ts';
import { portSearchTriesMax } from './limits.ts';
import type { Relay, RelayTarget } from './port-relay.ts';
import { isAnyAddress, type PublishedPort } from './published-port.ts';

export interface WantedPort {
  /** Addresses of the host, each with the container's that it leads to. All get the same port. */
  hosts: { hostIp: string; ip: string }[];
  /** 0: any free one. */ hostPort: number;
  /** Last of a range to choose from. */ hostPortEnd?: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  port: number;
}

export class Ports {
  readonly #holder: PortHolder;
  readonly #relay: ((fd: number, target: RelayTarget) => Relay) | undefined;
  readonly #relayed: readonly IpFamily[];
  readonly #held = new Map<string, { port: PublishedPort; release: () => void }>();
  #nextDynamic: number;
  readonly #dynamicFrom: number;
  readonly #dynamicTo: number;
  readonly hasIpv6: boolean;

  /** Without `relay` there is only what the rules translate; of `relayed` families they translate not all. */
  constructor(
    holder: PortHolder,
    relay?: (fd: number, target: RelayTarget) => Relay,
    relayed: readonly IpFamily[] = ['IPv6'],
  ) {
    this.#holder = holder;
    this.#relay = relay;
    this.#relayed = relayed;
    [this.#dynamicFrom, this.#dynamicTo] = holder.dynamicRange();
    this.#nextDynamic = this.#dynamicFrom;
    this.hasIpv6 = holder.hasIpv6();
  }

  /** Whether a port of version 6 may lead to an address of version 4. */
  get relays(): boolean {
    return this.hasIpv6 && this.#relay !== undefined;
  }

  /** Takes a host port for a container's, on all the addresses; throws as docker words it when it is taken. */
  reserve(wanted: WantedPort): PublishedPort[] {
    if (wanted.hosts.length === 0) return [];
    if (wanted.hostPort !== 0 && (wanted.hostPortEnd ?? wanted.hostPort) === wanted.hostPort)
      return this.#takeAll(wanted, wanted.hostPort);
    const from = wanted.hostPort === 0 ? this.#dynamicFrom : wanted.hostPort;
    const to = wanted.hostPort === 0 ? this.#dynamicTo : wanted.hostPortEnd!;
    let at = wanted.hostPort === 0 ? this.#nextDynamic : from;
    for (let tries = Math.min(portSearchTriesMax, to - from + 1); tries > 0; tries--, at++) {
      if (at > to) at = from;
      try {
        const ports = this.#takeAll(wanted, at);
        if (wanted.hostPort === 0) this.#nextDynamic = at + 1;
        return ports;
      } catch (error) {
        if (!(error instanceof ApiError) || error.code === 400) throw error;
      }
    }
    throw new ApiError(
      'InternalError',
      `Bind for ${wanted.hosts.map(({ hostIp }) => hostIp).join()}:${wanted.hostPort === 0 ? '0' : `${from}-${to}`} failed: all ports are allocated`,
    );
  }

  /**
   * Takes again what a running container already has, after a restart of the platform. The rules stand even where the
   * socket cannot.
   */
  adopt(port: PublishedPort): void {
    if (port.hostPort === 0) return;
    try {
      this.#take(port);
    } catch {
      this.#held.set(key(port), { port, release: () => undefined });
    }
  }

  release(port: PublishedPort): void {
    const held = this.#held.get(key(port));
    if (held === undefined || held.port.ip !== port.ip) return;
    this.#held.delete(key(port));
    held.release();
  }

  close(): void {
    for (const held of this.#held.values()) held.release();
    this.#held.clear();
  }

  #takeAll(wanted: WantedPort, hostPort: number): PublishedPort[] {
    const taken: PublishedPort[] = [];
    try {
      for (const { hostIp, ip } of wanted.hosts)
        taken.push(this.#take({ hostIp, hostPort, protocol: wanted.protocol, ip, port: wanted.port }));
      return taken;
    } catch (error) {
      for (const port of taken) this.release(port);
      throw error;
    }
  }

  #take(port: PublishedPort): PublishedPort {
    // Addresses become words of rules: what is none must not get there, whoever sent it.
    if (!isIp(port.hostIp))
      throw new ApiError(
        'BadRequest',
        `invalid host address ${JSON.stringify(port.hostIp.slice(0, 64))}: it must be an IP address`,
      );
    if (this.#isTaken(port))
      throw new ApiError('InternalError', `Bind for ${port.hostIp}:${port.hostPort} failed: port is already allocated`);
    const held = this.#holder.hold(port.hostIp, port.hostPort, port.protocol);
    if ('code' in held)
      throw new ApiError(
        'InternalError',
        `failed to bind host port ${joinHostPort(port.hostIp, port.hostPort)}/${port.protocol}: ${held.reason ?? bindFailures[held.code] ?? held.code}`,
      );
    this.#held.set(key(port), { port, release: this.#serve(port, held) });
    return port;
  }

  #serve({ hostIp, ip, port, protocol }: PublishedPort, held: HeldPort): () => void {
    const near = familyOf(hostIp) ?? 'IPv4';
    if (this.#relay === undefined || held.fd === undefined || protocol === 'sctp' || !this.#relayed.includes(near))
      return () => held.release();
    const relay = this.#relay(held.fd, { ip, port, protocol, near });
    return () => relay.close();
  }

  #isTaken(wanted: PublishedPort): boolean {
    for (const { port } of this.#held.values()) {
      if (
        port.protocol === wanted.protocol &&
        port.hostPort === wanted.hostPort &&
        familyOf(port.hostIp) === familyOf(wanted.hostIp) &&
        (port.hostIp === wanted.hostIp || isAnyAddress(port.hostIp) || isAnyAddress(wanted.hostIp))
      )
        return true;
    }
    return false;
  }
}

const bindFailures: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'cannot assign requested address',
  EADDRINUSE: 'address already in use',
  EPROTONOSUPPORT: 'protocol not supported',
};

function key(port: PublishedPort): string {
  return `${port.protocol} ${port.hostIp} ${port.hostPort}`;
}
