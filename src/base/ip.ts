/**
 * IP addresses and subnets of both families: read, written, masked, counted and compared here and nowhere else.
 *
 * What is an address is what Go's `netip.ParseAddr` takes, without zones: four decimal parts without leading zeros, or
 * IPv6 in any of its forms. What is written is its canonical form (RFC 5952; an IPv4-mapped address with its dotted
 * end, as `netip.Addr.String`). An address is a number of 32 or 128 bits, so a `bigint`: what counts with it knows
 * both families. Addresses of two families are never equal, and no subnet of one holds any of the other; who wants a
 * mapped address to be what it maps says so (`unmapIp`).
 *
 * `ip-address` reads and writes the texts. It also takes zones, prefixes and port brackets, which are refused before.
 */
import { Address4, Address6 } from 'ip-address';
import { ApiError } from './errors.ts';
import { ipCharsMax } from './limits.ts';

export type IpFamily = 'IPv4' | 'IPv6';

export const ipFamilies: readonly IpFamily[] = ['IPv4', 'IPv6'];

export interface IpAddress {
  readonly family: IpFamily;
  readonly value: bigint;
}

/** All addresses that share the first `length` bits of `base`, whose other bits are zero. */
export interface Subnet {
  readonly family: IpFamily;
  readonly base: bigint;
  readonly length: number;
}

const bitsOf: Readonly<Record<IpFamily, number>> = { IPv4: 32, IPv6: 128 };
/** `::ffff:0:0/96`. */
const mappedPrefix = 0xffffn;

/** The address of a text; undefined for anything else. */
export function parseIp(text: unknown): IpAddress | undefined {
  if (typeof text !== 'string' || text.length > ipCharsMax || !/^[0-9a-fA-F:.]+$/.test(text)) return undefined;
  try {
    return text.includes(':')
      ? { family: 'IPv6', value: new Address6(text).bigInt() }
      : { family: 'IPv4', value: new Address4(text).bigInt() };
  } catch {
    // Whatever the library says of it: it is no address.
    return undefined;
  }
}

/** The address of a text that somebody gave. Throws BadRequest. */
export function ipOf(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) throw new ApiError('BadRequest', `invalid IP address: ${text.slice(0, 64)}`);
  return address;
}

export function formatIp({ family, value }: IpAddress): string {
  if (family === 'IPv4') return Address4.fromBigInt(value).correctForm();
  return value >> 32n === mappedPrefix
    ? `::ffff:${Address4.fromBigInt(value & 0xffff_ffffn).correctForm()}`
    : Address6.fromBigInt(value).correctForm();
}

export function isIp(text: unknown): boolean {
  return parseIp(text) !== undefined;
}

export function isIpv4(text: unknown): boolean {
  return parseIp(text)?.family === 'IPv4';
}

/** Of an address, with or without a zone (`fe80::1%eth0`); undefined for anything else. */
export function familyOf(text: string): IpFamily | undefined {
  return parseIp(text.split('%', 1)[0])?.family;
}

export function isMapped({ family, value }: IpAddress): boolean {
  return family === 'IPv6' && value >> 32n === mappedPrefix;
}

/** `::ffff:10.0.0.1` as `10.0.0.1`; any other address as it is. */
export function unmapIp(address: IpAddress): IpAddress {
  return isMapped(address) ? { family: 'IPv4', value: address.value & 0xffff_ffffn } : address;
}

