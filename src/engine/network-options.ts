/**
 * The options of docker's bridge driver (`docker network create -o`): which there are, what they mean here, and what is
 * refused. An option that is not known is kept and shown, as docker does with labels of other drivers; one that is
 * known is followed or refused, never dropped.
 * Source: Docker documentation, "Bridge network driver / Options"; libnetwork's errors for values that do not parse.
 */
import { ApiError } from '#base/errors.ts';
import { familyOf, formatIp, isIp, parseIp, type IpFamily } from '#base/ip.ts';
import { linkNameLengthMax } from '#net/limits.ts';

const driver = 'com.docker.network.bridge.';
const boolOptions = ['enable_icc', 'enable_ip_masquerade', 'default_bridge', 'inhibit_ipv4'].map(
  (name) => `${driver}${name}`,
);
const prefixOption = 'com.docker.network.container_iface_prefix';
const mtuOption = 'com.docker.network.driver.mtu';
const gatewayModes = ['nat', 'nat-unprotected', 'routed', 'isolated'] as const;
export type GatewayMode = (typeof gatewayModes)[number];
const families = [
  { family: 'IPv4', digit: '4' },
  { family: 'IPv6', digit: '6' },
] as const;
const trueTexts = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const falseTexts = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

export interface BridgeOptions {
  /** The bridge's name as the user wants it. */
  bridgeName?: string;
  together: boolean;
  masquerade: boolean;
  /** The bridge has no address of version 4. */
  inhibitIpv4: boolean;
  modes: Record<IpFamily, GatewayMode>;
  /** Addresses of the host that packets leave with, instead of that of the link they leave by. */
  sources: Partial<Record<IpFamily, string>>;
  trusted: string[];
  /** Where ports are published that name no address. */
  bindingIp?: string;
  mtu?: number;
  /** Of the links inside containers; `eth` where nothing is said. */
  linkPrefix: string;
}

function parseMode(text: string | undefined): GatewayMode | undefined {
  return gatewayModes.find((mode) => mode === text);
}

/** As Go's `strconv.ParseBool`; undefined for anything else. */
export function parseBool(text: string): boolean | undefined {
  return trueTexts.has(text) ? true : falseTexts.has(text) ? false : undefined;
}

function bool(options: Readonly<Record<string, string>>, name: string, fallback: boolean): boolean {
  return parseBool(options[`${driver}${name}`] ?? '') ?? fallback;
}

/** A name that Linux takes for a link, and that means itself wherever it is written (a path, a rule). */
export function isLinkName(name: string): boolean {
  return name.length <= linkNameLengthMax && /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name);
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** Go's words for a value that does not parse. */
function refuseValue(name: string, value: string, reason: string): never {
  refuse(`failed to parse ${name} value: ${value} (${reason})`);
}

/** Throws where a value is none; `internal` decides whether an isolated gateway may be asked for. */
export function checkBridgeOptions(options: Readonly<Record<string, string>>, internal: boolean): void {
  for (const name of boolOptions) {
    const value = options[name];
    if (value !== undefined && parseBool(value) === undefined)
      refuseValue(name, value, `strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`);
  }
  checkLinkOptions(options);
  const mtu = options[mtuOption];
  if (mtu !== undefined && !/^[+-]?\d+$/.test(mtu))
    refuseValue(mtuOption, mtu, `strconv.Atoi: parsing ${JSON.stringify(mtu)}: invalid syntax`);
  if (Number(mtu ?? 0) < 0) refuse(`invalid MTU number: ${Number(mtu)}`);
  if (Number(mtu ?? 0) !== 0 && (Number(mtu) < 68 || Number(mtu) > 65_535))
    refuse(`invalid MTU ${mtu}: a link takes 68 to 65535`);
  const binding = options[`${driver}host_binding_ipv4`];
  if (binding !== undefined && !isIp(binding)) refuseValue(`${driver}host_binding_ipv4`, binding, 'nil ip');
  for (const { family, digit } of families) {
    const source = options[`com.docker.network.host_ipv${digit}`];
    if (source !== undefined && familyOf(source) !== family)
      refuseValue(`com.docker.network.host_ipv${digit}`, source, 'nil ip');
    const name = `${driver}gateway_mode_ipv${digit}`;
    const mode = options[name];
    if (mode !== undefined && parseMode(mode) === undefined) refuseValue(name, mode, `unknown gateway mode ${mode}`);
    if (mode === 'isolated' && !internal) refuse(`gateway mode 'isolated' can only be used for an internal network`);
  }
}

function checkLinkOptions(options: Readonly<Record<string, string>>): void {
  const name = options[`${driver}name`];
  if (name !== undefined && name !== '' && !isLinkName(name))
    refuse(`invalid bridge name ${JSON.stringify(name)}: at most ${linkNameLengthMax} characters of [a-zA-Z0-9_.-]`);
  const prefix = options[prefixOption] ?? '';
  if (prefix !== '' && (!isLinkName(`${prefix}10`) || /\d$/.test(prefix)))
    refuse(
      `invalid ${prefixOption} ${JSON.stringify(prefix)}: it must be the beginning of a link's name, without a digit at its end`,
    );
  for (const link of trustedOf(options))
    if (!isLinkName(link)) refuse(`invalid ${driver}trusted_host_interfaces: ${JSON.stringify(link)} names no link`);
}

function trustedOf(options: Readonly<Record<string, string>>): string[] {
  return (options[`${driver}trusted_host_interfaces`] ?? '').split(':').filter((link) => link !== '');
}

export function bridgeOptionsOf(options: Readonly<Record<string, string>>): BridgeOptions {
  const name = options[`${driver}name`] ?? '';
  const mtu = Number(options[mtuOption] ?? 0);
  const binding = parseIp(options[`${driver}host_binding_ipv4`] ?? '');
  const mode = (digit: string): GatewayMode => parseMode(options[`${driver}gateway_mode_ipv${digit}`]) ?? 'nat';
  const prefix = options[prefixOption] ?? '';
  return {
    ...(name === '' ? {} : { bridgeName: name }),
    together: bool(options, 'enable_icc', true),
    masquerade: bool(options, 'enable_ip_masquerade', true),
    inhibitIpv4: bool(options, 'inhibit_ipv4', false),
    modes: { IPv4: mode('4'), IPv6: mode('6') },
    sources: Object.fromEntries(
      families.flatMap(({ family, digit }) => {
        const source = parseIp(options[`com.docker.network.host_ipv${digit}`] ?? '');
        return source === undefined ? [] : [[family, formatIp(source)]];
      }),
    ),
    trusted: trustedOf(options),
    ...(binding === undefined || (binding.family === 'IPv4' && binding.value === 0n)
      ? {}
      : { bindingIp: formatIp(binding) }),
    ...(mtu > 0 ? { mtu } : {}),
    linkPrefix: prefix === '' ? 'eth' : prefix,
  };
}
