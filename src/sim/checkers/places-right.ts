/**
 * Every Pod is bound to a node that may have it, at the moment it is bound (Kubernetes documentation, "Assigning Pods
 * to Nodes", "Taints and Tolerations", "Pod Topology Spread Constraints"). What the scheduler placed itself it knows,
 * so that requests fit and Pods that shun each other do not meet without exception; what others do - taints, labels,
 * Pods that go - is judged by what was, at some time since it last certainly knew.
 */
import type { Node, Pod, Taint, TopologySpreadConstraint } from '#api/core.v1.ts';
import { addQuantities, compareQuantities, parseQuantity, type Quantity, zeroQuantity } from '#base/quantity.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { kinds } from '#base/kinds.ts';
import { isPodTerminal } from '#controllers/pods.ts';
import { type Checker, isCommitOf, type World } from '../world.ts';

interface NodeVersion {
  node: Node;
  untilMs: number;
}

const hostname = 'kubernetes.io/hostname';

/** What containers ask for, together (Pods with init containers are not judged). */
function requestsOf(pod: Pod): Map<string, Quantity> {
  const sums = new Map<string, Quantity>();
  for (const { resources } of pod.spec.containers)
    for (const [name, text] of Object.entries(resources?.requests ?? {}))
      sums.set(name, addQuantities(sums.get(name) ?? zeroQuantity(), parseQuantity(text)));
  return sums;
}

function isTolerated(taint: Taint, pod: Pod): boolean {
  return (pod.spec.tolerations ?? []).some(
    ({ key, operator, value, effect }) =>
      (!effect || effect === taint.effect) &&
      (key
        ? key === taint.key && (operator === 'Exists' || (value ?? '') === (taint.value ?? ''))
        : operator === 'Exists'),
  );
}

/** Why a node, as it was, may not have the Pod. */
function refusal({ metadata, spec }: Node, pod: Pod): string | undefined {
  for (const [label, value] of Object.entries(pod.spec.nodeSelector ?? {}))
    if (metadata.labels?.[label] !== value) return `its ${label} is not ${value}`;
  const taint = (spec.taints ?? []).find((one) => one.effect !== 'PreferNoSchedule' && !isTolerated(one, pod));
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

  seeNode(name: string, node: Node | undefined, atMs: number): void {
    const held = (this.#nodes.get(name) ?? []).filter(({ untilMs }) => untilMs >= this.#world.knownMs('scheduler'));
    const last = held.at(-1);
    if (last?.untilMs === Infinity) last.untilMs = atMs;
    this.#nodes.set(name, node === undefined ? held : [...held, { node, untilMs: Infinity }]);
  }

  /** Of a Pod that has just been bound to the node of this name. */
  judge(pod: Pod, name: string): void {
    const versions = (this.#nodes.get(name) ?? []).filter(({ untilMs }) => untilMs >= this.#world.knownMs('scheduler'));
    const refusals = versions.map(({ node }) => refusal(node, pod));
    if (versions.length === 0) this.#report(`Pod ${pod.metadata.name} is bound to ${name}, which is not there`);
    else if (!refusals.includes(undefined))
      this.#report(`Pod ${pod.metadata.name} is bound to ${name}: ${refusals.at(-1)}`);
    const node = this.#world.get(kinds.Node, name);
    if (node === undefined) return;
    this.#judgeRoom(node);
    this.#judgeCompany(pod, node);
    if (this.#world.isInTouch('scheduler'))
      for (const constraint of pod.spec.topologySpreadConstraints ?? []) this.#judgeSpread(pod, node, constraint);
  }

  #judgeRoom(node: Node): void {
    const pods = this.#world.podsOn(node.metadata.name).filter((pod) => !isPodTerminal(pod));
    if (pods.some(({ spec }) => (spec.initContainers ?? []).length > 0)) return;
    const sums = new Map<string, Quantity>([['pods', parseQuantity(pods.length)]]);
    for (const pod of pods)
      for (const [name, quantity] of requestsOf(pod))
        sums.set(name, addQuantities(sums.get(name) ?? zeroQuantity(), quantity));
    for (const [name, quantity] of sums) {
      const room = node.status?.allocatable?.[name] ?? '0';
      if (compareQuantities(quantity, parseQuantity(room)) > 0)
        this.#report(
          `${node.metadata.name} has ${room} ${name}, its Pods ask for ${String(Number(quantity.nano) / 1e9)}`,
        );
    }
  }

  /** Required anti-affinity, of the Pod and of those that are there; among Pods of one Namespace. */
  #judgeCompany(pod: Pod, node: Node): void {
    const shuns = (one: Pod, other: Pod): boolean =>
      (one.spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).some(
        (term) => term.topologyKey === hostname && matchesSelectorObject(term.labelSelector, other.metadata.labels),
      );
    for (const other of this.#world.podsOn(node.metadata.name)) {
      if (
        other.metadata.uid === pod.metadata.uid ||
        other.metadata.namespace !== pod.metadata.namespace ||
        isPodTerminal(other)
      )
        continue;
      if (shuns(pod, other) || shuns(other, pod))
        this.#report(
          `Pod ${pod.metadata.name} is bound to ${node.metadata.name}, where ${other.metadata.name} is, which it shuns`,
        );
    }
  }

  /**
   * A hard spread constraint: the Pod's domain has at most `maxSkew` more than the emptiest. Pods that go count in
   * neither.
   */
  #judgeSpread(pod: Pod, node: Node, constraint: TopologySpreadConstraint): void {
    const { topologyKey, maxSkew, whenUnsatisfiable, labelSelector, minDomains } = constraint;
    const domain = node.metadata.labels?.[topologyKey];
    if (whenUnsatisfiable !== 'DoNotSchedule' || minDomains !== undefined || domain === undefined) return;
    const counts = new Map<string, number>();
    for (const { metadata } of this.#world.of(kinds.Node)) {
      const name = metadata.labels?.[topologyKey];
      if (name === undefined) continue;
      const here = this.#world
        .podsOn(metadata.name)
        .filter(
          (other) =>
            other.metadata.namespace === pod.metadata.namespace &&
            !isPodTerminal(other) &&
            matchesSelectorObject(labelSelector, other.metadata.labels) &&
            (name !== domain || other.metadata.deletionTimestamp === undefined),
        );
      counts.set(name, (counts.get(name) ?? 0) + here.length);
    }
    const [here, emptiest] = [counts.get(domain) ?? 0, Math.min(...counts.values())];
    if (here - emptiest > maxSkew)
      this.#report(
        `Pod ${pod.metadata.name} is bound to ${node.metadata.name}: ${domain} has ${here} of its kind, the emptiest ${emptiest}`,
      );
  }
}

export function placesRight(): Checker {
  const name = 'places-right';
  let places: Places | undefined;
  return {
    name,
    onCommit(commit, world) {
      places ??= new Places(world, name);
      if (isCommitOf(kinds.Node, commit)) places.seeNode(commit.last.metadata.name, commit.object, commit.atMs);
      if (!isCommitOf(kinds.Pod, commit)) return;
      const { object, previous } = commit;
      if (object?.spec.nodeName !== undefined && previous !== undefined && previous.spec.nodeName === undefined)
        places.judge(object, object.spec.nodeName);
    },
  };
}
