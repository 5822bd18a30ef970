/**
 * Pod affinity and anti-affinity, required and preferred, in both directions: what the incoming Pod wants of those that
 * run, and what they want of it. Matching Pods are counted once per decision by topology domain; each node is then a
 * few look-ups.
 * Spec: Kubernetes documentation, "Inter-pod affinity and anti-affinity".
 */
import { type Labels, matchesLabels } from '#base/selectors.ts';
import type { Rejection } from './filters.ts';
import type { NodeInfo } from './node-info.ts';
import type { AffinityTerm, PodInfo } from './pod-info.ts';
import type { Snapshot } from './snapshot.ts';

/** Whether `term` (of another Pod or of the incoming one) selects this Pod. */
function selects(
  term: AffinityTerm,
  pod: { namespace: string; labels: Labels },
  snapshot: Pick<Snapshot, 'namespaceLabels'>,
): boolean {
  if (term.selector === undefined) return false;
  const inNamespace =
    term.namespaces.has(pod.namespace) ||
    (term.namespaceSelector !== undefined &&
      matchesLabels(term.namespaceSelector, snapshot.namespaceLabels(pod.namespace)));
  return inNamespace && matchesLabels(term.selector, pod.labels);
}

const domainOf = (key: string, value: string): string => `${key}\n${value}`;

export interface AffinityState {
  /** Domains where a running Pod's anti-affinity keeps the incoming one away. */
  forbidden: Map<string, number>;
  /** Per required term: matching Pods by domain. */
  wanted: Map<string, number>[];
  unwanted: Map<string, number>[];
  /** No Pod anywhere matches, and the incoming one matches itself: the first of its kind may go anywhere. */
  isFirst: boolean;
}

/** Undefined: nothing to check. `excluded` Pods count as gone (preemption). */
export function prepareAffinity(
  pod: PodInfo,
  snapshot: Snapshot,
  excluded?: ReadonlySet<string>,
): AffinityState | undefined {
  if (pod.affinity.length === 0 && pod.antiAffinity.length === 0 && !snapshot.hasRequiredAntiAffinity) return undefined;
  const state: AffinityState = {
    forbidden: new Map(),
    wanted: pod.affinity.map(() => new Map()),
    unwanted: pod.antiAffinity.map(() => new Map()),
    isFirst: false,
  };
  const needsAll = pod.affinity.length + pod.antiAffinity.length > 0;
  for (const node of snapshot.nodes) {
    for (const other of node.withRequiredAntiAffinity) {
      if (excluded?.has(other.uid) === true) continue;
      for (const term of other.antiAffinity) {
        const value = node.labels[term.topologyKey];
        if (value !== undefined && selects(term, pod, snapshot))
          bump(state.forbidden, domainOf(term.topologyKey, value));
      }
    }
    if (!needsAll) continue;
    for (const other of node.pods.values()) {
      // Also one that is being deleted: it runs until it is gone.
      if (excluded?.has(other.uid) === true) continue;
      // A Pod counts for affinity only where it matches all the terms.
      if (pod.affinity.length > 0 && pod.affinity.every((term) => selects(term, other, snapshot)))
        countIn(state.wanted, pod.affinity, node);
      for (const [index, term] of pod.antiAffinity.entries()) {
        const value = node.labels[term.topologyKey];
        if (value !== undefined && selects(term, other, snapshot)) bump(state.unwanted[index]!, value);
      }
    }
  }
  state.isFirst =
    pod.affinity.length > 0 &&
    state.wanted.every((domains) => domains.size === 0) &&
    pod.affinity.every((term) => selects(term, pod, snapshot));
  return state;
}

function countIn(domains: Map<string, number>[], terms: readonly AffinityTerm[], node: NodeInfo): void {
  for (const [index, term] of terms.entries()) {
    const value = node.labels[term.topologyKey];
    if (value !== undefined) bump(domains[index]!, value);
  }
}

function bump(map: Map<string, number>, key: string): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

export function affinityRejection(state: AffinityState, pod: PodInfo, node: NodeInfo): Rejection | undefined {
  for (const [index, term] of pod.affinity.entries()) {
    const value = node.labels[term.topologyKey];
    if (value === undefined || (!state.wanted[index]!.has(value) && !state.isFirst))
      return { plugin: 'InterPodAffinity', reasons: ["node(s) didn't match pod affinity rules"], resolvable: false };
  }
  for (const [index, term] of pod.antiAffinity.entries()) {
    const value = node.labels[term.topologyKey];
    if (value !== undefined && state.unwanted[index]!.has(value))
      return {
        plugin: 'InterPodAffinity',
        reasons: ["node(s) didn't match pod anti-affinity rules"],
        resolvable: true,
      };
  }
  if (state.forbidden.size > 0) {
    for (const key in node.labels) {
      if (state.forbidden.has(domainOf(key, node.labels[key]!)))
        return {
          plugin: 'InterPodAffinity',
          reasons: ["node(s) didn't satisfy existing pods anti-affinity rules"],
          resolvable: true,
        };
    }
  }
  return undefined;
}

/**
 * Weights by domain for scoring; undefined when nobody prefers anything. Required affinity of running Pods counts with
 * weight 1.
 */
export function preparePreferences(pod: PodInfo, snapshot: Snapshot): Map<string, number> | undefined {
  const own = pod.preferredAffinity.length + pod.preferredAntiAffinity.length > 0;
  if (!own && !snapshot.hasAffinity) return undefined;
  const weights = new Map<string, number>();
  const add = (term: AffinityTerm, node: NodeInfo, weight: number): void => {
    const value = node.labels[term.topologyKey];
    if (value === undefined) return;
    const domain = domainOf(term.topologyKey, value);
    weights.set(domain, (weights.get(domain) ?? 0) + weight);
  };
  for (const node of snapshot.nodes) {
    for (const other of own ? node.pods.values() : node.withAffinity) {
      for (const term of pod.preferredAffinity) if (selects(term, other, snapshot)) add(term, node, term.weight);
      for (const term of pod.preferredAntiAffinity) if (selects(term, other, snapshot)) add(term, node, -term.weight);
      for (const term of other.affinity) if (selects(term, pod, snapshot)) add(term, node, 1);
      for (const term of other.preferredAffinity) if (selects(term, pod, snapshot)) add(term, node, term.weight);
      for (const term of other.preferredAntiAffinity) if (selects(term, pod, snapshot)) add(term, node, -term.weight);
    }
  }
  return weights.size === 0 ? undefined : weights;
}

export function preferenceOf(weights: ReadonlyMap<string, number>, node: NodeInfo): number {
  let sum = 0;
  for (const key in node.labels) sum += weights.get(domainOf(key, node.labels[key]!)) ?? 0;
  return sum;
}
