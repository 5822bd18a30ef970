/**
 * EndpointSlices and Endpoints of Services with a selector: which Pod addresses are behind a Service, and which of them
 * are ready. Slices hold up to 100 endpoints; a change touches as few slices as it can. Endpoints (core/v1) are kept
 * beside them for those who still read them. Services without a selector are their owners' business.
 * Spec: Kubernetes documentation, "EndpointSlices"; conditions ready, serving, terminating.
 */
import { familyOf } from '#base/ip.ts';
import type { EndpointAddress, EndpointSubset, Endpoints, Node, Pod, Service, ServicePort } from '#api/core.v1.ts';
import type { Endpoint, EndpointPort, EndpointSlice } from '#api/discovery.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import { type LabelSelector, matchesLabels, selectorOfMap } from '#base/selectors.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { WorkQueue } from '#client/work-queue.ts';
import { canonicalJson, isEqual } from './equality.ts';
import { endpointsPerObjectMax, endpointsPerSliceMax } from './limits.ts';
import { isPodReady, isPodTerminal } from './pods.ts';
import {
  type Controller,
  type ControllerContext,
  createQueue,
  deleteIfPresent,
  enqueueEach,
  forEachBounded,
  ownedBy,
} from './runtime.ts';

const managedBy = 'endpointslice-controller.k8s.io';
const serviceNameLabel = 'kubernetes.io/service-name';

export interface EndpointsObserved {
  service: Service;
  pods: Pod[];
  slices: EndpointSlice[];
  nodeZone: (node: string) => string | undefined;
}
export interface EndpointSlicePlan {
  create: Manifest<EndpointSlice>[];
  update: EndpointSlice[];
  delete: EndpointSlice[];
}

interface Group {
  family: string;
  ports: EndpointPort[];
  endpoints: Endpoint[];
}

/** The number that a Service port's target has in this Pod; undefined where the Pod lacks the named port. */
function targetPortOf(pod: Pod, servicePort: ServicePort): number | undefined {
  const target = servicePort.targetPort ?? servicePort.port;
  if (typeof target === 'number') return target;
  const containers = [
    ...(pod.spec?.containers ?? []),
    ...(pod.spec?.initContainers ?? []).filter((c) => c.restartPolicy === 'Always'),
  ];
  for (const container of containers) {
    for (const port of container.ports ?? []) {
      if (port.name === target && (port.protocol ?? 'TCP') === (servicePort.protocol ?? 'TCP'))
        return port.containerPort;
    }
  }
  return undefined;
}

function endpointOf(
  pod: Pod,
  service: Service,
  address: string,
  nodeZone: (node: string) => string | undefined,
): Endpoint {
  const terminating = pod.metadata.deletionTimestamp !== undefined;
  const serving = isPodReady(pod);
  const publish = service.spec.publishNotReadyAddresses === true;
  const node: string | undefined = pod.spec?.nodeName;
  const zone = node === undefined ? undefined : nodeZone(node);
  const named = pod.spec?.hostname !== undefined && pod.spec?.subdomain === service.metadata.name;
  return {
    addresses: [address],
    conditions: { ready: publish || (serving && !terminating), serving, terminating },
    targetRef: { kind: 'Pod', namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid },
    ...(node === undefined ? {} : { nodeName: node }),
    ...(zone === undefined ? {} : { zone }),
    ...(named ? { hostname: pod.spec.hostname } : {}),
    ...(publish || (serving && !terminating) ? hintsOf(service, node, zone) : {}),
  };
}

/**
 * For whom an endpoint that takes connections is, where the Service wants them near: its own zone, and its own node
 * (Kubernetes documentation, "Service / Traffic distribution").
 */
function hintsOf(
  { spec: { trafficDistribution: wanted = '' } }: Service,
  node: string | undefined,
  zone: string | undefined,
): Pick<Endpoint, 'hints'> {
  if (!['PreferClose', 'PreferSameZone', 'PreferSameNode'].includes(wanted)) return {};
  const hints = {
    ...(zone === undefined ? {} : { forZones: [{ name: zone }] }),
    ...(node === undefined || wanted !== 'PreferSameNode' ? {} : { forNodes: [{ name: node }] }),
  };
  return Object.keys(hints).length === 0 ? {} : { hints };
}

