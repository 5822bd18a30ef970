/**
 * The engine's configuration: dockerd's flags and `daemon.json` put together. What is said twice, is unknown, does not
 * parse or cannot be had is refused in dockerd's words; what was said nowhere has its default. A reload reads the file
 * again beside the same flags.
 *
 * Source: docker 28.5, daemon/config/config.go.
 */
import { isOfUser, rootlessConfigPath } from '../rootless/state.ts';
import { ApiError } from '#base/errors.ts';
import { parseCidr, parseIp, type IpFamily } from '#base/ip.ts';
import { describeSyntaxError } from '#base/json.ts';
import { parseSize } from '#base/sizes.ts';
import { entriesOf, fieldOf, isObject, itemsOf, namedTextsOf, textOf, textsOf } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import type { RuntimePrograms } from '#engine/runtime/runtimes.ts';
import { runtimesOf } from './runtimes.ts';
import { checkLogOptions } from '#engine/log-drivers/options.ts';
import { readIfExists } from '#os/files.ts';
import type { FlagValues } from './flags.ts';
import { daemonOptions, flagOnly, keyOf, mergedKeys, wholeObjects } from './options.ts';
import type { OptionKind } from './options.ts';
import { parseHost } from './hosts.ts';

const byKey = new Map(daemonOptions.map((option) => [keyOf(option), option]));
const emptyOf: Readonly<Record<OptionKind, unknown>> = {
  bool: false,
  string: '',
  int: 0,
  list: [],
  map: {},
  flags: {},
  size: 0,
  runtimes: {},
  ulimits: {},
  pools: [],
  maps: {},
};

interface Ulimit {
  name: string;
  soft: number;
  hard: number;
}

/** Values by the keys of `daemon.json`. A getter of the wrong kind is a mistake of the program. */
export class DaemonConfig {
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(values: ReadonlyMap<string, unknown>) {
    this.#values = values;
  }

