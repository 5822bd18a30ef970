/**
 * Every Pod is bound to a node that may have it, at the moment it is bound (Kubernetes documentation, "Assigning Pods
 * to Nodes", "Taints and Tolerations", "Pod Topology Spread Constraints"). What the scheduler placed itself it knows,
 * so that requests fit and Pods that shun each other do not meet without exception; what others do - taints, labels,
 * Pods that go - is judged by what was, at some time since it last certainly knew.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { addQuantities, compareQuantities, parseQuantity, type Quantity, zeroQuantity } from '#base/quantity.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

interface NodeVersion {
  node: KubeObject;
  untilMs: number;
}

const hostname = 'kubernetes.io/hostname';

/** What containers ask for, together (Pods with init containers are not judged). */
function requestsOf(pod: KubeObject): Map<string, Quantity> {
  const sums = new Map<string, Quantity>();
  for (const { resources } of pod['spec'].containers as Json[])
    for (const [name, text] of Object.entries((resources?.requests ?? {}) as Record<string, string>))
      sums.set(name, addQuantities(sums.get(name) ?? zeroQuantity(), parseQuantity(text)));
  return sums;
}

function isTolerated(taint: Json, pod: KubeObject): boolean {
  return ((pod['spec'].tolerations ?? []) as Json[]).some(
    ({ key, operator, value, effect }) =>
      (!effect || effect === taint.effect) &&
      (key
        ? key === taint.key && (operator === 'Exists' || (value ?? '') === (taint.value ?? ''))
        : operator === 'Exists'),
  );
}

/** Why a node, as it was, may not have the Pod. */
function refusal({ metadata, spec }: KubeObject, pod: KubeObject): string | undefined {
  for (const [label, value] of Object.entries(pod['spec'].nodeSelector ?? {}))
    if (metadata.labels?.[label] !== value) return `its ${label} is not ${String(value)}`;
  const taint = ((spec?.taints ?? []) as Json[]).find(
    (one) => one.effect !== 'PreferNoSchedule' && !isTolerated(one, pod),
  );
  return taint === undefined ? undefined : `taint ${taint.key}:${taint.effect}`;
}

class Places {
  readonly #world: World;
  readonly #report: (message: string) => void;
  readonly #nodes = new Map<string, NodeVersion[]>();

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  seeNode(name: string, node: KubeObject | undefined, atMs: number): void {
    const held = (this.#nodes.get(name) ?? []).filter(({ untilMs }) => untilMs >= this.#world.knownMs('scheduler'));
    const last = held.at(-1);
    if (last?.untilMs === Infinity) last.untilMs = atMs;
    this.#nodes.set(name, node === undefined ? held : [...held, { node, untilMs: Infinity }]);
  }

  judge(pod: KubeObject): void {
    const name: string = pod['spec'].nodeName;
    const versions = (this.#nodes.get(name) ?? []).filter(({ untilMs }) => untilMs >= this.#world.knownMs('scheduler'));
    const refusals = versions.map(({ node }) => refusal(node, pod));
    if (versions.length === 0) this.#report(`Pod ${pod.metadata.name} is bound to ${name}, which is not there`);
    else if (!refusals.includes(undefined))
      this.#report(`Pod ${pod.metadata.name} is bound to ${name}: ${refusals.at(-1)}`);
    const node = this.#world.objects.get(`/registry/nodes/${name}`);
    if (node === undefined) return;
    this.#judgeRoom(node);
    this.#judgeCompany(pod, node);
    if (this.#world.isInTouch('scheduler')) this.#judgeSpread(pod, node);
  }

  #judgeRoom(node: KubeObject): void {
    const pods = this.#world.podsOn(node.metadata.name!).filter((pod) => !isPodTerminal(pod));
    if (pods.some(({ spec }) => (spec.initContainers ?? []).length > 0)) return;
    const sums = new Map<string, Quantity>([['pods', parseQuantity(pods.length)]]);
    for (const pod of pods)
      for (const [name, quantity] of requestsOf(pod))
        sums.set(name, addQuantities(sums.get(name) ?? zeroQuantity(), quantity));
    for (const [name, quantity] of sums) {
      const room: string = node['status']?.allocatable?.[name] ?? '0';
      if (compareQuantities(quantity, parseQuantity(room)) > 0)
        this.#report(
          `${node.metadata.name} has ${room} ${name}, its Pods ask for ${String(Number(quantity.nano) / 1e9)}`,
        );
    }
  }

  /** Required anti-affinity, of the Pod and of those that are there; among Pods of one Namespace. */
  #judgeCompany(pod: KubeObject, node: KubeObject): void {
    const shuns = (one: KubeObject, other: KubeObject, topologyKey?: string): boolean =>
      ((one['spec'].affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []) as Json[]).some(
        (term) => term.topologyKey === topologyKey && matchesSelectorObject(term.labelSelector, other.metadata.labels),
      );
    for (const other of this.#world.podsOn(node.metadata.name!)) {
      if (
        other.metadata.uid === pod.metadata.uid ||
        other.metadata.namespace !== pod.metadata.namespace ||
        isPodTerminal(other)
      )
        continue;
      if (shuns(pod, other, hostname) || shuns(other, pod, hostname))
        this.#report(
          `Pod ${pod.metadata.name} is bound to ${node.metadata.name}, where ${other.metadata.name} is, which it shuns`,
        );
    }
  }

  /**
   * Hard spread constraints: the Pod's domain has at most `maxSkew` more than the emptiest. Pods that go count in
   * neither.
   */
  #judgeSpread(pod: KubeObject, node: KubeObject): void {
    for (const { topologyKey, maxSkew, whenUnsatisfiable, labelSelector, minDomains } of (pod['spec']
      .topologySpreadConstraints ?? []) as Json[]) {
      const domain = node.metadata.labels?.[topologyKey];
      if (whenUnsatisfiable !== 'DoNotSchedule' || minDomains !== undefined || domain === undefined) continue;
      const counts = new Map<string, number>();
      for (const { metadata } of this.#world.of('nodes')) {
        const name = metadata.labels?.[topologyKey];
        if (name === undefined) continue;
        const here = this.#world
          .podsOn(metadata.name!)
          .filter(
            (other) =>
              other.metadata.namespace === pod.metadata.namespace &&
              !isPodTerminal(other) &&
              matchesSelectorObject(labelSelector, other.metadata.labels) &&
              (name !== domain || other.metadata.deletionTimestamp === undefined),
          );
        counts.set(name, (counts.get(name) ?? 0) + here.length);
      }
      const skew = counts.get(domain)! - Math.min(...counts.values());
      if (skew > maxSkew)
        this.#report(
          `Pod ${pod.metadata.name} is bound to ${node.metadata.name}: ${domain} has ${counts.get(domain)} of its kind, the emptiest ${counts.get(domain)! - skew}`,
        );
    }
  }
}

export function placesRight(): Checker {
  const name = 'places-right';
  let places: Places | undefined;
  return {
    name,
    onCommit({ object, previous, key, atMs }, world) {
      places ??= new Places(world, name);
      if (key.startsWith('/registry/nodes/')) places.seeNode((object ?? previous)!.metadata.name!, object, atMs);
      else if (
        key.startsWith('/registry/pods/') &&
        object?.['spec'].nodeName !== undefined &&
        previous !== undefined &&
        previous['spec'].nodeName === undefined
      )
        places.judge(object);
    },
  };
}