/** Endpoints by address family and by the ports that they have in common. */
function groupEndpoints({ service, pods, nodeZone }: EndpointsObserved): Map<string, Group> {
  const groups = new Map<string, Group>();
  const families: string[] = service.spec.ipFamilies ?? ['IPv4'];
  for (const pod of pods) {
    if (isPodTerminal(pod)) continue;
    const addresses: string[] = (pod.status?.podIPs ?? []).map(({ ip }) => ip);
    if (addresses.length === 0 && pod.status?.podIP !== undefined) addresses.push(pod.status.podIP);
    for (const family of families) {
      const address = addresses.find((ip) => familyOf(ip) === family);
      if (address === undefined) continue;
      const ports: EndpointPort[] = [];
      for (const servicePort of service.spec.ports ?? []) {
        const port = targetPortOf(pod, servicePort);
        if (port !== undefined)
          ports.push({
            name: servicePort.name ?? '',
            port,
            protocol: servicePort.protocol ?? 'TCP',
            ...(servicePort.appProtocol === undefined ? {} : { appProtocol: servicePort.appProtocol }),
          });
      }
      if (ports.length === 0 && (service.spec.ports ?? []).length > 0) continue;
      const id = `${family}/${canonicalJson(ports)}`;
      let group = groups.get(id);
      if (group === undefined) groups.set(id, (group = { family, ports, endpoints: [] }));
      group.endpoints.push(endpointOf(pod, service, address, nodeZone));
    }
  }
  return groups;
}

export function planEndpointSlices(observed: EndpointsObserved): EndpointSlicePlan {
  const { service, slices } = observed;
  const plan: EndpointSlicePlan = { create: [], update: [], delete: [] };
  const groups = groupEndpoints(observed);
  if (groups.size === 0)
    groups.set('empty', { family: service.spec.ipFamilies?.[0] ?? 'IPv4', ports: [], endpoints: [] });
  const mine = slices.filter((slice) => slice.metadata.deletionTimestamp === undefined);
  const unclaimed = new Set(mine);
  const labels = sliceLabels(service);
  for (const { family, ports, endpoints } of groups.values()) {
    const held = mine.filter(
      (slice) => unclaimed.has(slice) && slice.addressType === family && isEqual(slice.ports, ports),
    );
    for (const slice of held) unclaimed.delete(slice);
    planGroup({ service, family, ports, endpoints, held, labels }, plan);
  }
  plan.delete.push(...unclaimed);
  return plan;
}

function sliceLabels(service: Service): Record<string, string> {
  const headless: Record<string, string> =
    service.spec.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {};
  return {
    ...service.metadata.labels,
    ...headless,
    [serviceNameLabel]: service.metadata.name,
    'endpointslice.kubernetes.io/managed-by': managedBy,
  };
}

interface PortGroup {
  service: Service;
  family: string;
  ports: EndpointPort[];
  endpoints: Endpoint[];
  held: EndpointSlice[];
  labels: Record<string, string>;
}

function planGroup({ service, family, ports, endpoints, held, labels }: PortGroup, plan: EndpointSlicePlan): void {
  const wanted = new Map(
    endpoints.map((endpoint) => [`${endpoint.targetRef?.uid}/${endpoint.addresses[0]}`, endpoint]),
  );
  const next: { slice: EndpointSlice | undefined; endpoints: Endpoint[] }[] = [];
  // What is already in a slice stays there; the rest fills gaps, then new slices.
  for (const slice of held) {
    const kept: Endpoint[] = [];
    for (const endpoint of slice.endpoints ?? []) {
      const id = `${endpoint.targetRef?.uid}/${endpoint.addresses[0]}`;
      const current = wanted.get(id);
      if (current === undefined) continue;
      wanted.delete(id);
      kept.push(current);
    }
    next.push({ slice, endpoints: kept });
  }
  const fresh = [...wanted.values()];
  for (const entry of next)
    while (fresh.length > 0 && entry.endpoints.length < endpointsPerSliceMax) entry.endpoints.push(fresh.shift()!);
  while (fresh.length > 0 || next.length === 0)
    next.push({ slice: undefined, endpoints: fresh.splice(0, endpointsPerSliceMax) });
  for (const [index, { slice, endpoints: list }] of next.entries()) {
    if (slice === undefined) {
      plan.create.push({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          generateName: `${service.metadata.name}-`,
          namespace: service.metadata.namespace,
          labels,
          ownerReferences: [ownedBy(service)],
        },
        addressType: family,
        endpoints: list,
        ports,
      });
    } else if (
      list.length === 0 &&
      next.some((other, at) => at !== index && (other.endpoints.length > 0 || at < index))
    )
      plan.delete.push(slice);
    else if (!isEqual(slice.endpoints, list) || !isEqual(slice.metadata.labels, labels))
      plan.update.push({ ...slice, metadata: { ...slice.metadata, labels }, endpoints: list });
  }
}

