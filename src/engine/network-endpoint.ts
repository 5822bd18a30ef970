/**
 * A container's place on a network: what may be asked for it, and which of several networks is the way out. Pure.
 * Source: moby 28, `validateEndpointSettings`, `Endpoint.Less`, `selectGatewayEndpoint`.
 */
import { ApiError } from '#base/errors.ts';
import { contains, parseIp, subnetOf, type IpFamily, ipFamilies } from '#base/ip.ts';
import type { AttachedNetwork, EndpointRecord } from './container-record.ts';
import type { NetworkAttachment } from './engine.ts';
import { isLinkName } from './network-options.ts';
import { addressesOf, blocksOf, leadsOut, isUserDefined } from './network-record.ts';
import type { NetworkRecord } from './network-record.ts';

const linkNameOption = 'com.docker.network.endpoint.ifname';
const sysctlsOption = 'com.docker.network.endpoint.sysctls';

export function attachedNetwork(networkId: string, attachment: NetworkAttachment): AttachedNetwork {
  const { network: _, ...settings } = attachment;
  return { networkId, ...settings };
}

/** Throws BadRequest with every fault. `network` is absent while there is none of that name. */
export function checkEndpointSettings(
  name: string,
  network: NetworkRecord | undefined,
  wanted: Omit<NetworkAttachment, 'network'>,
  /** What the error begins with. */
  where = '',
): void {
  const faults: string[] = [];
  if (!isUserDefined({ name })) {
    if (wanted.ip !== undefined || wanted.ip6 !== undefined)
      faults.push('user specified IP address is supported on user defined networks only');
    if (wanted.aliases.length > 0)
      faults.push('network-scoped alias is supported only for containers in user defined networks');
  }
  const addresses: [IpFamily, string | undefined][] = [
    ['IPv4', wanted.ip],
    ['IPv6', wanted.ip6],
  ];
  for (const [family, ip] of addresses)
    if (ip !== undefined && !isUsable(ip, family)) faults.push(`invalid ${family} address: ${ip}`);
  for (const ip of wanted.linkLocalIps ?? []) if (!isUsable(ip)) faults.push(`invalid link-local IP address: ${ip}`);
  if (network !== undefined)
    for (const [family, ip] of addresses) if (ip !== undefined) faults.push(...rangeFaults(network, family, ip));
  for (const setting of sysctlTexts(wanted)) if (parseSysctl(setting) === undefined) faults.push(sysctlFault(setting));
  const link = wanted.options?.[linkNameOption] ?? '';
  if (link !== '' && !isLinkName(link)) faults.push(`invalid interface name ${JSON.stringify(link)}`);
  if (faults.length === 0) return;
  const text = faults.length === 1 ? faults[0]! : faults.map((fault) => `* ${fault}`).join('\n');
  throw new ApiError('BadRequest', `${where}invalid endpoint settings:\n${text}`);
}

function isUsable(text: string, family?: IpFamily): boolean {
  const address = parseIp(text);
  return address !== undefined && address.value !== 0n && (family === undefined || address.family === family);
}

function rangeFaults(network: NetworkRecord, family: IpFamily, ip: string): string[] {
  const asked = blocksOf(network, family).filter((block) => block.isAsked);
  if (asked.length === 0)
    return [`user specified IP address is supported only when connecting to networks with user configured subnets`];
  return asked.some(({ subnet }) => contains(subnetOf(subnet), ip))
    ? []
    : [`no configured subnet or ip-range contain the IP address ${ip}`];
}

function sysctlTexts(wanted: Pick<NetworkAttachment, 'options'>): string[] {
  const text = wanted.options?.[sysctlsOption];
  return text === undefined ? [] : text.split(',');
}

/** `net.ipv4.conf.IFNAME.log_martians=1`. */
function parseSysctl(text: string): { above: string; name: string; value: string } | undefined {
  const [, above, name, value] =
    /^net\.((?:ipv4|ipv6|mpls)\.[A-Za-z0-9_-]+)\.(?:IFNAME|ifname)\.([A-Za-z0-9_-]+)=([^\n]*)$/.exec(text) ?? [];
  return above === undefined || name === undefined || value === undefined ? undefined : { above, name, value };
}

function sysctlFault(text: string): string {
  return `unrecognised network interface sysctl '${text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`;
}

/** Paths below /proc/sys with their values, for the link of this name. */
export function sysctlsOf(wanted: Pick<NetworkAttachment, 'options'>, link: string): { path: string; value: string }[] {
  return sysctlTexts(wanted).flatMap((text) => {
    const parsed = parseSysctl(text);
    if (parsed === undefined) return [];
    return [{ path: `net/${parsed.above.replace('.', '/')}/${link}/${parsed.name}`, value: parsed.value }];
  });
}

/** The name of the link inside the container: asked for, or the first that is free. */
export function chooseLinkName(wanted: Pick<NetworkAttachment, 'options'>, prefix: string, used: string[]): string {
  const asked = wanted.options?.[linkNameOption] ?? '';
  if (asked !== '') {
    if (used.includes(asked))
      throw new ApiError('InternalError', `error renaming interface to ${JSON.stringify(asked)}: file exists`);
    return asked;
  }
  let number = 0;
  while (used.includes(`${prefix}${number}`)) number++;
  return `${prefix}${number}`;
}

/** Which number the kernel gives the link inside: those of other networks are others. */
export function chooseLinkIndex(endpoints: readonly EndpointRecord[]): number {
  const used = new Set(endpoints.map(linkIndexOf));
  let index = 2;
  while (used.has(index)) index++;
  return index;
}

/** Records of before say it by the name's number alone. */
export function linkIndexOf(endpoint: EndpointRecord): number {
  return endpoint.linkIndex ?? Number(/\d+$/.exec(endpoint.containerLink)?.[0] ?? 0) + 2;
}

/** An endpoint, its network, and what was asked for. */
export interface Place {
  endpoint: EndpointRecord;
  network: NetworkRecord;
  priority: number;
}

export type Gateways = Partial<Record<IpFamily, Place>>;

/**
 * The highest priority first; then networks that lead outside, those that do it in both families, and by name. The
 * first of both families is the way out for both, else the first of each.
 */
export function selectGateways(places: readonly Place[]): Gateways {
  const ways = ({ network, endpoint }: Place): IpFamily[] =>
    ipFamilies.filter((family) => leadsOut(network, endpoint, family));
  const sorted = places.toSorted(
    (a, b) =>
      b.priority - a.priority ||
      Number(a.network.internal) - Number(b.network.internal) ||
      ways(b).length - ways(a).length ||
      (a.network.name < b.network.name ? -1 : 1),
  );
  const both = sorted.find((place) => ways(place).length === 2);
  const out: Gateways = {};
  for (const family of ipFamilies) {
    const chosen = both ?? sorted.find((place) => ways(place).includes(family));
    if (chosen !== undefined) out[family] = chosen;
  }
  return out;
}

/** Whether an endpoint has an address. */
export function hasAddress(endpoint: EndpointRecord, ip: string): boolean {
  return addressesOf(endpoint).includes(ip);
}
