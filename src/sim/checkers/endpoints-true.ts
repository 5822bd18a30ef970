/**
 * A Service's slices name exactly the Pods behind it that have an address and have not ended, each once, with the right
 * conditions (Kubernetes documentation, "EndpointSlices": ready, serving, terminating), and at most a hundred to a
 * slice. Looked at whenever the controllers are in touch and have nothing to do, and at rest. Services without a
 * selector, and those of type ExternalName, are nobody's business; in a Namespace that goes nothing can be made any
 * more.
 */
import type { Pod, Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import { matchesLabels, selectorOfMap } from '#base/selectors.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

const endpointsPerSliceMax = 100;
/** Nothing has changed for this long: what can be done is done. */
const quietMs = 3_000;

function conditionsOf(pod: Pod, service: Service): string {
  const [serving, terminating] = [isPodReady(pod), pod.metadata.deletionTimestamp !== undefined];
  return `ready ${service.spec.publishNotReadyAddresses === true || (serving && !terminating)}, serving ${serving}, terminating ${terminating}`;
}

/** What is known of a Service: its slices, and the Pods that have an address and have not ended, by UID. */
interface Behind {
  service: Service;
  slices: readonly EndpointSlice[];
  pods: ReadonlyMap<string, Pod>;
}

function judge({ service, slices, pods }: Behind, report: (message: string) => void): void {
  const found = new Set<string | undefined>();
  for (const { metadata, endpoints = [] } of slices) {
    if (endpoints.length > endpointsPerSliceMax) report(`${metadata.name} holds ${endpoints.length} endpoints`);
    for (const { addresses, conditions = {}, targetRef, nodeName } of endpoints) {
      const uid = targetRef?.uid;
      const pod = pods.get(uid ?? '');
      const who = `Service ${service.metadata.name}: ${addresses[0]} of ${targetRef?.name}`;
      if (found.has(uid)) report(`${who} is named twice`);
      found.add(uid);
      if (pod === undefined || pod.status?.podIP !== addresses[0] || pod.spec.nodeName !== nodeName) {
        report(`${who} is still named`);
        continue;
      }
      const said = `ready ${conditions.ready}, serving ${conditions.serving}, terminating ${conditions.terminating}`;
      if (said !== conditionsOf(pod, service)) report(`${who} is called ${said}, it is ${conditionsOf(pod, service)}`);
    }
  }
  for (const [uid, { metadata, status }] of pods)
    if (!found.has(uid)) report(`Service ${service.metadata.name} lacks ${status?.podIP} of ${metadata.name}`);
}

function judgeAll(name: string, world: World): void {
  const slices = new Map<string, EndpointSlice[]>();
  for (const slice of world.of(kinds.EndpointSlice)) {
    const key = `${slice.metadata.namespace}/${slice.metadata.labels?.['kubernetes.io/service-name']}`;
    const held = slices.get(key);
    if (held === undefined) slices.set(key, [slice]);
    else held.push(slice);
  }
  const all = [...world.of(kinds.Pod)].filter((pod) => pod.status?.podIP !== undefined && !isPodTerminal(pod));
  for (const service of world.of(kinds.Service)) {
    const { namespace } = service.metadata;
    const { selector, type } = service.spec;
    if (selector === undefined || type === 'ExternalName' || world.isNamespaceLeaving(namespace)) continue;
    const requirements = selectorOfMap(selector);
    const pods = new Map<string, Pod>();
    for (const pod of all)
      if (pod.metadata.namespace === namespace && matchesLabels(requirements, pod.metadata.labels))
        pods.set(pod.metadata.uid, pod);
    judge({ service, slices: slices.get(keyOf(service)) ?? [], pods }, (message) => world.report(name, message));
  }
}

export function endpointsTrue(): Checker {
  const name = 'endpoints-true';
  let lookedMs = 0;
  return {
    name,
    onTick(world) {
      const { cluster } = world;
      if (
        !world.isInTouch('controllers') ||
        !cluster.isIdle() ||
        cluster.now - world.lastChangeMs < quietMs ||
        world.lastChangeMs === lookedMs
      )
        return;
      lookedMs = world.lastChangeMs;
      judgeAll(name, world);
    },
    atRest(world) {
      judgeAll(name, world);
    },
  };
}
