/** IP addresses and networks as fields hold them, with what an API server says of wrong ones. */
import { BlockList, isIP } from 'node:net';

export const ipMessage = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
export const cidrMessage = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';

/** An address without zone, and without leading zeros. */
export function isIp(text: unknown): text is string {
  return typeof text === 'string' && !text.includes('%') && isIP(text) !== 0;
}

export const familyOf = (ip: string): 'ipv4' | 'ipv6' => (ip.includes(':') ? 'ipv6' : 'ipv4');

export interface Network {
  address: string;
  prefix: number;
  family: 'ipv4' | 'ipv6';
}

/** `10.0.0.0/8`; undefined for anything else. */
export function parseNetwork(text: unknown): Network | undefined {
  const match = typeof text === 'string' ? /^([^/]+)\/(\d{1,3})$/.exec(text) : null;
  if (match === null || !isIp(match[1]) || String(Number(match[2])) !== match[2]) return undefined;
  const network: Network = { address: match[1], prefix: Number(match[2]), family: familyOf(match[1]) };
  return network.prefix <= (network.family === 'ipv4' ? 32 : 128) ? network : undefined;
}

/** Whether `inner` lies in `outer` and is smaller. */
export function isWithin(inner: Network, outer: Network): boolean {
  if (inner.family !== outer.family || inner.prefix <= outer.prefix) return false;
  const list = new BlockList();
  list.addSubnet(outer.address, outer.prefix, outer.family);
  return list.check(inner.address, inner.family);
}

const special: [string, [string, number][]][] = [
  [
    'may not be unspecified (0.0.0.0 or ::)',
    [
      ['0.0.0.0', 32],
      ['::', 128],
    ],
  ],
  [
    'may not be in the loopback range (127.0.0.0/8, ::1/128)',
    [
      ['127.0.0.0', 8],
      ['::1', 128],
    ],
  ],
  [
    'may not be in the link-local range (169.254.0.0/16, fe80::/10)',
    [
      ['169.254.0.0', 16],
      ['fe80::', 10],
    ],
  ],
  [
    'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)',
    [
      ['224.0.0.0', 24],
      ['ff02::', 16],
    ],
  ],
];
const lists = special.map(([message, networks]) => {
  const list = new BlockList();
  for (const [address, prefix] of networks) list.addSubnet(address, prefix, familyOf(address));
  return { message, list };
});

/**
 * What keeps an address from being one that traffic can be sent to; '' when nothing does. Mapped IPv4 addresses are
 * what they map.
 */
export function specialIpProblem(ip: string): string {
  return lists.find(({ list }) => list.check(ip, familyOf(ip)))?.message ?? '';
}
