/**
 * EndpointSlices of Endpoints that somebody wrote by hand: a Service without a selector carries traffic to whatever
 * they name. Each subset becomes a slice for each address family. Endpoints of Services with a selector are the
 * endpointslice controller's own, and those with the label `skip-mirror` have slices of another's.
 * Spec: Kubernetes documentation, "EndpointSlices", "EndpointSlice mirroring".
 */
import { familyOf } from '#base/ip.ts';
import type { EndpointAddress, Endpoints, Service } from '#api/core.v1.ts';
import type { Endpoint, EndpointPort, EndpointSlice } from '#api/discovery.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { WorkQueue } from '#client/work-queue.ts';
import { canonicalJson, isEqual } from './equality.ts';
import { endpointsPerObjectMax } from './limits.ts';
import {
  type Controller,
  type ControllerContext,
  createQueue,
  deleteIfPresent,
  enqueueEach,
  forEachBounded,
  ownedBy,
} from './runtime.ts';

const managedBy = 'endpointslicemirroring-controller.k8s.io';
const managedByLabel = 'endpointslice.kubernetes.io/managed-by';
const serviceNameLabel = 'kubernetes.io/service-name';
const skipLabel = 'endpointslice.kubernetes.io/skip-mirror';
const leaderAnnotation = 'control-plane.alpha.kubernetes.io/leader';

export interface MirrorObserved {
  endpoints: Endpoints | undefined;
  service: Service | undefined;
  slices: EndpointSlice[];
}
export interface MirrorPlan {
  create: Manifest<EndpointSlice>[];
  update: EndpointSlice[];
  delete: EndpointSlice[];
}

interface Wanted {
  addressType: string;
  endpoints: Endpoint[];
  ports: EndpointPort[];
}

function isMirrored({ endpoints, service }: MirrorObserved): boolean {
  if (
    endpoints === undefined ||
    endpoints.metadata.deletionTimestamp !== undefined ||
    service === undefined ||
    service.metadata.deletionTimestamp !== undefined
  )
    return false;
  if (
    endpoints.metadata.labels?.[skipLabel] === 'true' ||
    endpoints.metadata.annotations?.[leaderAnnotation] !== undefined
  )
    return false;
  return Object.keys(service.spec?.selector ?? {}).length === 0 && service.spec?.type !== 'ExternalName';
}

function endpointOf(address: EndpointAddress, ready: boolean): Endpoint {
  return {
    addresses: [address.ip],
    conditions: { ready },
    ...(address.targetRef === undefined ? {} : { targetRef: address.targetRef }),
    ...(address.nodeName === undefined ? {} : { nodeName: address.nodeName }),
    ...(address.hostname === undefined ? {} : { hostname: address.hostname }),
  };
}

/** A slice for each address family of each subset. An address that is ready in a subset is not also unready there. */
function slicesOf(endpoints: Endpoints): Wanted[] {
  const out: Wanted[] = [];
  for (const subset of endpoints.subsets ?? []) {
    const byFamily = new Map<string, Map<string, Endpoint>>();
    let count = 0;
    for (const [list, ready] of [
      [subset.addresses, true],
      [subset.notReadyAddresses, false],
    ] as const) {
      for (const address of list ?? []) {
        const family = familyOf(address.ip) ?? 'IPv4';
        const known = byFamily.get(family) ?? new Map<string, Endpoint>();
        byFamily.set(family, known);
        if (known.has(address.ip) || count++ >= endpointsPerObjectMax) continue;
        known.set(address.ip, endpointOf(address, ready));
      }
    }
    const ports = (subset.ports ?? []).map(({ name, port, protocol, appProtocol }) => ({
      name: name ?? '',
      port,
      protocol: protocol ?? 'TCP',
      ...(appProtocol === undefined ? {} : { appProtocol }),
    }));
    for (const [addressType, list] of byFamily) out.push({ addressType, ports, endpoints: [...list.values()] });
  }
  return out;
}

