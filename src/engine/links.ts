/**
 * `--link` of old on the default bridge: names of other containers in /etc/hosts, and variables that tell their ports.
 * On networks of the user's own a link is a name in the resolver (dns.ts).
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { joinHostPort } from '#base/ip.ts';
import type { Container } from './container.ts';
import { containerDirectory } from './container-record.ts';
import type { ContainerTable } from './container-table.ts';
import { addressesOf } from './network-record.ts';

interface Link {
  target: Container;
  alias: string;
  /** Version 4 first. */
  addresses: string[];
}

/** `name[:alias]`; an alias may begin with a slash. */
function parseLink(text: string): { name: string; alias: string } {
  const at = text.indexOf(':');
  const name = at < 0 ? text : text.slice(0, at);
  const alias = at < 0 ? name.slice(name.lastIndexOf('/') + 1) : text.slice(at + 1);
  return { name, alias: alias.replace(/^\/+/, '') };
}

/** What containers are also called: `/other/alias`, of those that have a link to them. */
export function linkNames(table: ContainerTable): Map<Container, string[]> {
  const names = new Map<Container, string[]>();
  for (const other of table.list())
    for (const text of other.record.spec.links ?? []) {
      const { name, alias } = parseLink(text);
      const target = table.find(name);
      if (target !== undefined) names.set(target, [...(names.get(target) ?? []), `/${other.name}/${alias}`]);
    }
  return names;
}

/** Of `other/alias`: who has the link, and to whom. */
export function findLink(table: ContainerTable, reference: string): { other: Container; text: string } | undefined {
  const [, parent = '', alias = ''] = /^\/?([^/]+)\/([^/]+)$/.exec(reference) ?? [];
  const other = parent === '' ? undefined : table.find(parent);
  const text = other?.record.spec.links?.find((link) => parseLink(link).alias === alias);
  return other === undefined || text === undefined ? undefined : { other, text };
}

/** `docker rm --link`: the container forgets the name, in its file of hosts at once. */
export function removeLink(table: ContainerTable, container: Container, alias: string): void {
  const { spec } = container.record;
  const left = (spec.links ?? []).filter((text) => parseLink(text).alias !== alias);
  if (left.length === (spec.links ?? []).length)
    throw new ApiError('NotFound', `no such link: /${container.name}/${alias}`);
  spec.links = left;
  container.save(table.context);
  const hosts = `${containerDirectory(table.context.directories.data, container.id)}/hosts`;
  if (container.isRunning && existsSync(hosts))
    writeFileSync(
      hosts,
      readFileSync(hosts, 'utf8').replace(new RegExp(`^\\S+\\s${RegExp.escape(alias)} .*\n`, 'gm'), ''),
    );
}

/** `name[:alias]` of each, running and with an address on a network that both are on. */
function resolveLinks(table: ContainerTable, container: Container): Link[] {
  return (container.record.spec.links ?? []).map((text) => {
    const { name, alias } = parseLink(text);
    const target = table.get(name);
    if (!target.isRunning)
      throw new ApiError(
        'Conflict',
        `Cannot link to a non running container: /${target.name} AS /${container.name}/${alias}`,
      );
    const networks = new Set(container.record.networks.map((attached) => attached.networkId));
    const endpoint = target.record.run!.endpoints.find((found) => networks.has(found.networkId));
    if (endpoint === undefined)
      throw new ApiError('Conflict', `Cannot link to /${target.name}, as it does not belong to the default network`);
    return { target, alias, addresses: addressesOf(endpoint) };
  });
}

export function linkHosts(table: ContainerTable, container: Container): { ip: string; name: string }[] {
  return resolveLinks(table, container).flatMap(({ target, alias, addresses }) =>
    addresses.map((ip) => ({ ip, name: [...new Set([alias, target.id.slice(0, 12), target.name])].join(' ') })),
  );
}

/**
 * `DB_NAME`, `DB_PORT` of the lowest exposed port, `DB_PORT_80_TCP…` of each, `DB_ENV_…` of the target's own variables.
 */
export function linkEnvironment(table: ContainerTable, container: Container): string[] {
  return resolveLinks(table, container).flatMap(({ target, alias, addresses: [ip = ''] }) => {
    const prefix = alias.toUpperCase().replaceAll('-', '_');
    const image = table.context.images.find(target.record.spec.imageId)?.config.exposedPorts ?? [];
    const asked = Object.keys((target.record.spec.request?.['ExposedPorts'] as object | undefined) ?? {});
    const ports = [...new Set([...image, ...asked])]
      .map((text) => {
        const [port = '', protocol = 'tcp'] = text.split('/');
        return { port, protocol };
      })
      .sort((a, b) => Number(a.port) - Number(b.port));
    const url = (port: { port: string; protocol: string }): string =>
      `${port.protocol}://${joinHostPort(ip, port.port)}`;
    return [
      ...(ports[0] === undefined ? [] : [`${prefix}_PORT=${url(ports[0])}`]),
      ...ports.flatMap((port) => {
        const name = `${prefix}_PORT_${port.port}_${port.protocol.toUpperCase()}`;
        return [
          `${name}=${url(port)}`,
          `${name}_ADDR=${ip}`,
          `${name}_PORT=${port.port}`,
          `${name}_PROTO=${port.protocol}`,
        ];
      }),
      `${prefix}_NAME=/${container.name}/${alias}`,
      ...target.record.spec.env
        .filter((entry) => !/^(PATH|HOME)=/.test(entry))
        .map((entry) => `${prefix}_ENV_${entry}`),
    ];
  });
}
