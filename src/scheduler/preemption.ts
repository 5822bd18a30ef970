/**
 * Preemption: where removing Pods of lower priority would make room, which node that costs least on, and whom. Pure.
 * Disruption budgets are honoured where possible, not always. Spec: Kubernetes documentation, "Pod Priority and
 * Preemption".
 */
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { preemptionCandidatesMin, preemptionCandidatesPercent } from './limits.ts';
import { addPod, cloneNode, type NodeInfo, removePod } from './node-info.ts';
import { type Failure, prepareCheck, summarize } from './choose-node.ts';
import type { PodInfo } from './pod-info.ts';
import type { Snapshot } from './snapshot.ts';

export interface Victims {
  node: string;
  pods: PodInfo[];
  budgetViolations: number;
}
export type PreemptionPlan = { type: 'preempt'; victims: Victims } | { type: 'none'; message: string };

const startedAt = (pod: PodInfo): string => pod.pod.status?.startTime ?? pod.pod.metadata.creationTimestamp ?? '';

/** Important first: higher priority, then longer running. */
function byImportance(a: PodInfo, b: PodInfo): number {
  if (a.priority !== b.priority) return b.priority - a.priority;
  const [left, right] = [startedAt(a), startedAt(b)];
  if (left !== right) return left < right ? -1 : 1;
  return a.key < b.key ? -1 : 1;
}

/** Splits Pods into those whose removal some budget forbids now and the rest; each removal uses up its budgets. */
function splitByBudget(
  pods: readonly PodInfo[],
  budgets: readonly PodDisruptionBudget[],
): { violating: PodInfo[]; free: PodInfo[] } {
  const left = new Map(budgets.map((budget) => [budget, budget.status?.disruptionsAllowed ?? 0]));
  const violating: PodInfo[] = [];
  const free: PodInfo[] = [];
  for (const pod of pods) {
    let violates = false;
    for (const budget of budgets) {
      if (budget.metadata.namespace !== pod.namespace || !matchesSelectorObject(budget.spec.selector, pod.labels))
        continue;
      if (budget.status?.disruptedPods?.[pod.pod.metadata.name] !== undefined) continue;
      left.set(budget, left.get(budget)! - 1);
      if (left.get(budget)! < 0) violates = true;
    }
    (violates ? violating : free).push(pod);
  }
  return { violating, free };
}

/** The fewest and least important Pods whose removal lets the Pod fit, or a reason why none do. */
function victimsOn(
  pod: PodInfo,
  node: NodeInfo,
  snapshot: Snapshot,
  budgets: readonly PodDisruptionBudget[],
): Victims | string {
  const lower = [...node.pods.values()].filter((other) => other.priority < pod.priority);
  if (lower.length === 0) return 'No preemption victims found for incoming pod';
  const trial = cloneNode(node);
  const removed = new Set<string>();
  for (const other of lower) {
    removePod(trial, other.key);
    removed.add(other.uid);
  }
  const fits = (): boolean => {
    const check = prepareCheck(pod, snapshot, removed);
    return typeof check !== 'string' && check(trial) === undefined;
  };
  if (!fits()) return 'No preemption victims found for incoming pod';
  const { violating, free } = splitByBudget(lower.sort(byImportance), budgets);
  const victims: PodInfo[] = [];
  // The important ones are put back first; whoever then no longer fits beside the Pod is a victim.
  const reprieve = (other: PodInfo): boolean => {
    addPod(trial, other);
    removed.delete(other.uid);
    if (fits()) return true;
    removePod(trial, other.key);
    removed.add(other.uid);
    victims.push(other);
    return false;
  };
  let budgetViolations = 0;
  for (const other of violating) if (!reprieve(other)) budgetViolations++;
  for (const other of free) reprieve(other);
  return { node: node.name, pods: victims.sort(byImportance), budgetViolations };
}

function cheaper(a: Victims, b: Victims): number {
  if (a.budgetViolations !== b.budgetViolations) return a.budgetViolations - b.budgetViolations;
  const highest = (victims: Victims): number => victims.pods[0]?.priority ?? -Infinity;
  if (highest(a) !== highest(b)) return highest(a) - highest(b);
  const sum = (victims: Victims): number =>
    victims.pods.reduce((total, { priority }) => total + priority + 2_147_483_648, 0);
  if (sum(a) !== sum(b)) return sum(a) - sum(b);
  if (a.pods.length !== b.pods.length) return a.pods.length - b.pods.length;
  // Of equals, the one whose most important victim started latest.
  const [left, right] = [startedAt(a.pods[0]!), startedAt(b.pods[0]!)];
  return left === right ? 0 : left > right ? -1 : 1;
}

export function planPreemption(
  pod: PodInfo,
  failure: Failure,
  snapshot: Snapshot,
  budgets: readonly PodDisruptionBudget[],
): PreemptionPlan {
  const total = snapshot.nodes.length;
  if (pod.pod.spec.preemptionPolicy === 'Never')
    return { type: 'none', message: 'not eligible due to preemptionPolicy=Never.' };
  const nominated: string | undefined = pod.pod.status?.nominatedNodeName;
  const leaving = nominated === undefined ? undefined : snapshot.byName.get(nominated);
  if (
    leaving !== undefined &&
    [...leaving.pods.values()].some(
      (other) => other.priority < pod.priority && other.pod.metadata.deletionTimestamp !== undefined,
    )
  ) {
    return { type: 'none', message: 'not eligible due to a terminating pod on the nominated node.' };
  }
  const outcomes: { reasons: string[] }[] = [];
  const candidates: Victims[] = [];
  const wanted = Math.max(preemptionCandidatesMin, Math.floor((total * preemptionCandidatesPercent) / 100));
  for (const node of snapshot.nodes) {
    const rejection = failure.rejections.get(node.name);
    if (rejection === undefined || !rejection.resolvable) {
      outcomes.push({ reasons: ['Preemption is not helpful for scheduling'] });
      continue;
    }
    if (candidates.length >= wanted) break;
    const victims = victimsOn(pod, node, snapshot, budgets);
    if (typeof victims === 'string') outcomes.push({ reasons: [victims] });
    else if (victims.pods.length > 0) candidates.push(victims);
  }
  if (candidates.length === 0) return { type: 'none', message: summarize(total, outcomes) };
  return { type: 'preempt', victims: candidates.reduce((least, next) => (cheaper(next, least) < 0 ? next : least)) };
}