/** The older form: subsets by ports, ready and not ready addresses apart; at most 1,000 addresses. */
function planEndpoints({ service, pods }: Pick<EndpointsObserved, 'service' | 'pods'>): EndpointSubset[] {
  const subsets = new Map<string, Required<EndpointSubset>>();
  let count = 0;
  for (const pod of pods) {
    const ip: string | undefined = pod.status?.podIP;
    const publish = service.spec.publishNotReadyAddresses === true;
    if (
      ip === undefined ||
      isPodTerminal(pod) ||
      (pod.metadata.deletionTimestamp !== undefined && !publish) ||
      count >= endpointsPerObjectMax
    )
      continue;
    const ports = (service.spec.ports ?? []).flatMap((servicePort) => {
      const port = targetPortOf(pod, servicePort);
      return port === undefined
        ? []
        : [
            {
              ...(servicePort.name === undefined ? {} : { name: servicePort.name }),
              port,
              protocol: servicePort.protocol ?? 'TCP',
              ...(servicePort.appProtocol === undefined ? {} : { appProtocol: servicePort.appProtocol }),
            },
          ];
    });
    if (ports.length === 0 && (service.spec.ports ?? []).length > 0) continue;
    const named = pod.spec?.hostname !== undefined && pod.spec?.subdomain === service.metadata.name;
    const address = {
      ip,
      ...(named ? { hostname: pod.spec.hostname } : {}),
      ...(pod.spec?.nodeName === undefined ? {} : { nodeName: pod.spec.nodeName }),
      targetRef: { kind: 'Pod', namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid },
    };
    const id = canonicalJson(ports);
    let subset = subsets.get(id);
    if (subset === undefined) subsets.set(id, (subset = { addresses: [], notReadyAddresses: [], ports }));
    (publish || isPodReady(pod) ? subset.addresses : subset.notReadyAddresses).push(address);
    count++;
  }
  const byIp = (a: EndpointAddress, b: EndpointAddress): number => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0);
  return [...subsets.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { addresses, notReadyAddresses, ports }]) => ({
      ...(addresses.length === 0 ? {} : { addresses: addresses.sort(byIp) }),
      ...(notReadyAddresses.length === 0 ? {} : { notReadyAddresses: notReadyAddresses.sort(byIp) }),
      ports,
    }));
}

/** What of a Pod endpoints depend on: most status changes touch none of it. */
function concernsEndpoints(pod: Pod, previous: Pod): boolean {
  return (
    pod.status?.podIP !== previous.status?.podIP ||
    isPodReady(pod) !== isPodReady(previous) ||
    isPodTerminal(pod) !== isPodTerminal(previous) ||
    pod.metadata.deletionTimestamp !== previous.metadata.deletionTimestamp ||
    pod.spec?.nodeName !== previous.spec?.nodeName ||
    !isEqual(pod.metadata.labels, previous.metadata.labels)
  );
}

