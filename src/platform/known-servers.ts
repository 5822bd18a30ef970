/**
 * Which API servers a node asks: its own machine's where there is one, then those of the Nodes that carry the control
 * plane's role, which no node may give itself. They are written down, so that a node finds them also when the one that
 * it once joined is gone.
 */
import type { Node } from '#api/core.v1.ts';
import { isIpv4, joinHostPort } from '#base/ip.ts';
import { controlPlaneRole, machineAnnotations } from '#base/node-identity.ts';
import { itemsOf } from '#base/unknown.ts';
import type { Informer } from '#client/informer.ts';
import type { ServerChoice } from '#client/server-choice.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { runsServer, serverAddress, type Instance, type NodePlan } from './instance.ts';
import { files, type Paths } from './paths.ts';

/** The API server: of this machine, or of the one whose cluster this one has joined. */
export function serverOf(instance: Instance, node: Pick<NodePlan, 'number'>): string {
  if (!runsServer(instance)) return instance.joined?.server ?? '';
  const address = node.number === 1 ? '127.0.0.1' : serverAddress(instance);
  return `https://${address}:${instance.apiPort}`;
}

/** Those of last time, `first` before the others. */
export function knownServers(paths: Paths, first: string): string[] {
  const kept: unknown = JSON.parse(readIfExists(files.servers(paths)) ?? '[]');
  return [...new Set([first, ...itemsOf(kept).filter((each) => typeof each === 'string')])];
}

/** Of the Nodes; not of `self`, which is known by another address. */
export function serversOf(nodes: readonly Node[], { self, port }: { self: string; port: number }): string[] {
  return nodes
    .filter(({ metadata }) => metadata.name !== self && metadata.labels?.[controlPlaneRole] !== undefined)
    .flatMap(({ metadata }) => {
      const address = metadata.annotations?.[machineAnnotations.address];
      return isIpv4(address) ? [`https://${joinHostPort(address ?? '', String(port))}`] : [];
    })
    .sort();
}

/** Follows the Nodes. What this node was told when it joined stays the last resort. */
export function followServers(
  { instance, node, paths, nodes }: { instance: Instance; node: NodePlan; paths: Paths; nodes: Informer<Node> },
  servers: ServerChoice,
): void {
  const own = serverOf(instance, node);
  const look = (): void => {
    const found = serversOf(nodes.list(), { self: node.name, port: instance.apiPort });
    // Before the machines' Nodes say where they are reached there is only the one.
    if (found.length === 0) return;
    const isListed = found.includes(own) || runsServer(instance);
    const all = isListed ? [...new Set([own, ...found])] : [...found, own];
    if (JSON.stringify(all) === JSON.stringify(servers.all)) return;
    servers.replace(all);
    writeFileAtomic(files.servers(paths), JSON.stringify(all), { mode: 0o600, sync: true });
  };
  nodes.addHandler({ added: look, updated: look, deleted: look });
}
