/**
 * A Service's slices name exactly the Pods behind it that have an address and have not ended, each once, with the right
 * conditions (Kubernetes documentation, "EndpointSlices": ready, serving, terminating), and at most a hundred to a
 * slice. Looked at whenever the controllers are in touch and have nothing to do, and at rest. Services without a
 * selector, and those of type ExternalName, are nobody's business; in a Namespace that goes nothing can be made any
 * more.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { matchesLabels, selectorOfMap } from '#base/selectors.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

const endpointsPerSliceMax = 100;
/** Nothing has changed for this long: what can be done is done. */
const quietMs = 3_000;

function conditionsOf(pod: KubeObject, service: KubeObject): string {
  const [serving, terminating] = [isPodReady(pod), pod.metadata.deletionTimestamp !== undefined];
  return `ready ${service['spec'].publishNotReadyAddresses === true || (serving && !terminating)}, serving ${serving}, terminating ${terminating}`;
}

function judge(
  name: string,
  service: KubeObject,
  slices: readonly KubeObject[],
  pods: readonly KubeObject[],
  world: World,
): void {
  const selector = selectorOfMap(service['spec'].selector);
  const wanted = new Map<string, KubeObject>();
  for (const pod of pods)
    if (
      pod.metadata.namespace === service.metadata.namespace &&
      pod['status']?.podIP !== undefined &&
      !isPodTerminal(pod) &&
      matchesLabels(selector, pod.metadata.labels)
    )
      wanted.set(pod.metadata.uid!, pod);
  const found = new Set<string>();
  for (const slice of slices) {
    const endpoints: Json[] = slice['endpoints'] ?? [];
    if (endpoints.length > endpointsPerSliceMax)
      world.report(name, `${slice.metadata.name} holds ${endpoints.length} endpoints`);
    for (const { addresses, conditions, targetRef, nodeName } of endpoints) {
      const pod = wanted.get(targetRef?.uid);
      const who = `Service ${service.metadata.name}: ${addresses[0]} of ${targetRef?.name}`;
      if (found.has(targetRef?.uid)) world.report(name, `${who} is named twice`);
      found.add(targetRef?.uid);
      if (pod === undefined || pod['status'].podIP !== addresses[0] || pod['spec'].nodeName !== nodeName) {
        world.report(name, `${who} is still named`);
        continue;
      }
      const said = `ready ${conditions.ready}, serving ${conditions.serving}, terminating ${conditions.terminating}`;
      if (said !== conditionsOf(pod, service))
        world.report(name, `${who} is called ${said}, it is ${conditionsOf(pod, service)}`);
    }
  }
  for (const [uid, pod] of wanted)
    if (!found.has(uid))
      world.report(name, `Service ${service.metadata.name} lacks ${pod['status'].podIP} of ${pod.metadata.name}`);
}

function judgeAll(name: string, world: World): void {
  const slices = new Map<string, KubeObject[]>();
  for (const slice of world.of('discovery.k8s.io/endpointslices')) {
    const key = `${slice.metadata.namespace}/${slice.metadata.labels?.['kubernetes.io/service-name']}`;
    const held = slices.get(key);
    if (held === undefined) slices.set(key, [slice]);
    else held.push(slice);
  }
  const pods = [...world.of('pods')];
  for (const service of world.of('services')) {
    const { selector, type } = service['spec'];
    if (
      selector === undefined ||
      type === 'ExternalName' ||
      world.objects.get(`/registry/namespaces/${service.metadata.namespace}`)?.metadata.deletionTimestamp !== undefined
    )
      continue;
    judge(name, service, slices.get(`${service.metadata.namespace}/${service.metadata.name}`) ?? [], pods, world);
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
