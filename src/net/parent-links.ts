/**
 * Networks that stand on a link of the host instead of a bridge, macvlan and ipvlan: each container has a link of its
 * own on top of the parent, made in its namespace. Pure; the engine runs the programs.
 */
import type { ipvlanFlag, ipvlanMode, macvlanMode, NetProgram, NetStep } from '#os/netlink.ts';
import { planInside, type EndpointPlan } from './bridges.ts';

export type UpperKind =
  | { driver: 'macvlan'; mode: keyof typeof macvlanMode }
  | { driver: 'ipvlan'; mode: keyof typeof ipvlanMode; flag: keyof typeof ipvlanFlag };

export interface UpperPlan extends Omit<EndpointPlan, 'hostLink' | 'bridge' | 'apart'> {
  parent: string;
  kind: UpperKind;
}

export function planUpperEndpoint(plan: UpperPlan): NetProgram[] {
  const { parent, kind, namespace, containerLink: name, index } = plan;
  const link = { name, parent, index, namespace, ...(plan.mtu === undefined ? {} : { mtu: plan.mtu }) };
  const step: NetStep =
    kind.driver === 'macvlan'
      ? { op: 'addMacvlan', ...link, mode: kind.mode, mac: plan.mac }
      : { op: 'addIpvlan', ...link, mode: kind.mode, flag: kind.flag };
  // In mode passthru the link is made with its parent's address, and changes that with its own.
  const address: NetStep[] =
    kind.driver === 'macvlan' && kind.mode === 'passthru' ? [{ op: 'setLink', name, mac: plan.mac }] : [];
  return [{ steps: [step] }, { namespace, steps: [...address, ...planInside(plan)] }];
}

/**
 * A parent of the instance's own: where none was named, a bridge without ports (not every kernel has dummy links), over
 * which containers reach each other alone; else a VLAN of a link of the host.
 */
export function planParent(name: string, vlan: { parent: string; id: number } | undefined, mark: string): NetProgram {
  return {
    steps: [
      vlan === undefined ? { op: 'addBridge', name } : { op: 'addVlan', name, ...vlan },
      { op: 'setLink', name, alias: mark },
      ...(vlan === undefined
        ? [{ op: 'sysctl' as const, path: `net/ipv6/conf/${name}/disable_ipv6`, value: '1', ignore: ['ENOENT'] }]
        : []),
      { op: 'setLink', name, up: true },
    ],
  };
}
