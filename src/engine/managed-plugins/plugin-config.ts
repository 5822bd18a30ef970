/**
 * What the author of a managed plugin wrote down (`config.json`), as the Engine API shows it, and what of it a user is
 * asked to permit.
 * Source: Docker documentation, "Plugin config version 1 of plugin V2"; moby 29, daemon/pkg/plugin.
 */
import { ApiError } from '#base/errors.ts';
import { fieldOf, isObject, itemsOf, textOf, textsOf, type JsonObject } from '#base/unknown.ts';

/** A host path, device or value that is null has to be set by the user. */
interface Settable {
  Name: string;
  Description: string;
  Settable: string[] | null;
}

export interface PluginEnv extends Settable {
  Value: string | null;
}

export interface PluginMount extends Settable {
  Source: string | null;
  Destination: string;
  Type: string;
  Options: string[] | null;
}

export interface PluginDevice extends Settable {
  Path: string | null;
}

export interface PluginConfig {
  Description: string;
  Documentation: string;
  /** Types as `docker.volumedriver/1.0`. */
  Interface: { Types: string[]; Socket: string; ProtocolScheme?: string };
  Entrypoint: string[];
  WorkDir: string;
  User: { UID?: number; GID?: number };
  Network: { Type: string };
  Linux: { Capabilities: string[] | null; AllowAllDevices: boolean; Devices: PluginDevice[] | null };
  PropagatedMount: string;
  IpcHost: boolean;
  PidHost: boolean;
  Mounts: PluginMount[] | null;
  Env: PluginEnv[] | null;
  Args: Settable & { Value: string[] | null };
  /** Digests of the compressed layers, as moby has it. */
  rootfs?: { type: string; diff_ids: string[] };
}

export interface PluginPrivilege {
  Name: string;
  Description: string;
  Value: string[];
}

/** Names of fields as Go reads them: in any case. */
function caseless(value: unknown): JsonObject {
  const lower = (each: unknown): unknown => {
    if (Array.isArray(each)) return each.map(lower);
    return isObject(each)
      ? Object.fromEntries(Object.entries(each).map(([key, inner]) => [key.toLowerCase(), lower(inner)]))
      : each;
  };
  const out = lower(value);
  if (!isObject(out)) throw new ApiError('BadRequest', 'failed to parse config: it is not an object');
  return out;
}

const listOrNull = <T>(value: unknown, read: (item: unknown) => T): T[] | null =>
  Array.isArray(value) ? value.map(read) : null;
const textsOrNull = (value: unknown): string[] | null => (Array.isArray(value) ? textsOf(value) : null);
const isTrue = (value: unknown, ...path: string[]): boolean => fieldOf(value, ...path) === true;

function readSettable(value: unknown): Settable {
  return {
    Name: textOf(value, 'name') ?? '',
    Description: textOf(value, 'description') ?? '',
    Settable: textsOrNull(fieldOf(value, 'settable')),
  };
}

const capabilityPattern = /^([^./]+)\.([^./]+)\/(.+)$/;

