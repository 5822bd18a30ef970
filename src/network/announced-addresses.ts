/**
 * Which machine announces an address of the user's pool: one that lives, is on the address's link where any is, and has
 * Pods of the Service where that sends to Pods of the receiving node alone. Of those it is the one whose hash with the
 * address is highest (rendezvous hashing): every machine finds the same one by the same Nodes, nobody has to be asked,
 * and when a machine is lost its addresses alone move.
 */
import { createHash } from 'node:crypto';
import type { Node, Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { AddressPool } from '#base/address-pool.ts';
import { contains, subnetOf } from '#base/ip.ts';
import { machineAnnotations } from '#base/node-identity.ts';

export interface AnnounceView {
  services: readonly Service[];
  slices: readonly EndpointSlice[];
  nodes: readonly Node[];
  pool: AddressPool;
  /** Where others reach this machine. */
  machine: string;
  /** Length of the prefix of its link. */
  prefix: number;
}

const excluded = 'node.kubernetes.io/exclude-from-external-load-balancers';

/** The addresses that this machine is to have. */
export function planAnnounced(view: AnnounceView): string[] {
  const out = new Set<string>();
  for (const service of view.services)
    for (const { ip = '' } of service.spec.type === 'LoadBalancer' ? (service.status?.loadBalancer?.ingress ?? []) : [])
      if (view.pool.has(ip) && holderOf(ip, service, view) === view.machine) out.add(ip);
  return [...out].sort();
}

/** Undefined where no machine may have it. */
function holderOf(address: string, service: Service, view: AnnounceView): string | undefined {
  const machines = machinesFor(service, view);
  const link = subnetOf(`${address}/${view.prefix}`);
  const near = machines.filter((machine) => contains(link, machine));
  const weigh = (machine: string): string => createHash('sha256').update(`${address} ${machine}`).digest('hex');
  return (near.length > 0 ? near : machines).toSorted((a, b) => (weigh(a) < weigh(b) ? 1 : -1))[0];
}

function machinesFor({ spec, metadata }: Service, { nodes, slices }: AnnounceView): string[] {
  const live = nodes.filter(
    ({ metadata: { labels }, status }) =>
      labels?.[excluded] === undefined &&
      (status?.conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True'),
  );
  const withPods = new Set(
    slices
      .filter((slice) => isOf(slice, metadata))
      .flatMap(({ endpoints }) => endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false)
      .map(({ nodeName }) => nodeName),
  );
  const usable =
    spec.externalTrafficPolicy === 'Local' ? live.filter((node) => withPods.has(node.metadata.name)) : live;
  return [...new Set(usable.flatMap((node) => node.metadata.annotations?.[machineAnnotations.address] ?? []))];
}

function isOf(slice: EndpointSlice, { name, namespace }: Service['metadata']): boolean {
  const { labels, namespace: own } = slice.metadata;
  return own === namespace && labels?.['kubernetes.io/service-name'] === name;
}
