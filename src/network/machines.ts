/**
 * Keeps the way to Pods on other machines: watches Nodes and the cluster's network mode, plans (`machine-routes.ts`),
 * and applies the difference to what the kernel has. Looks again now and then, because a host's network manager may
 * take routes away that it has not made.
 *
 * Nothing is kept but in the kernel: a process that comes back finds routes and the VXLAN as they are, and packets go
 * on meanwhile.
 */
import { containsSubnet, parseSubnet, subnetOf } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { clusterConfig } from '#base/node-identity.ts';
import { whenSettled } from '#base/promises.ts';
import type { InformerFactory } from '#client/informer.ts';
import { linkName, linkPrefix, macOfIp, tableName } from '#net/kernel-names.ts';
import { findUnderlay, type Underlay } from '#net/underlay.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Nft } from '#os/nft.ts';
import type { LinkInfo, Netlink, NetStep } from '#os/netlink.ts';
import { closeLoopback, openLoopback } from './loopback-guard.ts';
import { machineRoutesDelayMs, machineRoutesLookMs } from './limits.ts';
import {
  planMachineRoutes,
  vxlanOverheadBytes,
  type MachinePlan,
  type MachineRoute,
  type MachineView,
} from './machine-routes.ts';

export interface MachineRouterOptions {
  informers: InformerFactory;
  netlink: Netlink;
  nft: Nft;
  clock: Clock;
  log: Logger;
  instanceId: string;
  nodeName: string;
  /** The node's own address in its Pod range: the source of what it sends to Pods. */
  nodeAddress: string;
  /** Of the cluster. */
  podRange: string;
  vxlanId: number;
  /** This machine's address for others, where it was said. */
  address: string | undefined;
}

export interface MachineRouter extends AsyncDisposable {
  /** Resolves when the kernel has what the first list of Nodes says. */
  ready: Promise<void>;
}

/** IANA's. */
const vxlanPort = 4789;
const mainTable = 254;

/** What of the kernel concerns routes between machines. */
export interface MachineLinks {
  /** Routes to Pod ranges elsewhere. */
  routes: { destination: string; via: string; link: string }[];
  vxlan: LinkInfo | undefined;
}

async function observe(netlink: Netlink, podRange: string, instanceId: string): Promise<MachineLinks> {
  const [links, routes] = await Promise.all([netlink.listLinks(), netlink.listRoutes()]);
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const vxlanLink = linkName(instanceId, 'x', '');
  const whole = subnetOf(podRange);
  return {
    vxlan: links.find(({ name }) => name === vxlanLink),
    routes: routes.flatMap(({ family, destination, via, linkIndex, table }) => {
      const link = names.get(linkIndex) ?? '';
      // Links of the instance lead to its own nodes and Pods.
      const isElsewhere = link === vxlanLink || !link.startsWith(linkPrefix(instanceId));
      const subnet = family === 'IPv4' && via !== '' && table === mainTable ? parseSubnet(destination) : undefined;
      const isPods = subnet !== undefined && containsSubnet(whole, subnet);
      return isPods && isElsewhere ? [{ destination, via, link }] : [];
    }),
  };
}

/** What stands on the VXLAN's link, to see whether it is the one that is wanted. */
function aliasOf(id: number, underlay: Underlay): string {
  return `vxlan ${id} ${underlay.address} ${underlay.mtu - vxlanOverheadBytes}`;
}

export type ChangeInput = Pick<MachineRouterOptions, 'instanceId' | 'nodeAddress' | 'vxlanId'> & { underlay: Underlay };

/** The steps from what is to what shall be. `known`: ends of the VXLAN that are written down, machine by node. */
export function planChanges(
  { routes }: MachinePlan,
  kernel: MachineLinks,
  known: ReadonlyMap<string, string>,
  { instanceId, nodeAddress, vxlanId, underlay }: ChangeInput,
): NetStep[] {
  const vxlan = linkName(instanceId, 'x', '');
  const ends = routes.filter(({ way }) => way === 'vxlan');
  const isRight = kernel.vxlan?.alias === aliasOf(vxlanId, underlay) && kernel.vxlan.up;
  const steps: NetStep[] = [];
  if (kernel.vxlan !== undefined && (ends.length === 0 || !isRight))
    steps.push({ op: 'deleteLink', name: vxlan, ignore: ['ENODEV'] });
  if (ends.length > 0 && !isRight)
    steps.push(
      {
        op: 'addVxlan',
        name: vxlan,
        id: vxlanId,
        port: vxlanPort,
        local: underlay.address,
        mac: macOfIp(nodeAddress),
        mtu: underlay.mtu - vxlanOverheadBytes,
      },
      { op: 'setLink', name: vxlan, alias: aliasOf(vxlanId, underlay) },
      { op: 'sysctl', path: `net/ipv4/conf/${vxlan}/rp_filter`, value: '0' },
      { op: 'sysctl', path: `net/ipv4/conf/${vxlan}/route_localnet`, value: '1' },
      { op: 'sysctl', path: `net/ipv6/conf/${vxlan}/disable_ipv6`, value: '1', ignore: ['ENOENT'] },
      { op: 'addAddress', link: vxlan, address: `${nodeAddress}/32` },
      { op: 'setLink', name: vxlan, up: true },
    );
  for (const end of ends) if (!isRight || known.get(end.node) !== end.machine) steps.push(...planEnd(vxlan, end));
  const wanted = routes.map((route) => ({ ...route, link: route.way === 'vxlan' ? vxlan : underlay.link }));
  const viaOf = (route: MachineRoute): string => (route.way === 'vxlan' ? route.node : route.machine);
  for (const { destination, link, via } of kernel.routes) {
    const isWanted = wanted.some((route) => route.podRange === destination && route.link === link);
    // Routes over a VXLAN that was made anew went with it.
    if (!isWanted && (link !== vxlan || (isRight && ends.length > 0)))
      steps.push({ op: 'deleteRoute', destination, link, via, ignore: ['ESRCH', 'ENODEV'] });
  }
  for (const route of wanted) {
    const isThere = kernel.routes.some(
      ({ destination, link, via }) => destination === route.podRange && link === route.link && via === viaOf(route),
    );
    if (isThere && (route.way === 'route' || isRight)) continue;
    steps.push({
      op: 'addRoute',
      destination: route.podRange,
      link: route.link,
      via: viaOf(route),
      source: nodeAddress,
      ...(route.way === 'vxlan' ? { onLink: true } : {}),
      replace: true,
    });
  }
  return steps;
}

