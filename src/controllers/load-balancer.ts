/**
 * Addresses for Services of type LoadBalancer. Without a cloud the nodes' own addresses serve: on one machine that
 * address is the node's. Which addresses to give is the provider's choice (`src/cloud`); this controller writes them to
 * the status and takes them away again.
 */
import { familyOf } from '#base/ip.ts';
import type { Node, Service } from '#api/core.v1.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isEqual } from './equality.ts';
import { conditionOf } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, recorderOf } from './runtime.ts';

export type AddressProvider = (service: Service, nodes: readonly Node[]) => string[];

/** The address of the first ready node that lets load balancers use it. */
const nodeAddressProvider: AddressProvider = (service, nodes) => {
  const usable = nodes.filter(
    (node) =>
      node.metadata.labels?.['node.kubernetes.io/exclude-from-external-load-balancers'] === undefined &&
      conditionOf(node, 'Ready')?.status === 'True',
  );
  const wanted: string[] = service.spec.ipFamilies ?? ['IPv4'];
  for (const node of usable.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    const addresses = (node.status?.addresses ?? []) as { type: string; address: string }[];
    const chosen = wanted.flatMap(
      (family) =>
        addresses.find(
          ({ type, address }) => (type === 'ExternalIP' || type === 'InternalIP') && familyOf(address) === family,
        )?.address ?? [],
    );
    if (chosen.length > 0) return chosen;
  }
  return [];
};

/** The status that a Service shall have; undefined where it is right. */
function planLoadBalancer(
  service: Service,
  nodes: readonly Node[],
  addressesFor: AddressProvider,
): { ingress: { ip: string; ipMode: string }[] } | undefined {
  const isOurs =
    service.spec?.type === 'LoadBalancer' &&
    service.spec.loadBalancerClass === undefined &&
    service.metadata.deletionTimestamp === undefined;
  const held: { ip?: string }[] = service.status?.loadBalancer?.ingress ?? [];
  const addresses = isOurs ? addressesFor(service, nodes) : [];
  // An address that was given stays while there is no other to give.
  if (service.spec?.loadBalancerClass !== undefined || (isOurs && addresses.length === 0 && held.length > 0))
    return undefined;
  const ingress = addresses.map((ip) => ({ ip, ipMode: 'VIP' }));
  return isEqual(held, ingress) ? undefined : { ingress };
}

export function startLoadBalancerController(
  context: ControllerContext,
  addressesFor: AddressProvider = nodeAddressProvider,
): Controller {
  const recorder = recorderOf(context, 'service-controller');
  const services = context.informers.informer(kinds.Service);
  const nodes = context.informers.informer(kinds.Node);
  const queue = createQueue(context, 'load-balancer', async (key) => {
    const service = services.get(key);
    if (service === undefined) return;
    const loadBalancer = planLoadBalancer(service, nodes.list(), addressesFor);
    if (loadBalancer === undefined) return;
    await context.client.update(
      kinds.Service,
      { ...service, status: { ...service.status, loadBalancer } },
      { subresource: 'status' },
    );
    if (loadBalancer.ingress.length > 0)
      recorder.event(service, 'Normal', 'EnsuredLoadBalancer', 'Ensured load balancer');
  });
  services.addHandler({ added: (o) => queue.add(keyOf(o)), updated: (o) => queue.add(keyOf(o)) });
  const enqueueAll = (): void => {
    for (const service of services.values()) if (service.spec?.type === 'LoadBalancer') queue.add(keyOf(service));
  };
  nodes.addHandler({
    added: enqueueAll,
    deleted: enqueueAll,
    updated: (node, previous) => {
      if (
        !isEqual(node.status?.addresses, previous.status?.addresses) ||
        conditionOf(node, 'Ready')?.status !== conditionOf(previous, 'Ready')?.status
      )
        enqueueAll();
    },
  });
  return { name: 'load-balancer', queues: [queue] };
}
