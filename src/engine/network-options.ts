/**
 * The options of docker's bridge driver (`docker network create -o`): which there are, what they mean here, and what is
 * refused. An option of the driver that is not known is kept and shown, as docker does with labels of other drivers;
 * one that is known is followed or refused, never dropped.
 * Source: Docker documentation, "Bridge network driver / Options"; libnetwork's errors for values that do not parse.
 */
import { ApiError } from '#base/errors.ts';
import { isIpv4 } from '#base/ip.ts';
import { linkNameLengthMax } from '#net/limits.ts';

const driver = 'com.docker.network.bridge.';
const boolOptions = ['enable_icc', 'enable_ip_masquerade', 'default_bridge', 'inhibit_ipv4'].map(
  (name) => `${driver}${name}`,
);
const gatewayModes = ['', 'nat', 'nat-unprotected', 'routed', 'isolated'];
const trueTexts = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const falseTexts = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

export interface BridgeOptions {
  /** The bridge's name as the user wants it. */
  bridgeName?: string;
  together: boolean;
  masquerade: boolean;
  /** The bridge has no address of its own. */
  withoutAddress: boolean;
  /** Only published ports lead in. */
  guarded: boolean;
  /** Where ports are published that name no address. */
  bindingIp?: string;
  mtu?: number;
  /** Of the links inside containers; `eth` where nothing is said. */
  linkPrefix: string;
}

function bool(options: Readonly<Record<string, string>>, name: string, fallback: boolean): boolean {
  const text = options[`${driver}${name}`];
  return text === undefined ? fallback : trueTexts.has(text);
}

/** A name that Linux takes for a link, and that means itself wherever it is written (a path, a rule). */
export function isLinkName(name: string): boolean {
  return name.length <= linkNameLengthMax && /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name);
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** Throws where a value is none; `internal` decides whether an isolated gateway may be asked for. */
export function checkBridgeOptions(options: Readonly<Record<string, string>>, internal: boolean): void {
  for (const [name, value] of Object.entries(options)) {
    if (boolOptions.includes(name) && !trueTexts.has(value) && !falseTexts.has(value))
      refuse(
        `parsing error: invalid value for ${name}: strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`,
      );
  }
  const name = options[`${driver}name`];
  if (name !== undefined && name !== '' && !isLinkName(name))
    refuse(`invalid bridge name ${JSON.stringify(name)}: at most ${linkNameLengthMax} characters of [a-zA-Z0-9_.-]`);
  const prefix = options['com.docker.network.container_iface_prefix'];
  if (prefix !== undefined && (!isLinkName(`${prefix}10`) || /\d$/.test(prefix)))
    refuse(
      `invalid com.docker.network.container_iface_prefix ${JSON.stringify(prefix)}: it must be the beginning of a link's name, without a digit at its end`,
    );
  const mtu = options['com.docker.network.driver.mtu'];
  if (mtu !== undefined && mtu !== '' && !/^\d+$/.test(mtu))
    refuse(`parsing error: strconv.Atoi: parsing ${JSON.stringify(mtu)}: invalid syntax`);
  if (mtu !== undefined && Number(mtu) !== 0 && (Number(mtu) < 68 || Number(mtu) > 65_535))
    refuse(`invalid MTU ${mtu}: a link takes 68 to 65535`);
  const binding = options[`${driver}host_binding_ipv4`];
  if (binding !== undefined && binding !== '' && !isIpv4(binding))
    refuse(`invalid com.docker.network.bridge.host_binding_ipv4: ${JSON.stringify(binding)} is not an IPv4 address`);
  const mode = options[`${driver}gateway_mode_ipv4`] ?? '';
  if (!gatewayModes.includes(mode)) refuse(`unknown gateway mode ${mode}`);
  if (mode === 'isolated' && !internal) refuse("gateway mode 'isolated' can only be used for an internal network");
  if (mode === 'routed')
    throw new ApiError(
      'InternalError',
      "gateway mode 'routed' is not supported by this engine: use nat (ports are published on the host) or nat-unprotected (containers are reached by their own addresses)",
      undefined,
      501,
    );
  for (const option of ['trusted_host_interfaces']) {
    if ((options[`${driver}${option}`] ?? '') !== '')
      throw new ApiError(
        'InternalError',
        `option ${driver}${option} is not supported by this engine: publish the ports, or use gateway mode nat-unprotected`,
        undefined,
        501,
      );
  }
}

export function bridgeOptionsOf(options: Readonly<Record<string, string>>): BridgeOptions {
  const mode = options[`${driver}gateway_mode_ipv4`] ?? '';
  const name = options[`${driver}name`] ?? '';
  const mtu = Number(options['com.docker.network.driver.mtu'] ?? 0);
  const binding = options[`${driver}host_binding_ipv4`] ?? '';
  return {
    ...(name === '' ? {} : { bridgeName: name }),
    together: bool(options, 'enable_icc', true),
    masquerade: bool(options, 'enable_ip_masquerade', true),
    withoutAddress: bool(options, 'inhibit_ipv4', false) || mode === 'isolated',
    guarded: mode !== 'nat-unprotected',
    ...(binding === '' || binding === '0.0.0.0' ? {} : { bindingIp: binding }),
    ...(mtu > 0 ? { mtu } : {}),
    linkPrefix: options['com.docker.network.container_iface_prefix'] ?? 'eth',
  };
}
