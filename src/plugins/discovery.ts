/**
 * Where plugins are found: a socket `NAME.sock` in /run/docker/plugins, or an address in `NAME.spec` or `NAME.json` in
 * /etc/docker/plugins and /usr/lib/docker/plugins; each also in a directory of the plugin's name. Looked for at each
 * use: a plugin may come and go.
 *
 * Source: Docker documentation, "Docker Plugin API / Plugin discovery"; docker 28.5, pkg/plugins/discovery.go.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { listDirectory, readIfExists, statIfExists } from '#os/files.ts';
import { pluginsMax } from './limits.ts';

export interface PluginPlaces {
  sockets: string;
  specs: readonly string[];
}

export const usualPlaces: PluginPlaces = {
  sockets: '/run/docker/plugins',
  specs: ['/etc/docker/plugins', '/usr/lib/docker/plugins'],
};

/** Where fifos of logs are as a plugin in a container sees them. */
export const pluginLogPath = '/run/docker/logging';

export interface PluginAddress {
  name: string;
  /** What it implements, where that is known without asking it. */
  kinds?: readonly string[];
  /** How long a call may take where the caller does not say. */
  timeoutMs?: number;
  /** Of one that the engine runs in a container: where the host has what it sees at a path. */
  hostPath?: (path: string) => string;
  target: { socketPath: string } | { host: string; port: number };
  /** In PEM. */
  tls?: { ca?: string; cert?: string; key?: string; isInsecure: boolean };
}

const isSocket = (path: string): boolean => statIfExists(path)?.isSocket() === true;

/** Plugins that the engine itself runs, and that are enabled. */
export interface ManagedAddresses {
  address(name: string): PluginAddress | undefined;
  /** Of those that implement it. */
  names(kind: string): string[];
}

/** Of every plugin that is there; names are said once. */
export function listPlugins(places: PluginPlaces): string[] {
  const names = new Set<string>();
  for (const entry of listDirectory(places.sockets)) {
    const nested = join(places.sockets, entry, `${entry}.sock`);
    if (entry.endsWith('.sock') && isSocket(join(places.sockets, entry))) names.add(entry.slice(0, -'.sock'.length));
    else if (isSocket(nested)) names.add(entry);
  }
  for (const directory of places.specs)
    for (const entry of listDirectory(directory)) {
      const name = /^(.+)\.(?:spec|json)$/.exec(entry)?.[1];
      if (name !== undefined) names.add(name);
      else if (['spec', 'json'].some((kind) => statIfExists(join(directory, entry, `${entry}.${kind}`)) !== undefined))
        names.add(entry);
    }
  return [...names].slice(0, pluginsMax);
}

/** Undefined where there is none of that name. Throws ApiError where its file says nothing that can be used. */
export function findPlugin(places: PluginPlaces, name: string): PluginAddress | undefined {
  // A name is one of a file, and no way to another directory.
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) return undefined;
  for (const path of [join(places.sockets, `${name}.sock`), join(places.sockets, name, `${name}.sock`)])
    if (isSocket(path)) return { name, target: { socketPath: path } };
  for (const directory of places.specs)
    for (const kind of ['spec', 'json'])
      for (const path of [join(directory, `${name}.${kind}`), join(directory, name, `${name}.${kind}`)]) {
        const text = readIfExists(path);
        if (text !== undefined) return kind === 'spec' ? parseAddress(name, text.trim()) : parseJsonSpec(name, text);
      }
  return undefined;
}

function parseAddress(name: string, text: string): PluginAddress {
  const match = /^(unix|tcp|http|https):\/\/(.*)$/.exec(text);
  if (match === null)
    throw new ApiError('InternalError', `plugin ${JSON.stringify(name)}: unknown protocol in ${text}`);
  if (match[1] === 'unix') return { name, target: { socketPath: match[2] ?? '' } };
  const [, host = '', port = ''] = /^\[?([^/\]]+?)\]?:(\d{1,5})\/?$/.exec(match[2] ?? '') ?? [];
  if (port === '' || Number(port) > 65_535)
    throw new ApiError('InternalError', `plugin ${JSON.stringify(name)}: ${text} is not an address with a port`);
  return { name, target: { host, port: Number(port) } };
}

/** `{Name, Addr, TLSConfig: {InsecureSkipVerify, CAFile, CertFile, KeyFile}}` */
function parseJsonSpec(name: string, text: string): PluginAddress {
  let spec: unknown;
  try {
    spec = JSON.parse(text);
  } catch {
    throw new ApiError('InternalError', `plugin ${JSON.stringify(name)}: its specification is not JSON`);
  }
  const address = parseAddress(name, textOf(spec, 'Addr') ?? '');
  const tls = fieldOf(spec, 'TLSConfig');
  if (tls === undefined || tls === null || 'socketPath' in address.target) return address;
  const read = (key: string, field: string): object => {
    const path = textOf(tls, field) ?? '';
    return path === '' ? {} : { [key]: readFileSync(path, 'utf8') };
  };
  return {
    ...address,
    tls: {
      ...read('ca', 'CAFile'),
      ...read('cert', 'CertFile'),
      ...read('key', 'KeyFile'),
      isInsecure: fieldOf(tls, 'InsecureSkipVerify') === true,
    },
  };
}
