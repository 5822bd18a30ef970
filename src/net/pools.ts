/**
 * IPv4 arithmetic, and pools of addresses and subnets. A pool is memory only: what is taken follows from the records
 * that name it (a container's endpoints, a sandbox, a network), which are written before the address is used and read
 * back into the pool at start. So the truth is in one place, and a half-made thing whose record is missing holds
 * nothing.
 */
import { ApiError } from '#base/errors.ts';

export function ipToNumber(ip: string): number {
  const parts = ip.split('.').map(Number);
  if (parts.length !== 4 || parts.some((part) => !Number.isInteger(part) || part < 0 || part > 255))
    throw new ApiError('BadRequest', `invalid IPv4 address: ${ip}`);
  return ((parts[0]! << 24) | (parts[1]! << 16) | (parts[2]! << 8) | parts[3]!) >>> 0;
}

export function numberToIp(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.');
}

export interface Subnet {
  base: number;
  length: number;
  size: number;
}

/** `10.1.0.0/16`; host bits are cleared. */
export function parseSubnet(text: string): Subnet {
  const match = /^([\d.]+)\/(\d{1,2})$/.exec(text);
  const length = Number(match?.[2]);
  if (match === null || length > 32) throw new ApiError('BadRequest', `invalid CIDR address: ${text}`);
  const size = 2 ** (32 - length);
  const ip = ipToNumber(match[1]!);
  return { base: ip - (ip % size), length, size };
}

export function formatSubnet(subnet: Subnet): string {
  return `${numberToIp(subnet.base)}/${subnet.length}`;
}
export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.base < b.base + b.size && b.base < a.base + a.size;
}
export function contains(subnet: Subnet, ip: string): boolean {
  const value = ipToNumber(ip);
  return value >= subnet.base && value < subnet.base + subnet.size;
}

export class AddressPool {
  readonly subnet: Subnet;
  readonly #from: number;
  readonly #to: number;
  readonly #taken = new Set<number>();
  readonly #rotate: boolean;
  #next: number;

  /** `range` limits what is given out unasked; `rotate` gives addresses in turn, so that one is not reused at once. */
  constructor(subnet: string, options: { range?: string; rotate?: boolean } = {}) {
    this.subnet = parseSubnet(subnet);
    const range = options.range === undefined ? this.subnet : parseSubnet(options.range);
    const whole = range.size === this.subnet.size;
    this.#from = range.base + (whole && range.size > 2 ? 1 : 0);
    this.#to = range.base + range.size - (whole && range.size > 2 ? 2 : 1);
    this.#rotate = options.rotate === true;
    this.#next = this.#from;
  }

  get usedCount(): number {
    return this.#taken.size;
  }

  /** Takes an address that a record names, or that the user asked for. False when it is taken. */
  take(ip: string): boolean {
    const value = ipToNumber(ip);
    if (this.#taken.has(value)) return false;
    this.#taken.add(value);
    return true;
  }

  allocate(): string {
    for (let at = this.#rotate ? this.#next : this.#from, tries = this.#to - this.#from; tries >= 0; tries--, at++) {
      if (at > this.#to) at = this.#from;
      if (this.#taken.has(at)) continue;
      this.#taken.add(at);
      this.#next = at + 1;
      return numberToIp(at);
    }
    throw new ApiError('InternalError', "no available IPv4 addresses on this network's address pools");
  }

  release(ip: string): void {
    this.#taken.delete(ipToNumber(ip));
  }
}

/** Docker's default address pools: 172.17.0.0/16 … 172.31.0.0/16, then /20s of 192.168.0.0/16. */
const defaultSubnetPools = [
  { base: '172.17.0.0/16', length: 16 },
  { base: '172.18.0.0/16', length: 16 },
  { base: '172.19.0.0/16', length: 16 },
  { base: '172.20.0.0/14', length: 16 },
  { base: '172.24.0.0/14', length: 16 },
  { base: '172.28.0.0/14', length: 16 },
  { base: '192.168.0.0/16', length: 20 },
];

/** The first subnet of the pools that overlaps nothing in use. */
export function findFreeSubnet(used: Subnet[], pools: { base: string; length: number }[] = defaultSubnetPools): string {
  for (const pool of pools) {
    const whole = parseSubnet(pool.base);
    const size = 2 ** (32 - pool.length);
    for (let base = whole.base; base < whole.base + whole.size; base += size) {
      const candidate = { base, length: pool.length, size };
      if (!used.some((other) => overlaps(candidate, other))) return formatSubnet(candidate);
    }
  }
  throw new ApiError('InternalError', 'all predefined address pools have been fully subnetted');
}
