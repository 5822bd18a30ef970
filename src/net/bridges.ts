/**
 * Bridges of docker networks and the veth pairs between them and containers, as programs for netlink. Everything here
 * is pure; the engine runs the programs. The far side's index is chosen, so that nothing has to be asked back.
 */
import type { NetProgram, NetStep } from '#os/netlink.ts';
import { lastAddress, subnetOf } from '#base/ip.ts';

export interface BridgePlan {
  link: string;
  gateway: string;
  subnet: string;
  mtu?: number;
  /**
   * The instance's mark, by which `down` finds a bridge that a user named. Absent on a bridge that was there before us:
   * it stays.
   */
  mark?: string;
  /** The bridge gets no address (`inhibit_ipv4`, gateway mode `isolated`). */
  withoutAddress?: boolean;
}

export function planBridge(plan: BridgePlan): NetProgram {
  const subnet = subnetOf(plan.subnet);
  const address = `${plan.gateway}/${subnet.length}`;
  return {
    steps: [
      { op: 'addBridge', name: plan.link, ...(plan.mtu === undefined ? {} : { mtu: plan.mtu }), ignore: ['EEXIST'] },
      ...(plan.mark === undefined ? [] : [{ op: 'setLink' as const, name: plan.link, alias: plan.mark }]),
      ...(plan.withoutAddress === true
        ? []
        : [
            {
              op: 'addAddress' as const,
              link: plan.link,
              address,
              broadcast: lastAddress(subnet),
              ignore: ['EEXIST'],
            },
          ]),
      // Neither on a bridge that is somebody else's: it would stay so when our guard is gone.
      ...(plan.mark === undefined
        ? []
        : [{ op: 'sysctl' as const, path: `net/ipv4/conf/${plan.link}/route_localnet`, value: '1' }]),
      ...(plan.mark === undefined
        ? []
        : [{ op: 'sysctl' as const, path: `net/ipv6/conf/${plan.link}/disable_ipv6`, value: '1', ignore: ['ENOENT'] }]),
      { op: 'setLink', name: plan.link, up: true },
    ],
  };
}

export interface EndpointPlan {
  hostLink: string;
  bridge: string;
  namespace: string;
  /** `eth0` is index 2, `eth1` 3. */
  containerLink: string;
  index: number;
  ip: string;
  subnet: string;
  mac: string;
  /** Makes this endpoint the default route. */
  gateway?: string;
  mtu?: number;
  /** It reaches no other container on the bridge (`enable_icc` false). */
  apart?: boolean;
}

export function planEndpoint(plan: EndpointPlan): NetProgram[] {
  const subnet = subnetOf(plan.subnet);
  const inside: NetStep[] = [
    {
      op: 'addAddress',
      link: plan.containerLink,
      address: `${plan.ip}/${subnet.length}`,
      broadcast: lastAddress(subnet),
    },
    { op: 'setLink', name: plan.containerLink, up: true },
  ];
  if (plan.gateway !== undefined)
    inside.push({ op: 'addRoute', destination: 'default', via: plan.gateway, link: plan.containerLink, replace: true });
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
    { namespace: plan.namespace, steps: inside },
  ];
}