/** `10.0.0.1:80`, `[fd00::1]:80`. */
export function joinHostPort(host: string, port: number | string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The 4 or 16 bytes of an address, first byte first. Throws BadRequest for a text that is none. */
export function ipBytes(text: string): Uint8Array {
  const { family, value } = ipOf(text);
  const bytes = new Uint8Array(bitsOf[family] / 8);
  let rest = value;
  for (let at = bytes.length - 1; at >= 0; at--, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
}

/** The text of 4 or 16 bytes. Throws RangeError for any other number of them. */
export function ipOfBytes(bytes: Uint8Array): string {
  if (bytes.length !== 4 && bytes.length !== 16) throw new RangeError(`no address has ${bytes.length} bytes`);
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return formatIp({ family: bytes.length === 4 ? 'IPv4' : 'IPv6', value });
}

/** `4.3.2.1.in-addr.arpa` as `1.2.3.4`, and 32 digits below `ip6.arpa` as the address of version 6 (RFC 1035, 3596). */
export function ipOfReverseName(name: string): string | undefined {
  const [, labels, zone] = /^(.*)\.(in-addr|ip6)\.arpa\.?$/i.exec(name) ?? [];
  if (labels === undefined || zone === undefined) return undefined;
  const parts = labels.split('.').reverse();
  const isV4 = zone.toLowerCase() === 'in-addr';
  if (!isV4 && (parts.length !== 32 || parts.some((part) => part.length !== 1))) return undefined;
  const address = parseIp(isV4 ? parts.join('.') : (parts.join('').match(/.{4}/g) ?? []).join(':'));
  return address === undefined || (address.family === 'IPv4') !== isV4 ? undefined : formatIp(address);
}

/** `10.1.2.3/16`, its host bits kept, and no leading zeros; undefined for anything else. */
export function parseCidr(text: unknown): { address: IpAddress; length: number } | undefined {
  const [, ip, length] = typeof text === 'string' ? (/^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text) ?? []) : [];
  const address = parseIp(ip);
  return address === undefined || Number(length) > bitsOf[address.family]
    ? undefined
    : { address, length: Number(length) };
}

/** The subnet that an address lies in: its bits after the first `length` are cleared. */
export function maskIp({ family, value }: IpAddress, length: number): Subnet {
  const hostBits = BigInt(bitsOf[family] - length);
  return { family, base: (value >> hostBits) << hostBits, length };
}

/** `10.1.2.3/16` as 10.1.0.0/16. Throws BadRequest, in the words of Go's `net.ParseCIDR`. */
export function subnetOf(text: string): Subnet {
  const subnet = parseSubnet(text);
  if (subnet === undefined) throw new ApiError('BadRequest', `invalid CIDR address: ${text.slice(0, 64)}`);
  return subnet;
}

/** `10.1.2.3/16` as 10.1.0.0/16; undefined for anything that is no subnet. */
export function parseSubnet(text: unknown): Subnet | undefined {
  const cidr = parseCidr(text);
  return cidr === undefined ? undefined : maskIp(cidr.address, cidr.length);
}

export function formatSubnet({ family, base, length }: Subnet): string {
  return `${formatIp({ family, value: base })}/${length}`;
}

/** How many addresses it has. */
export function sizeOf({ family, length }: Subnet): bigint {
  return 1n << BigInt(bitsOf[family] - length);
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.family === b.family && a.base < b.base + sizeOf(b) && b.base < a.base + sizeOf(a);
}

/** Whether every address of `inner` is one of `outer`: true for the same subnet. */
export function containsSubnet(outer: Subnet, inner: Subnet): boolean {
  return outer.length <= inner.length && overlaps(outer, inner);
}

/** False for a text that is no address. */
export function contains(subnet: Subnet, text: string): boolean {
  const address = parseIp(text);
  return address !== undefined && holds(subnet, address);
}

export function holds(subnet: Subnet, { family, value }: IpAddress): boolean {
  return family === subnet.family && value >= subnet.base && value < subnet.base + sizeOf(subnet);
}

/** The address so many after the first; the caller sees to it that there is one. */
export function addressAt({ family, base }: Subnet, offset: number | bigint): string {
  return formatIp({ family, value: base + BigInt(offset) });
}

/** The last address: of an IPv4 subnet, its broadcast address. */
export function lastAddress(subnet: Subnet): string {
  return addressAt(subnet, sizeOf(subnet) - 1n);
}

const loopback = ['127.0.0.0/8', '::1/128'].map(subnetOf);

/** Whether only the host itself is behind it; sockets of version 6 name callers of version 4 by mapped addresses. */
export function isLoopback(text: string): boolean {
  const address = parseIp(text);
  return address !== undefined && loopback.some((subnet) => holds(subnet, unmapIp(address)));
}