/** The other end is known by its node's address: neither is asked for by broadcast. */
function planEnd(vxlan: string, { node, machine }: MachineRoute): NetStep[] {
  const mac = macOfIp(node);
  return [
    { op: 'addNeighbour', link: vxlan, address: node, mac },
    // An entry for another machine would stay beside the new one.
    { op: 'deleteNeighbour', link: vxlan, address: machine, mac, forwarding: true, ignore: ['ENOENT'] },
    { op: 'addNeighbour', link: vxlan, address: machine, mac, forwarding: true },
  ];
}

const guardTable = (instanceId: string): string => `${tableName(instanceId)}_machines`;

/** Takes routes to other machines' Pods away; what is on links of the instance goes with them. */
export async function removeMachineRoutes(
  { netlink, nft }: Pick<MachineRouterOptions, 'netlink' | 'nft'>,
  { podRange, instanceId }: Pick<MachineRouterOptions, 'podRange' | 'instanceId'>,
): Promise<void> {
  await closeLoopback({ netlink, nft, table: guardTable(instanceId) });
  const { routes } = await observe(netlink, podRange, instanceId);
  const steps = routes.map(({ destination, link, via }): NetStep => ({
    op: 'deleteRoute',
    destination,
    link,
    via,
    ignore: ['ESRCH', 'ENODEV'],
  }));
  if (steps.length > 0) await netlink.run([{ steps }]);
}

export function runMachineRouter(options: MachineRouterOptions): MachineRouter {
  const { informers, netlink, clock, log } = options;
  const nodes = informers.informer(kinds.Node);
  const configs = informers.informer(kinds.ConfigMap, {
    namespace: clusterConfig.namespace,
    fieldSelector: `metadata.name=${clusterConfig.name}`,
  });
  let known = new Map<string, string>();
  const guard = { netlink, nft: options.nft, table: guardTable(options.instanceId) };
  /** Of what a process before this one did nothing is known. */
  let mayBeOpen = true;
  let told = '';
  let closed = false;
  let timer: Timer | undefined;
  let work: Promise<void> = Promise.resolve();

  const sync = async (): Promise<void> => {
    const underlay = await findUnderlay(netlink, options.address);
    if (underlay === undefined) return;
    const mode = modeOf(configs.list()[0]?.data?.['network']);
    const view: MachineView = { ...options, underlay, machine: options.address ?? underlay.address, mode };
    const plan = planMachineRoutes(nodes.list(), view);
    const problems = plan.problems.join('; ');
    if (problems !== told && problems !== '') log.warn('Pods of other machines are out of reach', { problems });
    told = problems;
    const kernel = await observe(netlink, options.podRange, options.instanceId);
    const steps = planChanges(plan, kernel, known, { ...options, underlay });
    if (steps.length > 0) await netlink.run([{ steps }]);
    const hasRoutes = plan.routes.some(({ way }) => way === 'route');
    if (hasRoutes) await openLoopback(guard, underlay.link);
    else if (mayBeOpen) await closeLoopback(guard);
    mayBeOpen = hasRoutes;
    known = new Map(plan.routes.filter(({ way }) => way === 'vxlan').map(({ node, machine }) => [node, machine]));
  };
  const look = async (): Promise<void> => {
    if (closed) return;
    try {
      await sync();
    } catch (error) {
      // Whatever stands is looked at anew.
      known = new Map();
      log.error('routes to other machines could not be made', { error });
    }
    schedule(machineRoutesLookMs);
  };
  const schedule = (delayMs: number): void => {
    timer?.cancel();
    if (closed) return;
    timer = clock.setTimer(
      delayMs,
      () => {
        work = work.then(look);
      },
      { background: true },
    );
  };
  const changed = (): void => schedule(machineRoutesDelayMs);
  const ready = (async () => {
    await Promise.all([nodes.synced, configs.synced]);
    work = work.then(look);
    await work;
    // A status that is written again and again changes no way.
    nodes.addHandler({
      added: changed,
      deleted: changed,
      updated: (node, before) => {
        if (
          node.spec.podCIDR !== before.spec.podCIDR ||
          JSON.stringify(node.metadata.annotations) !== JSON.stringify(before.metadata.annotations)
        )
          changed();
      },
    });
    configs.addHandler({ added: changed, updated: changed });
  })();
  return {
    ready,
    async [Symbol.asyncDispose]() {
      closed = true;
      timer?.cancel();
      await whenSettled(work);
    },
  };
}

function modeOf(text: string | undefined): MachineView['mode'] {
  return text === 'routes' || text === 'vxlan' ? text : 'auto';
}
