/** Addresses that a user gives for load balancers: `192.0.2.200-192.0.2.220`, `198.51.100.0/28`, `192.0.2.7`. */
import { formatIp, lastAddress, parseIp, parseSubnet, addressAt } from './ip.ts';

interface Range {
  first: bigint;
  last: bigint;
}

export class AddressPool {
  readonly #ranges: readonly Range[];
  readonly text: string;

  constructor(text: string, ranges: readonly Range[]) {
    this.text = text;
    this.#ranges = ranges;
  }

  has(address: string): boolean {
    const ip = parseIp(address);
    return ip?.family === 'IPv4' && this.#ranges.some(({ first, last }) => ip.value >= first && ip.value <= last);
  }

  /** The lowest address that fits; undefined where none does. `isFree` is asked about each before. */
  find(isFree: (address: string) => boolean): string | undefined {
    for (const { first, last } of this.#ranges)
      for (let value = first; value <= last; value++) {
        const address = formatIp({ family: 'IPv4', value });
        if (isFree(address)) return address;
      }
    return undefined;
  }
}

/** Of IPv4, separated by commas; undefined for anything else, and for none. */
export function parseAddressPool(text: string | undefined): AddressPool | undefined {
  const parts = (text ?? '').split(',').map((part) => rangeOf(part.trim()));
  const ranges = parts.filter((range) => range !== undefined);
  return text === undefined || ranges.length !== parts.length ? undefined : new AddressPool(text, ranges);
}

function rangeOf(text: string): Range | undefined {
  const subnet = parseSubnet(text);
  const [from, to = from, ...more] =
    subnet === undefined ? text.split('-') : [addressAt(subnet, 0), lastAddress(subnet)];
  const [first, last] = [parseIp(from), parseIp(to)];
  const isRange = first?.family === 'IPv4' && last?.family === 'IPv4' && first.value <= last.value && more.length === 0;
  return isRange ? { first: first.value, last: last.value } : undefined;
}
