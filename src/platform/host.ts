/**
 * What an instance needs of the host before its processes start: directories, the link that carries the node's and the
 * DNS address (a bridge without ports: not every kernel has dummy links), and for each further node a network namespace
 * with a veth and routes. Everything is made when it is missing and left when it is there, so that this is also the
 * repair after a reboot. `removeHost` takes all of it away.
 */
import { rmSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { linkMark, linkPrefix } from '#net/kernel-names.ts';
import { findUnderlay, type Underlay } from '#net/underlay.ts';
import type { Netlink, NetProgram } from '#os/netlink.ts';
import type { Namespaces } from '#os/namespaces.ts';
import { ApiError } from '#base/errors.ts';
import { maskIp, parseCidr, type Subnet } from '#base/ip.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { linuxPortHolder } from '#os/ports.ts';
import type { Processes } from '#os/processes.ts';
import { join } from 'node:path';
import { clusterDnsAddress, nodePlan, type Instance, type NodePlan } from './instance.ts';
import { localNodes } from './local-nodes.ts';
import { files, makeDirectory, passageMode, privateMode, type Paths } from './paths.ts';

export function hostName(): string {
  return (
    hostname()
      .toLowerCase()
      .split('.')[0]!
      .replace(/[^a-z0-9-]/g, '-')
      .replace(/^-+|-+$/g, '') || 'node'
  );
}

/** IPv4 addresses of the host itself, without ours, docker's and loopback. */
export function hostAddresses(): string[] {
  return Object.entries(networkInterfaces())
    .filter(
      ([name]) =>
        !/^(lo|tph|docker|br-|veth|cni|flannel|virbr)/.test(name) &&
        !(readIfExists(`/sys/class/net/${name}/ifalias`) ?? '').startsWith(linkMark('')),
    )
    .flatMap(([, list]) => (list ?? []).filter((entry) => entry.family === 'IPv4').map((entry) => entry.address));
}

/** IPv4 networks that addresses or routes of this host already use. */
export async function usedSubnets(netlink: Netlink): Promise<Subnet[]> {
  const [addresses, routes] = await Promise.all([netlink.listAddresses(), netlink.listRoutes()]);
  return [
    ...addresses.map((entry) => `${entry.address}/${entry.prefix}`),
    ...routes.map(({ destination }) => (destination.includes('/') ? destination : `${destination}/32`)),
  ].flatMap((text) => {
    const cidr = parseCidr(text);
    return cidr === undefined || cidr.address.family !== 'IPv4' || cidr.length === 0
      ? []
      : [maskIp(cidr.address, cidr.length)];
  });
}

export function portIsFree(port: number, address = '0.0.0.0'): boolean {
  const held = linuxPortHolder.hold(address, port, 'tcp');
  if ('code' in held) return false;
  held.release();
  return true;
}

/**
 * What the kernel loads only when it is named: filesystems. Links, tables and sockets bring their modules by
 * themselves.
 */
export async function loadModules(processes: Processes): Promise<void> {
  if (/\boverlay$/m.test(readIfExists('/proc/filesystems') ?? '')) return;
  const done = await processes
    .run('modprobe', ['overlay'])
    .catch((error: unknown) => ({ code: 1, stderr: messageOf(error), stdout: '' }));
  if (done.code !== 0)
    throw new ApiError(
      'InternalError',
      `this kernel has no overlay filesystem, and it could not be loaded (modprobe overlay: ${done.stderr.trim()})`,
    );
}

function addressLink(node: NodePlan): string {
  return `${linkPrefix(node.instanceId)}h`;
}

const serviceNamespace = (paths: Paths, node: NodePlan): string => join(files.nodeRun(paths, node.number), 'netns');

/** The path of a node's network namespace; undefined for node 1, which is the host itself. */
export function nodeNamespace(paths: Paths, node: NodePlan): string | undefined {
  return node.number === 1 ? undefined : serviceNamespace(paths, node);
}

function addressProgram(instance: Instance, node: NodePlan, namespace: string | undefined): NetProgram {
  const link = addressLink(node);
  return {
    ...(namespace === undefined ? {} : { namespace }),
    steps: [
      { op: 'addBridge', name: link, ignore: ['EEXIST'] },
      { op: 'addAddress', link, address: `${node.address}/32`, ignore: ['EEXIST'] },
      { op: 'addAddress', link, address: `${clusterDnsAddress(instance)}/32`, ignore: ['EEXIST'] },
      { op: 'setLink', name: link, up: true },
      // What this node sends to Services has its address in the Pod network also where the Pod is on another machine:
      // its answer takes the way of the question.
      { op: 'addRoute', destination: instance.serviceRange, link, source: node.address, scope: 'link', replace: true },
      { op: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' },
    ],
  };
}

function uplinkName(instance: Instance, number: number): string {
  return `${linkPrefix(instance.id)}n${number}`;
}

/** The host's end of a further node's veth, with the routes over it. No-op where it is gone with its namespace. */
export async function removeUplink(instance: Instance, number: number, doors: { netlink: Netlink }): Promise<void> {
  await doors.netlink.run([{ steps: [{ op: 'deleteLink', name: uplinkName(instance, number), ignore: ['ENODEV'] }] }]);
}

/**
 * Veth between the host and a further node, with a route for the node's Pods on the host and a default route in the
 * node.
 */
function uplinkPrograms(instance: Instance, first: NodePlan, node: NodePlan, namespace: string): NetProgram[] {
  const outside = uplinkName(instance, node.number);
  return [
    {
      steps: [
        { op: 'addVeth', name: outside, peer: { name: 'up0', namespace }, ignore: ['EEXIST'] },
        { op: 'setLink', name: outside, up: true },
        { op: 'sysctl', path: `net/ipv4/conf/${outside}/route_localnet`, value: '1' },
        { op: 'addRoute', destination: `${node.address}/32`, link: outside, source: first.address, replace: true },
        {
          op: 'addRoute',
          destination: node.podRange,
          link: outside,
          via: node.address,
          source: first.address,
          onLink: true,
          replace: true,
        },
      ],
    },
    {
      namespace,
      steps: [
        { op: 'setLink', name: 'lo', up: true },
        { op: 'setLink', name: 'up0', up: true },
        { op: 'addRoute', destination: `${first.address}/32`, link: 'up0', source: node.address, replace: true },
        {
          op: 'addRoute',
          destination: 'default',
          link: 'up0',
          via: first.address,
          source: node.address,
          onLink: true,
          replace: true,
        },
      ],
    },
  ];
}

export async function prepareHost(
  instance: Instance,
  paths: Paths,
  doors: { netlink: Netlink; namespaces: Namespaces },
): Promise<void> {
  makeDirectory(paths.run, passageMode);
  for (const directory of [paths.data, files.processes(paths), files.logs(paths), join(paths.run, 'ready')])
    makeDirectory(directory, privateMode);
  await noteUnderlay(instance, paths, doors.netlink);
  const first = nodePlan(instance, 1, hostName());
  for (const number of localNodes(paths)) {
    const node = nodePlan(instance, number, hostName());
    makeDirectory(files.nodeData(paths, number), privateMode);
    makeDirectory(files.nodeRun(paths, number), privateMode);
    const namespace = nodeNamespace(paths, node);
    if (namespace !== undefined && !(await isNamespace(doors.netlink, namespace)))
      await doors.namespaces.create({ pins: { network: namespace } });
    await doors.netlink.run([
      addressProgram(instance, node, namespace),
      ...(namespace === undefined ? [] : uplinkPrograms(instance, first, node, namespace)),
    ]);
  }
}

/** By which link this machine reaches others; undefined where it has none. Nodes in namespaces cannot see it. */
export function loadUnderlay(paths: Paths): Underlay | undefined {
  const text = readIfExists(files.underlay(paths));
  const kept: unknown = text === undefined ? undefined : JSON.parse(text);
  const [link, address] = [textOf(kept, 'link'), textOf(kept, 'address')];
  if (link === undefined || address === undefined) return undefined;
  return { link, address, prefix: Number(fieldOf(kept, 'prefix')), mtu: Number(fieldOf(kept, 'mtu')) };
}

async function noteUnderlay(instance: Instance, paths: Paths, netlink: Netlink): Promise<void> {
  const found = await findUnderlay(netlink, instance.address);
  if (found === undefined) rmSync(files.underlay(paths), { force: true });
  else writeFileAtomic(files.underlay(paths), JSON.stringify(found), { mode: 0o600 });
}

/** IPv4, by which others reach this machine where nobody said another one. `remedy`: for a machine that has none. */
export async function defaultAddress(remedy: string): Promise<string> {
  const door = createNetworkDoor();
  try {
    const underlay = await findUnderlay(door.netlink);
    if (underlay !== undefined) return underlay.address;
  } finally {
    await door.close();
  }
  throw new ApiError('BadRequest', `this machine has no default route that would tell its address: ${remedy}`);
}

async function isNamespace(netlink: Netlink, path: string): Promise<boolean> {
  return netlink.listLinks(path).then(
    (links) => links.length > 0,
    () => false,
  );
}
