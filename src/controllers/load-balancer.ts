/**
 * Addresses for Services of type LoadBalancer: of the pool that the user has named (`load-balancer-pool.ts`), which
 * machines announce; without one the nodes' own addresses serve, of which the provider chooses. This controller writes
 * them to the status and takes them away again.
 */
import { parseAddressPool, type AddressPool } from '#base/address-pool.ts';
import { familyOf } from '#base/ip.ts';
import { clusterConfig } from '#base/node-identity.ts';
import type { Node, Service } from '#api/core.v1.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isEqual } from './equality.ts';
import { isBalanced, PoolAllocation } from './load-balancer-pool.ts';
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
  const isOurs = isBalanced(service);
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
  const configs = context.informers.informer(kinds.ConfigMap, {
    namespace: clusterConfig.namespace,
    fieldSelector: `metadata.name=${clusterConfig.name}`,
  });
  const allocation = new PoolAllocation();
  const poolNow = (): AddressPool | undefined => parseAddressPool(configs.list()[0]?.data?.['loadBalancerPool']);
  const provide: AddressProvider = (service, list) => {
    const pool = poolNow();
    return pool === undefined ? addressesFor(service, list) : allocation.addressesFor(service, pool, services.list());
  };
  const queue = createQueue(context, 'load-balancer', async (key) => {
    const service = services.get(key);
    if (service === undefined) return;
    const loadBalancer = planLoadBalancer(service, nodes.list(), provide);
    if (loadBalancer === undefined) {
      if (poolNow() !== undefined && isBalanced(service) && (service.status?.loadBalancer?.ingress ?? []).length === 0)
        recorder.event(
          service,
          'Warning',
          'SyncLoadBalancerFailed',
          'no address is free, or not the one that is named',
        );
      return;
    }
    await context.client.update(
      kinds.Service,
      { ...service, status: { ...service.status, loadBalancer } },
      { subresource: 'status' },
    );
    if (loadBalancer.ingress.length > 0)
      recorder.event(service, 'Normal', 'EnsuredLoadBalancer', 'Ensured load balancer');
  });
  services.addHandler({ added: (o) => queue.add(keyOf(o)), updated: (o) => queue.add(keyOf(o)) });
  // One that is gone leaves its address to others.
  services.addHandler({ deleted: () => enqueueAll() });
  configs.addHandler({ added: () => enqueueAll(), updated: () => enqueueAll() });
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
