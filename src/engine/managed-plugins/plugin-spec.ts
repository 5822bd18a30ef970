/**
 * The container that a managed plugin runs in: nothing of docker's users, but like theirs it outlives the engine.
 * Source: Docker documentation, "Plugin config"; moby 29, daemon/pkg/plugin/v2 (`InitSpec`).
 */
import { ApiError } from '#base/errors.ts';
import type { ContainerSpec, Mount } from '../engine.ts';
import type { PluginConfig, PluginMount } from './plugin-config.ts';
import type { PluginSettings } from './plugin-settings.ts';

/** Where a plugin makes its socket, as it sees it. */
const socketDirectory = '/run/docker/plugins';

const propagations = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'] as const;

export interface SpecParts {
  id: string;
  name: string;
  imageId: string;
  config: PluginConfig;
  settings: PluginSettings;
  runtime: string | undefined;
  /** Directories of the host: where its socket is, and where its mounts are seen. */
  directories: { sockets: string; propagated: string };
}

function mountOf({ Name, Source, Destination, Type, Options }: PluginMount): Mount {
  const options = Options ?? [];
  if (Type === 'tmpfs') return { type: 'tmpfs', source: '', target: Destination, readOnly: options.includes('ro') };
  if (Type !== 'bind' && Type !== '')
    throw new ApiError('BadRequest', `mount ${JSON.stringify(Name)}: unsupported type ${JSON.stringify(Type)}`);
  if (Source === null || Source === '') throw new ApiError('BadRequest', 'mount source is not specified');
  const propagation = propagations.find((word) => options.includes(word));
  return {
    type: 'bind',
    source: Source,
    target: Destination,
    readOnly: options.includes('ro'),
    ...(propagation === undefined ? {} : { propagation }),
    ...(options.includes('rbind') ? {} : { nonRecursive: true }),
  };
}

export function planPluginContainer(parts: SpecParts): ContainerSpec {
  const { config, settings, directories } = parts;
  const { Linux: linux, Network: network } = config;
  const devices = settings.Devices.flatMap(({ Path: path }) =>
    path === null || path === '' ? [] : [{ hostPath: path, containerPath: path, permissions: 'rwm' }],
  );
  const propagated: Mount[] =
    config.PropagatedMount === ''
      ? []
      : [
          {
            type: 'bind',
            source: directories.propagated,
            target: config.PropagatedMount,
            readOnly: false,
            propagation: 'rshared',
          },
        ];
  return {
    name: `plugin-${parts.id.slice(0, 12)}`,
    owner: 'plugin',
    image: parts.name,
    imageId: parts.imageId,
    entrypoint: config.Entrypoint,
    command: settings.Args,
    env: settings.Env,
    ...(config.WorkDir === '' ? {} : { workingDir: config.WorkDir }),
    tty: false,
    openStdin: false,
    stdinOnce: false,
    labels: {},
    mounts: [
      ...propagated,
      ...settings.Mounts.map(mountOf),
      { type: 'bind', source: directories.sockets, target: socketDirectory, readOnly: false, propagation: 'rshared' },
    ],
    resources: {
      devices,
      ...(linux.AllowAllDevices ? { deviceRules: [{ type: 'a', access: 'rwm' }] } : {}),
    },
    security: { capAdd: linux.Capabilities ?? [], seccomp: 'unconfined', apparmor: 'unconfined' },
    network: network.Type === 'host' ? { type: 'host' } : { type: 'none' },
    ...(parts.runtime === undefined ? {} : { runtime: parts.runtime }),
    ...(config.PidHost ? { pidMode: { type: 'host' } } : {}),
    ...(config.IpcHost ? { ipcMode: { type: 'host' } } : {}),
  };
}
