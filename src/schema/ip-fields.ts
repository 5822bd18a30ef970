/**
 * IP addresses and networks as fields hold them, with what an API server says of wrong ones (KEP 4858: since Kubernetes
 * 1.36 strictly). They need not be in canonical form: fields that came before that rule never asked for it.
 */
import {
  formatIp,
  formatSubnet,
  holds,
  isMapped,
  maskIp,
  parseCidr,
  parseIp,
  subnetOf,
  type IpAddress,
} from '#base/ip.ts';

const ipMessage = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const cidrMessage = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';

/** Without the zeros that some readers take for a sign of octal digits, and that older API servers overlooked. */
const withoutZeros = (text: string): string =>
  text.includes('.') ? text.replace(/(?<=^|[.:/])0+(?=\d)/g, '') : text.replace(/(?<=\/)0+(?=\d)/, '');

/** What is wrong with an address; '' when nothing is. */
export function ipProblem(text: unknown): string {
  return problemOf(text, parseIp(text));
}

function problemOf(text: unknown, address: IpAddress | undefined): string {
  if (address !== undefined) return isMapped(address) ? 'must not be an IPv4-mapped IPv6 address' : '';
  return typeof text === 'string' && parseIp(withoutZeros(text)) !== undefined ? 'must not have leading 0s' : ipMessage;
}

/** As `ipProblem`, for fields that hold addresses as they are printed. */
export function canonicalIpProblem(text: string): string {
  const address = parseIp(text);
  const problem = problemOf(text, address);
  return address === undefined || problem !== '' ? problem : formProblem(text, formatIp(address));
}

/** As `cidrProblem`, for fields that hold networks as they are printed. */
export function canonicalCidrProblem(text: string): string {
  const [cidr, problem] = [parseCidr(text), cidrProblem(text)];
  return cidr === undefined || problem !== ''
    ? problem
    : formProblem(text, formatSubnet(maskIp(cidr.address, cidr.length)));
}

function formProblem(text: string, canonical: string): string {
  return text === canonical ? '' : `must be in canonical form (${JSON.stringify(canonical)})`;
}

/** What is wrong with the name of a network, like `10.0.0.0/8`; '' when nothing is. */
export function cidrProblem(text: unknown): string {
  const cidr = parseCidr(text);
  if (cidr === undefined)
    return typeof text === 'string' && parseCidr(withoutZeros(text)) !== undefined
      ? 'must not have leading 0s in IP or prefix length'
      : cidrMessage;
  if (isMapped(cidr.address)) return 'must not have an IPv4-mapped IPv6 address';
  return maskIp(cidr.address, cidr.length).base === cidr.address.value
    ? ''
    : 'must not have bits set beyond the prefix length';
}

const special = [
  { problem: (text: string) => `may not be unspecified (${text})`, networks: ['0.0.0.0/32', '::/128'] },
  {
    problem: () => 'may not be in the loopback range (127.0.0.0/8, ::1/128)',
    networks: ['127.0.0.0/8', '::1/128'],
  },
  {
    problem: () => 'may not be in the link-local range (169.254.0.0/16, fe80::/10)',
    networks: ['169.254.0.0/16', 'fe80::/10'],
  },
  {
    problem: () => 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)',
    networks: ['224.0.0.0/24', 'ff02::/16'],
  },
].map(({ problem, networks }) => ({ problem, subnets: networks.map(subnetOf) }));

/** What keeps a text from being an address that traffic can be sent to; '' when nothing does. */
export function endpointIpProblem(text: unknown): string {
  const address = parseIp(text);
  const wrong = problemOf(text, address);
  if (address === undefined || wrong !== '') return wrong;
  return special.find(({ subnets }) => subnets.some((subnet) => holds(subnet, address)))?.problem(String(text)) ?? '';
}