export function planMirror(observed: MirrorObserved): MirrorPlan {
  const plan: MirrorPlan = { create: [], update: [], delete: [] };
  const live = observed.slices.filter((slice) => slice.metadata.deletionTimestamp === undefined);
  if (!isMirrored(observed)) return { ...plan, delete: live };
  const endpoints = observed.endpoints!;
  const { [skipLabel]: _s, ...ownLabels } = endpoints.metadata.labels ?? {};
  const labels = { ...ownLabels, [serviceNameLabel]: endpoints.metadata.name, [managedByLabel]: managedBy };
  const free = new Set(live);
  for (const wanted of slicesOf(endpoints)) {
    // The slice with the same ports is written over; one more is made, and what is left over goes.
    const held = [...free].find(
      (slice) =>
        slice.addressType === wanted.addressType && canonicalJson(slice.ports ?? []) === canonicalJson(wanted.ports),
    );
    if (held === undefined) {
      plan.create.push({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          generateName: `${endpoints.metadata.name}-`,
          namespace: endpoints.metadata.namespace,
          labels,
          ownerReferences: [ownedBy(endpoints)],
        },
        ...wanted,
      });
      continue;
    }
    free.delete(held);
    if (!isEqual(held.endpoints, wanted.endpoints) || !isEqual(held.metadata.labels, labels))
      plan.update.push({ ...held, metadata: { ...held.metadata, labels }, endpoints: wanted.endpoints });
  }
  plan.delete.push(...free);
  return plan;
}

class EndpointsMirroring {
  readonly #context: ControllerContext;
  readonly #services: Informer<Service>;
  readonly #endpoints: Informer<Endpoints>;
  readonly #slices: Informer<EndpointSlice>;
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    const { informers } = context;
    this.#services = informers.informer(kinds.Service);
    this.#endpoints = informers.informer(kinds.Endpoints);
    this.#slices = informers.informer(kinds.EndpointSlice).addIndex('mirrored', (slice) => {
      const { labels, namespace } = slice.metadata;
      return labels?.[managedByLabel] === managedBy ? `${namespace}/${labels[serviceNameLabel]}` : undefined;
    });
    this.queue = createQueue(context, 'endpoints-mirroring', (key) => this.#reconcile(key));
    enqueueEach(this.#endpoints, this.queue);
    // Of Services only those without a selector, or that had none, have anything to mirror.
    const enqueue = (service: Service): void => {
      if (
        Object.keys(service.spec?.selector ?? {}).length === 0 ||
        [...this.#slices.by('mirrored', keyOf(service))].length > 0
      )
        this.queue.add(keyOf(service));
    };
    this.#services.addHandler({ added: enqueue, updated: enqueue, deleted: enqueue });
    const enqueueSlice = (slice: EndpointSlice): void => {
      if (slice.metadata.labels?.[managedByLabel] === managedBy)
        this.queue.add(`${slice.metadata.namespace}/${slice.metadata.labels[serviceNameLabel]}`);
    };
    this.#slices.addHandler({ updated: enqueueSlice, deleted: enqueueSlice });
  }

  async #reconcile(key: string): Promise<void> {
    const slices = [...this.#slices.by('mirrored', key)];
    const endpoints = this.#endpoints.get(key);
    if (endpoints === undefined && slices.length === 0) return;
    const plan = planMirror({ endpoints, service: this.#services.get(key), slices });
    const { client } = this.#context;
    await forEachBounded(plan.update, (slice) => client.update(kinds.EndpointSlice, slice));
    await forEachBounded(plan.create, (slice) => client.create(kinds.EndpointSlice, slice));
    await forEachBounded(plan.delete, (slice) => deleteIfPresent(this.#context, kinds.EndpointSlice, slice));
  }
}

export function startEndpointsMirroring(context: ControllerContext): Controller {
  return { name: 'endpoints-mirroring', queues: [new EndpointsMirroring(context).queue] };
}
