/**
 * Bridges of docker networks and the veth pairs between them and containers, as programs for netlink. Everything here
 * is pure; the engine runs the programs. The far side's index is chosen, so that nothing has to be asked back.
 */
import type { NetProgram, NetStep } from '#os/netlink.ts';
import { ipFamilies, lastAddress, subnetOf, type IpFamily } from '#base/ip.ts';

export interface BridgePlan {
  link: string;
  /** The bridge's own, with prefix lengths, e.g. `172.17.0.1/16`. */
  addresses: string[];
  /** The network has addresses of version 6. */
  ipv6: boolean;
  mtu?: number;
  /**
   * The instance's mark, by which `down` finds a bridge that a user named. Absent on a bridge that was there before us:
   * it stays.
   */
  mark?: string;
  /** There are no rules: nothing would keep containers from what listens on the host's 127.0.0.1. */
  isUnguarded?: boolean;
}

export function planBridge(plan: BridgePlan): NetProgram {
  const { mark } = plan;
  const own = mark !== undefined;
  const sysctl = (family: 'ipv4' | 'ipv6', name: string, value: string, ignore: string[] = []): NetStep => ({
    op: 'sysctl',
    path: `net/${family}/conf/${plan.link}/${name}`,
    value,
    ignore,
  });
  return {
    steps: [
      { op: 'addBridge', name: plan.link, ...(plan.mtu === undefined ? {} : { mtu: plan.mtu }), ignore: ['EEXIST'] },
      ...(own ? [{ op: 'setLink' as const, name: plan.link, alias: mark }] : []),
      // Not on a bridge that is somebody else's: it would stay so when our guard is gone.
      ...(own ? [sysctl('ipv4', 'route_localnet', plan.isUnguarded === true ? '0' : '1')] : []),
      ...(plan.ipv6
        ? [sysctl('ipv6', 'disable_ipv6', '0'), ...(own ? [sysctl('ipv6', 'accept_ra', '0')] : [])]
        : own
          ? [sysctl('ipv6', 'disable_ipv6', '1', ['ENOENT'])]
          : []),
      ...plan.addresses.map((address) => planAddress(plan.link, address, ['EEXIST'])),
      { op: 'setLink', name: plan.link, up: true },
    ],
  };
}

function planAddress(link: string, address: string, ignore: string[] = []): NetStep {
  const subnet = subnetOf(address);
  const broadcast = subnet.family === 'IPv4' ? { broadcast: lastAddress(subnet) } : {};
  return { op: 'addAddress', link, address, ...broadcast, ignore };
}

export interface EndpointPlan {
  hostLink: string;
  bridge: string;
  namespace: string;
  /** `eth0` is index 2, `eth1` 3. */
  containerLink: string;
  index: number;
  /** With prefix lengths. */
  addresses: string[];
  /** Further addresses that are good on this link alone. */
  linkLocalIps: string[];
  /** Of the link inside, as paths below /proc/sys. */
  sysctls: { path: string; value: string }[];
  mac: string;
  mtu?: number;
  /** It reaches no other container on the bridge (`enable_icc` false). */
  apart?: boolean;
}

export function planEndpoint(plan: EndpointPlan): NetProgram[] {
  return [
    {
      steps: [
        {
          op: 'addVeth',
          name: plan.hostLink,
          master: plan.bridge,
          ...(plan.mtu === undefined ? {} : { mtu: plan.mtu }),
          peer: { name: plan.containerLink, index: plan.index, mac: plan.mac, namespace: plan.namespace },
        },
        { op: 'setLink', name: plan.hostLink, hairpin: true, ignore: ['EOPNOTSUPP', 'EINVAL'] },
        // Nothing else keeps neighbours on a bridge apart: a kernel that cannot do it must say so.
        ...(plan.apart === true ? [{ op: 'setLink' as const, name: plan.hostLink, isolated: true }] : []),
      ],
    },
    { namespace: plan.namespace, steps: planInside(plan) },
  ];
}

/** The container's side, whatever kind of link it is. */
export function planInside(
  plan: Pick<EndpointPlan, 'containerLink' | 'addresses' | 'linkLocalIps' | 'sysctls'>,
): NetStep[] {
  const local = plan.linkLocalIps.map((ip) => (ip.includes(':') ? `${ip}/64` : `${ip}/16`));
  const ipv6 = [...plan.addresses, ...local].some((address) => subnetOf(address).family === 'IPv6');
  return [
    {
      op: 'sysctl',
      path: `net/ipv6/conf/${plan.containerLink}/disable_ipv6`,
      value: ipv6 ? '0' : '1',
      ignore: ipv6 ? [] : ['ENOENT'],
    },
    ...[...plan.addresses, ...local].map((address) => planAddress(plan.containerLink, address)),
    ...plan.sysctls.map((sysctl): NetStep => ({ op: 'sysctl', ...sysctl })),
    { op: 'setLink', name: plan.containerLink, up: true },
  ];
}

/** The container's ways out, one in each family; a family without a gateway has none. */
export interface GatewayPlan {
  namespace: string;
  /** Nothing is there yet that would have to go. */
  fresh: boolean;
  /** Without `via` everything is on the link. */
  gateways: { family: IpFamily; link: string; via?: string }[];
}

/** Replaces the default routes. */
export function planGateways({ namespace, fresh, gateways }: GatewayPlan): NetProgram {
  return {
    namespace,
    steps: ipFamilies.flatMap((family): NetStep[] => {
      const gateway = gateways.find((one) => one.family === family);
      const destination = family === 'IPv4' ? '0.0.0.0/0' : '::/0';
      if (gateway !== undefined) {
        const { link, via } = gateway;
        return [{ op: 'addRoute', destination, link, ...(via === undefined ? {} : { via }), replace: true }];
      }
      return fresh ? [] : [{ op: 'deleteRoute', destination, ignore: ['ESRCH', 'ENOENT', 'ENODEV', 'ENETUNREACH'] }];
    }),
  };
}
