/**
 * A Pod's way to the network: a veth pair without a bridge. Inside, one address with prefix 32 and a default route over
 * the link-local gateway 169.254.1.1; outside, one route to the address. Both neighbours are written down, so that no
 * ARP is needed and none can be spoofed. Routed, every packet of a Pod passes the host's IP layer, so that Services and
 * policy hold whatever the host's bridge settings are.
 */
import type { NetProgram } from '#os/netlink.ts';

const podGateway = '169.254.1.1';
/** One address for the host's side of every Pod: it is never on a shared segment. */
const gatewayMac = 'ee:ee:ee:ee:ee:ee';

export interface PodLinkPlan {
  hostLink: string;
  namespace: string;
  ip: string;
  mac: string;
  mtu?: number;
  hostIp?: string;
}

// walk pod-ip 4/5: a veth with the address as /32, a link-local gateway, and a route on the host.
export function planPodLink(plan: PodLinkPlan): NetProgram[] {
  return [
    {
      steps: [
        {
          op: 'addVeth',
          name: plan.hostLink,
          mac: gatewayMac,
          ...(plan.mtu === undefined ? {} : { mtu: plan.mtu }),
          peer: { name: 'eth0', index: 2, mac: plan.mac, namespace: plan.namespace },
        },
        { op: 'sysctl', path: `net/ipv4/conf/${plan.hostLink}/proxy_arp`, value: '1' },
        { op: 'sysctl', path: `net/ipv4/conf/${plan.hostLink}/route_localnet`, value: '1' },
        { op: 'sysctl', path: `net/ipv4/conf/${plan.hostLink}/rp_filter`, value: '0' },
        { op: 'sysctl', path: `net/ipv6/conf/${plan.hostLink}/disable_ipv6`, value: '1', ignore: ['ENOENT'] },
        {
          op: 'addRoute',
          destination: `${plan.ip}/32`,
          link: plan.hostLink,
          scope: 'link',
          replace: true,
          ...(plan.hostIp === undefined ? {} : { source: plan.hostIp }),
        },
        { op: 'addNeighbour', link: plan.hostLink, address: plan.ip, mac: plan.mac },
      ],
    },
    {
      namespace: plan.namespace,
      steps: [
        { op: 'addAddress', link: 'eth0', address: `${plan.ip}/32` },
        { op: 'setLink', name: 'eth0', up: true },
        { op: 'addNeighbour', link: 'eth0', address: podGateway, mac: gatewayMac },
        { op: 'addRoute', destination: `${podGateway}/32`, link: 'eth0', scope: 'link' },
        { op: 'addRoute', destination: 'default', via: podGateway, link: 'eth0' },
      ],
    },
  ];
}

/**
 * A link (a bridge without ports: not every kernel has dummy links) that holds the node's own address in the range: the
 * source of what the node sends to Pods.
 */
export function planNodeAddress(link: string, ip: string): NetProgram {
  return {
    steps: [
      { op: 'addBridge', name: link, ignore: ['EEXIST'] },
      { op: 'addAddress', link, address: `${ip}/32`, ignore: ['EEXIST'] },
      { op: 'setLink', name: link, up: true },
    ],
  };
}