  /** What was said, by key. */
  entries(): Iterable<[string, unknown]> {
    return this.#values.entries();
  }
  isSet(key: string): boolean {
    return this.#values.has(key);
  }
  #get(key: string): unknown {
    const option = byKey.get(key);
    if (option === undefined) throw new Error(`no option ${key}`);
    return this.#values.get(key) ?? option.value ?? emptyOf[option.kind];
  }
  bool(key: string): boolean {
    return this.#get(key) === true;
  }
  text(key: string): string {
    const value = this.#get(key);
    return typeof value === 'string' ? value : '';
  }
  number(key: string): number {
    return Number(this.#get(key));
  }
  list(key: string): string[] {
    return textsOf(this.#get(key));
  }
  map(key: string): Record<string, string> {
    return namedTextsOf(this.#get(key));
  }
  flags(key: string): Record<string, boolean> {
    return Object.fromEntries(entriesOf(this.#get(key)).map(([name, value]) => [name, value === true]));
  }
  maps(key: string): Record<string, Record<string, string>> {
    return Object.fromEntries(entriesOf(this.#get(key)).map(([name, value]) => [name, namedTextsOf(value)]));
  }
  get ulimits(): Ulimit[] {
    return entriesOf(this.#get('default-ulimits')).map(([name, limit]) => ({
      name,
      soft: Number(fieldOf(limit, 'Soft') ?? 0),
      hard: Number(fieldOf(limit, 'Hard') ?? 0),
    }));
  }
  get runtimes(): RuntimePrograms {
    return runtimesOf(this.#get('runtimes'), this.text('default-runtime'));
  }
  get pools(): { base: string; size: number }[] {
    return itemsOf(this.#get('default-address-pools')).map((pool) => ({
      base: textOf(pool, 'base') ?? '',
      size: Number(fieldOf(pool, 'size')),
    }));
  }
  /** What the options of this configuration say that cannot be had, each with its name and reason. */
  refusals(): string[] {
    return daemonOptions.flatMap((option) => {
      const key = keyOf(option);
      if (option.refuse === undefined || !this.isSet(key)) return [];
      const reason = option.refuse(this.#get(key));
      const name = option.flag === undefined || option.flag === key ? key : `${key} (--${option.flag})`;
      return reason === undefined ? [] : [`${name} is not supported: ${reason}`];
    });
  }
}

/** Flags and file together, checked. Throws ApiError BadRequest in dockerd's words. */
export function loadConfig(flags: FlagValues): DaemonConfig {
  const path = configPath(flags);
  const file = readConfigFile(path, flags.has('config-file'), flags);
  const values = new Map([...file, ...flags]);
  for (const key of mergedKeys)
    if (file.has(key) && flags.has(key))
      values.set(key, Object.fromEntries([...entriesOf(file.get(key)), ...entriesOf(flags.get(key))]));
  const config = new DaemonConfig(values);
  checkConfig(config);
  return config;
}

export function configPath(flags: FlagValues): string {
  if (flags.has('config-file')) return String(flags.get('config-file'));
  return isOfUser(process.env) ? rootlessConfigPath(process.env) : String(byKey.get('config-file')?.value);
}

function readConfigFile(path: string, isAsked: boolean, flags: FlagValues): Map<string, unknown> {
  try {
    const text = readIfExists(path);
    if (text === undefined) {
      if (isAsked) throw new ApiError('BadRequest', `open ${path}: no such file or directory`);
      return new Map();
    }
    return readConfigText(text, flags);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    throw new ApiError('BadRequest', `unable to configure the Docker daemon with file ${path}: ${error.message}`);
  }
}

function readConfigText(text: string, flags: FlagValues): Map<string, unknown> {
  const trimmed = text.replace(/^\uFEFF/, '').trim();
  if (trimmed === '') return new Map();
  let parsed: unknown;
  try {
    parsed = JSON.parse(trimmed);
  } catch (error) {
    throw new ApiError('BadRequest', describeSyntaxError(trimmed, error));
  }
  if (!isObject(parsed))
    throw new ApiError('BadRequest', `json: cannot unmarshal ${jsonKind(parsed)} into Go value of type config.Config`);
  const said = new Map<string, unknown>();
  for (const [key, value] of Object.entries(parsed))
    if (isObject(value) && !wholeObjects.has(key)) for (const entry of Object.entries(value)) said.set(...entry);
    else said.set(key, value);
  // The older name of the same.
  const gateway = said.get('host-gateway-ip');
  if (gateway !== undefined) {
    if (said.has('host-gateway-ips'))
      throw new ApiError(
        'BadRequest',
        'host-gateway-ip and host-gateway-ips must not both be specified in the config file',
      );
    said.delete('host-gateway-ip');
    said.set('host-gateway-ips', [gateway]);
  }
  const unknown = [...said.keys()].filter((key) => !byKey.has(key) || flagOnly.has(key));
  if (unknown.length > 0)
    throw new ApiError(
      'BadRequest',
      `the following directives don't match any configuration option: ${unknown.join(', ')}`,
    );
  refuseConflicts(said, flags);
  return new Map([...said].filter(([, value]) => value !== null).map(([key, value]) => [key, typed(key, value)]));
}

function refuseConflicts(said: ReadonlyMap<string, unknown>, flags: FlagValues): void {
  const conflicts = [...flags].flatMap(([key, value]) =>
    said.has(key) && !mergedKeys.has(key)
      ? [`${key}: (from flag: ${goText(value)}, from file: ${goText(said.get(key))})`]
      : [],
  );
  if (conflicts.length > 0)
    throw new ApiError(
      'BadRequest',
      `the following directives are specified both as a flag and in the configuration file: ${conflicts.join(', ')}`,
    );
}

/** A value as Go prints it with `%v`; what a URL holds of a password is not shown. */
export function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(' ')}]`;
  if (isObject(value))
    return `map[${Object.keys(value)
      .sort()
      .map((key) => `${key}:${goText(value[key])}`)
      .join(' ')}]`;
  return String(value).replace(/(:\/\/)[^/@\s]+@/, '$1xxxxx:xxxxx@');
}

function jsonKind(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

const goTypes: Readonly<Record<OptionKind, string>> = {
  bool: 'bool',
  string: 'string',
  int: 'int',
  list: '[]string',
  map: 'map[string]string',
  flags: 'map[string]bool',
  size: 'opts.MemBytes',
  runtimes: 'map[string]system.Runtime',
  ulimits: 'map[string]*container.Ulimit',
  pools: 'opts.PoolsOpt',
  maps: 'map[string]map[string]string',
};

/** A value of the file, of its option's kind. */
function typed(key: string, value: unknown): unknown {
  const kind = byKey.get(key)?.kind ?? 'string';
  const wrong = (): never => {
    throw new ApiError(
      'BadRequest',
      `json: cannot unmarshal ${jsonKind(value)} into Go struct field Config.${key} of type ${goTypes[kind]}`,
    );
  };
  const all = (list: unknown, type: string): boolean =>
    isObject(list) && Object.values(list).every((item) => typeof item === type);
  switch (kind) {
    case 'bool':
      return typeof value === 'boolean' ? value : wrong();
    case 'string':
      return typeof value === 'string' ? value : wrong();
    case 'int':
      return Number.isSafeInteger(value) ? value : wrong();
    case 'list':
      return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : wrong();
    case 'map':
      return all(value, 'string') ? value : wrong();
    case 'flags':
      return all(value, 'boolean') ? value : wrong();
    case 'size':
      return typeof value === 'number' ? value : typeof value === 'string' ? (parseSize(value) ?? wrong()) : wrong();
    case 'pools':
      return Array.isArray(value) && value.every((item) => isObject(item)) ? value : wrong();
    default:
      return isObject(value) && Object.values(value).every(isObject) ? value : wrong();
  }
}

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

const levels = ['panic', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'];

function checkConfig(config: DaemonConfig): void {
  if (!levels.includes(config.text('log-level').toLowerCase()))
    refuse(`invalid logging level: ${config.text('log-level')}`);
  if (!['text', 'json'].includes(config.text('log-format'))) refuse(`invalid log format: ${config.text('log-format')}`);
  for (const address of [...config.list('dns'), ...config.list('host-gateway-ips')])
    if (parseIp(address) === undefined) refuse(`invalid IP address: ${address}`);
  for (const domain of config.list('dns-search'))
    if (domain.trim() !== '.' && !/^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?\.?$/.test(domain.trim()))
      refuse(`${domain} is not a valid domain`);
  for (const host of config.list('hosts')) parseHost(host, false);
  for (const mirror of config.list('registry-mirrors')) checkMirror(mirror);
  labelsOf(config);
  checkNumbers(config);
  checkAddresses(config);
  const modes: [string, string[], string][] = [
    ['default-ipc-mode', ['private', 'shareable'], 'use "shareable" or "private"'],
    ['default-cgroupns-mode', ['', 'host', 'private'], 'use "host" or "private"'],
  ];
  for (const [key, known, hint] of modes)
    if (!known.includes(config.text(key))) refuse(`invalid ${key} (${config.text(key)}): ${hint}`);
  for (const option of config.list('exec-opts'))
    if (!/^[^=]+=.+$/.test(option)) refuse(`invalid exec-opt (${option}): must be formatted 'opt=value'`);
  try {
    checkLogOptions(config.text('log-driver'), config.map('log-opts'));
  } catch (error) {
    refuse(`failed to set log opts: ${messageOf(error)}`);
  }
  const [refusal] = config.refusals();
  if (refusal !== undefined) refuse(refusal);
  // What cannot be had has been told by now.
  void config.runtimes;
}

function checkNumbers(config: DaemonConfig): void {
  if (config.number('mtu') < 0) refuse(`invalid default MTU: ${config.number('mtu')}`);
  for (const key of ['max-concurrent-downloads', 'max-concurrent-uploads', 'max-download-attempts'])
    if (config.number(key) < 0) refuse(`invalid ${key.replaceAll('-', ' ')}: ${config.number(key)}`);
}

function checkAddresses(config: DaemonConfig): void {
  const familyOfCidr = (text: string): IpFamily | undefined => parseCidr(text)?.address.family;
  for (const [key, family] of [
    ['bip', 'IPv4'],
    ['fixed-cidr', 'IPv4'],
    ['bip6', 'IPv6'],
    ['fixed-cidr-v6', 'IPv6'],
  ] as const)
    if (config.text(key) !== '' && familyOfCidr(config.text(key)) !== family)
      refuse(`invalid ${key}: invalid CIDR address: ${config.text(key)}`);
  for (const key of ['bip6', 'fixed-cidr-v6'])
    if (config.text(key) !== '' && parseCidr(config.text(key))?.address.family !== 'IPv6')
      refuse(`invalid ${key}: invalid CIDR address: ${config.text(key)}`);
  for (const [key, family] of [
    ['default-gateway', 'IPv4'],
    ['default-gateway-v6', 'IPv6'],
  ] as const)
    if (config.text(key) !== '' && parseIp(config.text(key))?.family !== family)
      refuse(`invalid ${key}: ${config.text(key)} is not an ${family} address`);
  if (config.bool('iptables') && !config.bool('ip6tables'))
    refuse('ip6tables is not supported without iptables: rules are written for both families, or for none');
  if (config.text('bridge') !== '' && config.text('bridge') !== 'none' && config.text('bip') !== '')
    refuse('you specified -b & --bip, mutually exclusive options. Please specify only one');
  if (parseIp(config.text('ip'))?.family !== 'IPv4') refuse(`invalid ip: ${config.text('ip')} is not an IPv4 address`);
  for (const { base, size } of config.pools) {
    // Room for a gateway and a few containers.
    const most = familyOfCidr(base) === 'IPv6' ? 125 : 29;
    if (!Number.isInteger(size) || size < (parseCidr(base)?.length ?? Infinity) || size > most)
      refuse(`invalid base pool ${JSON.stringify(base)} with size ${size}: at most a /${most} of it is wanted`);
  }
}

function checkMirror(mirror: string): void {
  const scheme = /^([^:/]+):\/\//.exec(mirror)?.[1];
  const hint = "must use either 'https://' or 'http://'";
  if (scheme === undefined) refuse(`invalid mirror: no scheme specified for ${JSON.stringify(mirror)}: ${hint}`);
  if (!URL.canParse(mirror)) refuse(`invalid mirror: ${JSON.stringify(mirror)} is not a valid URI`);
  const url = new URL(mirror);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    refuse(`invalid mirror: unsupported scheme ${JSON.stringify(scheme)} in ${JSON.stringify(mirror)}: ${hint}`);
  if (url.search !== '' || url.hash !== '')
    refuse(`invalid mirror: query or fragment at end of the URI ${JSON.stringify(mirror)}`);
  if (url.username !== '')
    refuse(
      `invalid mirror: username/password not allowed in URI ${JSON.stringify(`${scheme}://${url.username}:xxxxx@${url.host}`)}`,
    );
}

/** One of each key; the same said twice is one. */
export function labelsOf(config: DaemonConfig): string[] {
  const labels = new Map<string, string>();
  for (const label of config.list('labels')) {
    const at = label.indexOf('=');
    if (at < 1) refuse(`bad attribute format: ${label}`);
    const [key, value] = [label.slice(0, at), label.slice(at + 1)];
    const before = labels.get(key);
    if (before !== undefined && before !== value) refuse(`conflict labels for ${key}=${value} and ${key}=${before}`);
    labels.set(key, value);
  }
  return [...labels].map(([key, value]) => `${key}=${value}`);
}