class EndpointSliceController {
  readonly #context: ControllerContext;
  readonly #services: Informer<Service>;
  readonly #pods: Informer<Pod>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #endpoints: Informer<Endpoints>;
  readonly #nodes: Informer<Node>;
  readonly #selectors = new WeakMap<Service, LabelSelector | undefined>();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { informers } = context;
    this.#services = informers.informer(kinds.Service).addIndex('namespace', indexes.namespace);
    this.#pods = informers.informer(kinds.Pod).addIndex('namespace', indexes.namespace);
    this.#slices = informers.informer(kinds.EndpointSlice).addIndex('service', (slice) => {
      const name = slice.metadata.labels?.[serviceNameLabel];
      return name === undefined || slice.metadata.labels?.['endpointslice.kubernetes.io/managed-by'] !== managedBy
        ? undefined
        : `${slice.metadata.namespace}/${name}`;
    });
    this.#endpoints = informers.informer(kinds.Endpoints);
    this.#nodes = informers.informer(kinds.Node);
    this.queue = createQueue(context, 'endpointslice', (key) => this.#reconcile(key));
    enqueueEach(this.#services, this.queue);
    this.#pods.addHandler({
      added: (pod) => this.#enqueueServices(pod),
      updated: (pod, previous) => {
        if (!concernsEndpoints(pod, previous)) return;
        this.#enqueueServices(pod);
        if (pod.metadata.labels !== previous.metadata.labels) this.#enqueueServices(previous);
      },
      deleted: (pod) => this.#enqueueServices(pod),
    });
    const enqueueOwner = (slice: EndpointSlice): void => {
      const name = slice.metadata.labels?.[serviceNameLabel];
      if (name !== undefined) this.queue.add(`${slice.metadata.namespace}/${name}`);
    };
    this.#slices.addHandler({ deleted: enqueueOwner, updated: enqueueOwner });
    this.#endpoints.addHandler({ deleted: (object) => this.queue.add(keyOf(object)) });
  }

  #selectorOf(service: Service): LabelSelector | undefined {
    let selector = this.#selectors.get(service);
    if (selector === undefined && service.spec?.selector !== undefined && service.spec.type !== 'ExternalName') {
      selector = selectorOfMap(service.spec.selector);
      if (selector.length === 0) selector = undefined;
      this.#selectors.set(service, selector);
    }
    return selector;
  }

  #enqueueServices(pod: Pod): void {
    for (const service of this.#services.by('namespace', pod.metadata.namespace)) {
      const selector = this.#selectorOf(service);
      if (selector !== undefined && matchesLabels(selector, pod.metadata.labels)) this.queue.add(keyOf(service));
    }
  }

  async #reconcile(key: string): Promise<void> {
    const service = this.#services.get(key);
    const slices = [...this.#slices.by('service', key)];
    if (service === undefined || service.metadata.deletionTimestamp !== undefined) {
      await this.#cleanUp(key, slices);
      return;
    }
    const selector = this.#selectorOf(service);
    if (selector === undefined) return;
    const pods: Pod[] = [];
    for (const pod of this.#pods.by('namespace', service.metadata.namespace))
      if (matchesLabels(selector, pod.metadata.labels)) pods.push(pod);
    const nodeZone = (node: string): string | undefined =>
      this.#nodes.get(node)?.metadata.labels?.['topology.kubernetes.io/zone'];
    const plan = planEndpointSlices({ service, pods, slices, nodeZone });
    const { client } = this.#context;
    await forEachBounded(plan.update, (slice) => client.update(kinds.EndpointSlice, slice));
    await forEachBounded(plan.create, (slice) => client.create(kinds.EndpointSlice, slice));
    await forEachBounded(plan.delete, (slice) => deleteIfPresent(this.#context, kinds.EndpointSlice, slice));
    await this.#writeEndpoints(key, service, planEndpoints({ service, pods }));
  }

  async #cleanUp(key: string, slices: EndpointSlice[]): Promise<void> {
    await forEachBounded(slices, (slice) => deleteIfPresent(this.#context, kinds.EndpointSlice, slice));
    const endpoints = this.#endpoints.get(key);
    if (endpoints?.metadata.labels?.['endpoints.kubernetes.io/managed-by'] === 'endpoint-controller') {
      await deleteIfPresent(this.#context, kinds.Endpoints, endpoints);
    }
  }

  async #writeEndpoints(key: string, service: Service, subsets: EndpointSubset[]): Promise<void> {
    const held = this.#endpoints.get(key);
    const headless: Record<string, string> =
      service.spec.clusterIP === 'None' ? { 'service.kubernetes.io/headless': '' } : {};
    const labels = {
      ...service.metadata.labels,
      ...headless,
      'endpoints.kubernetes.io/managed-by': 'endpoint-controller',
    };
    if (held !== undefined && isEqual(held.subsets, subsets) && isEqual(held.metadata.labels, labels)) return;
    const { namespace, name } = service.metadata;
    if (held !== undefined) {
      await this.#context.client.update(kinds.Endpoints, { ...held, metadata: { ...held.metadata, labels }, subsets });
      return;
    }
    try {
      await this.#context.client.create(kinds.Endpoints, {
        apiVersion: 'v1',
        kind: 'Endpoints',
        metadata: { name: name, namespace: namespace, labels },
        subsets,
      });
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
    }
  }
}

// walk service-packet 1/4: ready Pods become endpoints.
export function startEndpointSliceController(context: ControllerContext): Controller {
  const controller = new EndpointSliceController(context);
  return { name: 'endpointslice', queues: [controller.queue] };
}
