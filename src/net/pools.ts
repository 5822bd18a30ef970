/**
 * Pools of addresses and subnets. A pool is memory only: what is taken follows from the records that name it (a
 * container's endpoints, a sandbox, a network), which are written before the address is used and read back into the
 * pool at start. So the truth is in one place, and a half-made thing whose record is missing holds nothing.
 */
import { ApiError } from '#base/errors.ts';
import { formatIp, formatSubnet, ipOf, overlaps, sizeOf, subnetOf, type Subnet } from '#base/ip.ts';

export class AddressPool {
  readonly subnet: Subnet;
  readonly #from: bigint;
  readonly #to: bigint;
  readonly #taken = new Set<bigint>();
  readonly #rotate: boolean;
  #next: bigint;

  /** `range` limits what is given out unasked; `rotate` gives addresses in turn, so that one is not reused at once. */
  constructor(subnet: string, options: { range?: string; rotate?: boolean } = {}) {
    this.subnet = subnetOf(subnet);
    const range = options.range === undefined ? this.subnet : subnetOf(options.range);
    const [first, last] = [this.subnet.base, this.subnet.base + sizeOf(this.subnet) - 1n];
    const [from, to] = [range.base, range.base + sizeOf(range) - 1n];
    // The first address names the subnet; the last one is the broadcast address, which IPv6 does not have.
    const hasRoom = last - first > 1n;
    this.#from = hasRoom && from === first ? from + 1n : from;
    this.#to = hasRoom && to === last && range.family === 'IPv4' ? to - 1n : to;
    this.#rotate = options.rotate === true;
    this.#next = this.#from;
  }

  get usedCount(): number {
    return this.#taken.size;
  }

  /**
   * Those that nobody can be given: taken, or the subnet's own (its name, and the broadcast address); and those of the
   * range that are free.
   */
  usage(): { used: bigint; free: bigint } {
    const { base, family } = this.subnet;
    const size = sizeOf(this.subnet);
    const own = size <= 2n ? [] : family === 'IPv4' ? [base, base + size - 1n] : [base];
    const taken = new Set([...this.#taken, ...own]);
    const within = [...taken].filter((value) => value >= this.#from && value <= this.#to).length;
    return { used: BigInt(taken.size), free: this.#to - this.#from + 1n - BigInt(within) };
  }

  /** Every address of the range is taken. */
  get isFull(): boolean {
    if (BigInt(this.#taken.size) <= this.#to - this.#from) return false;
    for (let at = this.#from; at <= this.#to; at++) if (!this.#taken.has(at)) return false;
    return true;
  }

  /** Takes an address that a record names, or that the user asked for. False when it is taken. */
  take(ip: string): boolean {
    const { value } = ipOf(ip);
    if (this.#taken.has(value)) return false;
    this.#taken.add(value);
    return true;
  }

  allocate(): string {
    const { family } = this.subnet;
    for (let at = this.#rotate ? this.#next : this.#from, tries = this.#to - this.#from; tries >= 0n; tries--, at++) {
      if (at > this.#to) at = this.#from;
      if (this.#taken.has(at)) continue;
      this.#taken.add(at);
      this.#next = at + 1n;
      return formatIp({ family, value: at });
    }
    throw new ApiError('InternalError', `no available ${family} addresses on this network's address pools`);
  }

  release(ip: string): void {
    this.#taken.delete(ipOf(ip).value);
  }
}

/** `base` is cut into subnets of this prefix length. */
export interface SubnetPool {
  base: string;
  length: number;
}

/** Docker's default address pools: 172.17.0.0/16 … 172.31.0.0/16, then /20s of 192.168.0.0/16. */
export const defaultSubnetPools: readonly SubnetPool[] = [
  { base: '172.17.0.0/16', length: 16 },
  { base: '172.18.0.0/16', length: 16 },
  { base: '172.19.0.0/16', length: 16 },
  { base: '172.20.0.0/14', length: 16 },
  { base: '172.24.0.0/14', length: 16 },
  { base: '172.28.0.0/14', length: 16 },
  { base: '192.168.0.0/16', length: 20 },
];

/** The first subnet of the pools that overlaps nothing in use. */
export function findFreeSubnet(used: readonly Subnet[], pools: readonly SubnetPool[] = defaultSubnetPools): string {
  for (const { base, length } of pools) {
    const whole = subnetOf(base);
    const size = sizeOf({ ...whole, length });
    for (let at = whole.base; at < whole.base + sizeOf(whole); at += size) {
      const candidate = { family: whole.family, base: at, length };
      if (!used.some((other) => overlaps(candidate, other))) return formatSubnet(candidate);
    }
  }
  throw new ApiError('InternalError', 'all predefined address pools have been fully subnetted');
}
