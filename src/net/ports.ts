/**
 * Published ports: which are taken, and by whom. Each is held by a bound socket while the platform lives, so that
 * another program of the host learns at once that the port is in use, as it would of dockerd; the traffic itself never
 * comes here, it is turned by the rules.
 */
import { ApiError } from '#base/errors.ts';
import { isIpv4 } from '#base/ip.ts';
import type { PortHolder } from '#os/ports.ts';
import { portSearchTriesMax } from './limits.ts';
import type { PublishedPort } from './rules.ts';

export interface WantedPort {
  hostIp: string;
  /** 0: any free one. */ hostPort: number;
  /** Last of a range to choose from. */ hostPortEnd?: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  port: number;
}

export class Ports {
  readonly #holder: PortHolder;
  readonly #held = new Map<string, { port: PublishedPort; release: () => void }>();
  #nextDynamic: number;
  readonly #dynamicFrom: number;
  readonly #dynamicTo: number;

  constructor(holder: PortHolder) {
    this.#holder = holder;
    [this.#dynamicFrom, this.#dynamicTo] = holder.dynamicRange();
    this.#nextDynamic = this.#dynamicFrom;
  }

  /** Takes a host port for a container's; throws as docker words it when it is taken. */
  reserve(wanted: WantedPort, ip: string): PublishedPort {
    const hostIp = wanted.hostIp === '' ? '0.0.0.0' : wanted.hostIp;
    const make = (hostPort: number): PublishedPort => ({
      hostIp,
      hostPort,
      protocol: wanted.protocol,
      ip,
      port: wanted.port,
    });
    if (wanted.hostPort !== 0 && (wanted.hostPortEnd ?? wanted.hostPort) === wanted.hostPort)
      return this.#take(make(wanted.hostPort));
    const from = wanted.hostPort === 0 ? this.#dynamicFrom : wanted.hostPort;
    const to = wanted.hostPort === 0 ? this.#dynamicTo : wanted.hostPortEnd!;
    let at = wanted.hostPort === 0 ? this.#nextDynamic : from;
    for (let tries = Math.min(portSearchTriesMax, to - from + 1); tries > 0; tries--, at++) {
      if (at > to) at = from;
      try {
        const port = this.#take(make(at));
        if (wanted.hostPort === 0) this.#nextDynamic = at + 1;
        return port;
      } catch (error) {
        if (!(error instanceof ApiError) || error.code === 400) throw error;
      }
    }
    throw new ApiError(
      'InternalError',
      `Bind for ${hostIp}:${wanted.hostPort === 0 ? '0' : `${from}-${to}`} failed: all ports are allocated`,
    );
  }

  /**
   * Takes again what a running container already has, after a restart of the platform. The rules stand even where the
   * socket cannot.
   */
  adopt(port: PublishedPort): void {
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

  #take(port: PublishedPort): PublishedPort {
    // Addresses become words of rules: what is none must not get there, whoever sent it.
    if (!isIpv4(port.hostIp))
      throw new ApiError(
        'BadRequest',
        `invalid host address ${JSON.stringify(port.hostIp.slice(0, 64))}: it must be an IPv4 address`,
      );
    if (this.#isTaken(port))
      throw new ApiError('InternalError', `Bind for ${port.hostIp}:${port.hostPort} failed: port is already allocated`);
    const held = this.#holder.hold(port.hostIp, port.hostPort, port.protocol);
    if ('code' in held) {
      if (held.code === 'EADDRNOTAVAIL')
        throw new ApiError(
          'InternalError',
          `failed to bind host port ${port.hostIp}:${port.hostPort}/${port.protocol}: cannot assign requested address`,
        );
      throw new ApiError(
        'InternalError',
        `failed to bind host port ${port.hostIp}:${port.hostPort}/${port.protocol}: ${held.code === 'EADDRINUSE' ? 'address already in use' : held.code}`,
      );
    }
    this.#held.set(key(port), { port, release: held.release });
    return port;
  }

  #isTaken(wanted: PublishedPort): boolean {
    for (const { port } of this.#held.values()) {
      if (
        port.protocol === wanted.protocol &&
        port.hostPort === wanted.hostPort &&
        (port.hostIp === wanted.hostIp || port.hostIp === '0.0.0.0' || wanted.hostIp === '0.0.0.0')
      )
        return true;
    }
    return false;
  }
}

function key(port: PublishedPort): string {
  return `${port.protocol} ${port.hostIp} ${port.hostPort}`;
}
