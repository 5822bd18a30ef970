/**
 * What the kernel must do so that packets reach Pods on other machines. Pure: from the Node objects and what this
 * machine is to routes and VXLAN entries. `machines.ts` applies them.
 *
 * Each Node says its Pod range and, in an annotation, where its machine is reached. Between machines of one link a
 * range is a route to the machine; where a router is between them the packets travel in VXLAN (RFC 7348), whose
 * tables are written from what the Nodes say, so that nothing is flooded and nothing is learned. Both keep the
 * addresses of Pods, which policies go by. A Node's range counts where it lies in the cluster's and nobody else's
 * overlaps it: a node may say what it likes of itself.
 */
import type { Node } from '#api/core.v1.ts';
import {
  addressAt,
  contains,
  containsSubnet,
  overlaps,
  parseIp,
  parseSubnet,
  subnetOf,
  type Subnet,
} from '#base/ip.ts';
import { machineAnnotations } from '#base/node-identity.ts';
import type { Underlay } from '#net/underlay.ts';

export interface MachineView {
  nodeName: string;
  /** Of the cluster. */
  podRange: string;
  underlay: Underlay;
  /** Where other machines reach this one: the address on the link, unless it is translated on the way. */
  machine: string;
  mode: 'auto' | 'routes' | 'vxlan';
}

/** Pods of another machine. */
export interface MachineRoute {
  podRange: string;
  way: 'route' | 'vxlan';
  /** Address of the machine. */
  machine: string;
  /** First address of the range: the node's own, and of its end of the VXLAN. */
  node: string;
}

export interface MachinePlan {
  routes: MachineRoute[];
  /** Nodes that no packet reaches, and why. */
  problems: string[];
}

/** VXLAN's, UDP's, Ethernet's and IPv4's headers. */
export const vxlanOverheadBytes = 50;

export function planMachineRoutes(nodes: readonly Node[], view: MachineView): MachinePlan {
  const plan: MachinePlan = { routes: [], problems: [] };
  const whole = subnetOf(view.podRange);
  const link = subnetOf(`${view.underlay.address}/${view.underlay.prefix}`);
  const own = nodes.filter((node) => isHere(node, view));
  // Who was first has the range.
  const inOrder = [...own, ...nodes.filter((node) => !own.includes(node)).sort(byAge)];
  const taken: { subnet: Subnet; name: string }[] = [];
  for (const node of inOrder) {
    const { name, annotations } = node.metadata;
    const range = node.spec.podCIDR;
    const subnet = parseSubnet(range);
    if (range === undefined || subnet === undefined) continue;
    const holder = taken.find((other) => overlaps(other.subnet, subnet));
    if (holder === undefined) taken.push({ subnet, name });
    if (isHere(node, view)) continue;
    const machine = annotations?.[machineAnnotations.address];
    if (holder !== undefined || !containsSubnet(whole, subnet)) {
      const why = holder === undefined ? `is not in the cluster's, ${view.podRange}` : `is of node ${holder.name}`;
      plan.problems.push(`Pod range ${range} of node ${name} ${why}`);
    } else if (parseIp(machine)?.family !== 'IPv4' || machine === undefined) {
      plan.problems.push(`node ${name} does not say where its machine is reached`);
    } else if (view.mode === 'routes' && !contains(link, machine)) {
      plan.problems.push(
        `node ${name} (${machine}) is not on the link ${view.underlay.link}: routes do not lead there (tiphys up --network auto)`,
      );
    } else {
      const way = view.mode !== 'vxlan' && contains(link, machine) ? 'route' : 'vxlan';
      plan.routes.push({ podRange: range, way, machine, node: addressAt(subnet, 1) });
    }
  }
  return plan;
}

/** Also the further nodes of this machine, which it routes to itself. */
function isHere({ metadata }: Node, { nodeName, machine }: MachineView): boolean {
  return metadata.name === nodeName || metadata.annotations?.[machineAnnotations.address] === machine;
}

function byAge(a: Node, b: Node): number {
  const keyOf = ({ metadata }: Node): string => `${metadata.creationTimestamp ?? ''} ${metadata.name}`;
  return keyOf(a) < keyOf(b) ? -1 : 1;
}