/** Throws BadRequest for what is no description of a plugin. */
export function readPluginConfig(bytes: Uint8Array): PluginConfig {
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new ApiError('BadRequest', `failed to parse config: ${String(error)}`);
  }
  const config = caseless(parsed);
  const types = textsOf(fieldOf(config, 'interface', 'types'));
  for (const type of types)
    if (!capabilityPattern.test(type))
      throw new ApiError('BadRequest', `invalid interface type ${JSON.stringify(type)}`);
  const socket = textOf(config, 'interface', 'socket') ?? '';
  if (socket.includes('/') || socket === '..')
    throw new ApiError('BadRequest', `invalid plugin socket ${JSON.stringify(socket)}`);
  const scheme = textOf(config, 'interface', 'protocolscheme') ?? '';
  if (scheme !== '' && scheme !== 'moby.plugins.http/v1')
    throw new ApiError('BadRequest', `unknown protocol ${JSON.stringify(scheme)} of a plugin`);
  const number = (key: string): object => {
    const value = fieldOf(config, 'user', key.toLowerCase());
    return typeof value === 'number' && value !== 0 ? { [key]: value } : {};
  };
  const layers = textsOf(fieldOf(config, 'rootfs', 'diff_ids'));
  return {
    Description: textOf(config, 'description') ?? '',
    Documentation: textOf(config, 'documentation') ?? '',
    Interface: { Types: types, Socket: socket, ...(scheme === '' ? {} : { ProtocolScheme: scheme }) },
    Entrypoint: textsOf(fieldOf(config, 'entrypoint')),
    WorkDir: textOf(config, 'workdir') ?? '',
    User: { ...number('UID'), ...number('GID') },
    Network: { Type: textOf(config, 'network', 'type') ?? '' },
    Linux: {
      Capabilities: textsOrNull(fieldOf(config, 'linux', 'capabilities')),
      AllowAllDevices: isTrue(config, 'linux', 'allowalldevices'),
      Devices: listOrNull(fieldOf(config, 'linux', 'devices'), (item) => ({
        ...readSettable(item),
        Path: textOf(item, 'path') ?? null,
      })),
    },
    PropagatedMount: textOf(config, 'propagatedmount') ?? '',
    IpcHost: isTrue(config, 'ipchost'),
    PidHost: isTrue(config, 'pidhost'),
    Mounts: listOrNull(fieldOf(config, 'mounts'), (item) => ({
      ...readSettable(item),
      Source: textOf(item, 'source') ?? null,
      Destination: textOf(item, 'destination') ?? '',
      Type: textOf(item, 'type') ?? '',
      Options: textsOrNull(fieldOf(item, 'options')),
    })),
    Env: listOrNull(fieldOf(config, 'env'), (item) => ({
      ...readSettable(item),
      Value: textOf(item, 'value') ?? null,
    })),
    Args: {
      ...readSettable(fieldOf(config, 'args')),
      Value: textsOrNull(fieldOf(config, 'args', 'value')),
    },
    ...(layers.length === 0 ? {} : { rootfs: { type: 'layers', diff_ids: layers } }),
  };
}

/** `docker.volumedriver/1.0` is what the plugin protocol calls VolumeDriver. */
export function kindsOf({ Interface: { Types: types } }: PluginConfig): string[] {
  const kinds: Record<string, string> = {
    volumedriver: 'VolumeDriver',
    networkdriver: 'NetworkDriver',
    ipamdriver: 'IpamDriver',
    logdriver: 'LogDriver',
    authz: 'authz',
  };
  return capabilitiesOf(types).flatMap((name) => kinds[name] ?? []);
}

export function capabilitiesOf(types: readonly string[]): string[] {
  return types.flatMap((type) => capabilityPattern.exec(type)?.[2]?.toLowerCase() ?? []);
}

export function privilegesOf(config: PluginConfig): PluginPrivilege[] {
  const { Network: network, Linux: linux } = config;
  const one = (isAsked: boolean, Name: string, Description: string, Value: string[] = ['true']): PluginPrivilege[] =>
    isAsked ? [{ Name, Description, Value }] : [];
  const capabilities = linux.Capabilities ?? [];
  return [
    ...one(!['', 'null', 'bridge'].includes(network.Type), 'network', 'permissions to access a network', [
      network.Type,
    ]),
    ...one(config.IpcHost, 'host ipc namespace', 'allow access to host ipc namespace'),
    ...one(config.PidHost, 'host pid namespace', 'allow access to host pid namespace'),
    ...(config.Mounts ?? []).flatMap(({ Source: source }) =>
      one(source !== null, 'mount', 'host path to mount', [source ?? '']),
    ),
    ...(linux.Devices ?? []).flatMap(({ Path: path }) =>
      one(path !== null, 'device', 'host device to access', [path ?? '']),
    ),
    ...one(linux.AllowAllDevices, 'allow-all-devices', "allow 'rwm' access to all devices"),
    ...one(capabilities.length > 0, 'capabilities', 'list of additional capabilities required', capabilities),
  ];
}

/** Throws BadRequest where the user did not permit just what the plugin wants. */
export function checkPrivileges(wanted: readonly PluginPrivilege[], given: unknown): void {
  const key = (privilege: unknown): string =>
    JSON.stringify([textOf(privilege, 'Name') ?? '', textsOf(fieldOf(privilege, 'Value')).toSorted()]);
  const [required, allowed] = [wanted.map(key).toSorted(), itemsOf(given).map(key).toSorted()];
  if (JSON.stringify(required) !== JSON.stringify(allowed))
    throw new ApiError('BadRequest', 'incorrect privileges: the plugin asks for others than were granted');
}
