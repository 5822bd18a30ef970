/**
 * Topology spread constraints, hard and soft. Counts by domain are made once per decision.
 * Spec: Kubernetes documentation, "Pod Topology Spread Constraints" (skew, minDomains, inclusion policies).
 */
import { matchesLabels } from '#base/selectors.ts';
import { matchesNodeAffinity, type Rejection, untoleratedTaint } from './filters.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo, SpreadConstraint } from './pod-info.ts';
import type { Snapshot } from './snapshot.ts';

export interface ConstraintState {
  constraint: SpreadConstraint;
  counts: Map<string, number>;
  least: number;
  matchesItself: boolean;
}

function isEligible(pod: PodInfo, node: NodeInfo, constraint: SpreadConstraint): boolean {
  if (constraint.honorAffinity && !matchesNodeAffinity(pod, node)) return false;
  return (
    !constraint.honorTaints || untoleratedTaint(node.taints, pod.tolerations, ['NoSchedule', 'NoExecute']) === undefined
  );
}

function matching(
  pod: PodInfo,
  node: NodeInfo,
  constraint: SpreadConstraint,
  excluded: ReadonlySet<string> | undefined,
): number {
  if (constraint.selector === undefined) return 0;
  let count = 0;
  for (const other of node.pods.values()) {
    if (
      other.namespace === pod.namespace &&
      other.pod.metadata.deletionTimestamp === undefined &&
      excluded?.has(other.uid) !== true &&
      matchesLabels(constraint.selector, other.labels)
    )
      count++;
  }
  return count;
}

/** The constraints of one hardness with their counts; undefined when there are none. */
export function prepareSpread(
  pod: PodInfo,
  snapshot: Snapshot,
  hard: boolean,
  excluded?: ReadonlySet<string>,
): ConstraintState[] | undefined {
  const constraints = pod.spread.filter((constraint) => constraint.hard === hard);
  if (constraints.length === 0) return undefined;
  const states = constraints.map((constraint) => ({
    constraint,
    counts: new Map<string, number>(),
    least: 0,
    matchesItself: constraint.selector !== undefined && matchesLabels(constraint.selector, pod.labels),
  }));
  for (const node of snapshot.nodes) {
    if (!constraints.every(({ topologyKey }) => node.labels[topologyKey] !== undefined)) continue;
    for (const state of states) {
      if (!isEligible(pod, node, state.constraint)) continue;
      const domain = node.labels[state.constraint.topologyKey]!;
      state.counts.set(domain, (state.counts.get(domain) ?? 0) + matching(pod, node, state.constraint, excluded));
    }
  }
  for (const state of states) {
    // Fewer domains than wanted: the missing ones count as empty.
    state.least =
      state.counts.size === 0 || state.counts.size < state.constraint.minDomains
        ? 0
        : Math.min(...state.counts.values());
  }
  return states;
}

export function spreadRejection(states: readonly ConstraintState[], node: NodeInfo): Rejection | undefined {
  for (const { constraint, counts, least, matchesItself } of states) {
    const domain = node.labels[constraint.topologyKey];
    if (domain === undefined)
      return {
        plugin: 'PodTopologySpread',
        reasons: ["node(s) didn't match pod topology spread constraints (missing required label)"],
        resolvable: false,
      };
    const skew = (counts.get(domain) ?? 0) + (matchesItself ? 1 : 0) - least;
    if (skew > constraint.maxSkew)
      return {
        plugin: 'PodTopologySpread',
        reasons: ["node(s) didn't match pod topology spread constraints"],
        resolvable: true,
      };
  }
  return undefined;
}

/** Lower is better: matching Pods in the node's domains, each weighted by how many domains there are. */
export function spreadCost(states: readonly ConstraintState[], node: NodeInfo): number {
  let cost = 0;
  for (const { constraint, counts } of states) {
    const domain = node.labels[constraint.topologyKey];
    if (domain !== undefined) cost += (counts.get(domain) ?? 0) * Math.log(counts.size + 2) + (constraint.maxSkew - 1);
  }
  return cost;
}
