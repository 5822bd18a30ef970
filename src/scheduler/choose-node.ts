/**
 * One scheduling decision: filter, score, choose. Pure but for the random draw among equals, which is passed in.
 * Not every node of a large cluster is looked at: the search goes round from where the last one ended and stops at
 * enough feasible nodes (Kubernetes documentation, "Scheduler Performance Tuning").
 */
import type { Random } from '#os/clock.ts';
import { affinityRejection, prepareAffinity } from './affinity.ts';
import { type Rejection, rejectionOf } from './filters.ts';
import { feasibleNodesMin, feasiblePercentMin } from './limits.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo } from './pod-info.ts';
import { scoreNodes } from './scores.ts';
import type { Snapshot } from './snapshot.ts';
import { prepareSpread, spreadRejection } from './spread.ts';
import { chooseVolumes, prepareVolumes, type VolumeChoice } from './volumes.ts';

export interface Placement {
  type: 'placed';
  node: NodeInfo;
  volumes: VolumeChoice | undefined;
  nextStart: number;
}
export interface Failure {
  type: 'unschedulable';
  /** Why, as `kubectl describe` shows it, without the part on preemption. */
  message: string;
  /** Filters that rejected: which events may help. */
  plugins: ReadonlySet<string>;
  /** By node; empty when the Pod was rejected as a whole. */
  rejections: ReadonlyMap<string, Rejection>;
}
export type Decision = Placement | Failure;

/** How many feasible nodes end the search. */
function feasibleNodesWanted(nodes: number): number {
  if (nodes <= feasibleNodesMin) return nodes;
  const percent = Math.max(50 - Math.floor(nodes / 125), feasiblePercentMin);
  return Math.max(Math.floor((nodes * percent) / 100), feasibleNodesMin);
}

/** A check of one node for one Pod, all filters in order. */
export type NodeCheck = (node: NodeInfo) => Rejection | undefined;

/** Prepares all filters for a Pod. A string rejects it as a whole. `excluded` Pods count as gone. */
export function prepareCheck(pod: PodInfo, snapshot: Snapshot, excluded?: ReadonlySet<string>): NodeCheck | string {
  const volumes = prepareVolumes(pod, snapshot.volumes);
  if (typeof volumes === 'string') return volumes;
  const spread = prepareSpread(pod, snapshot, true, excluded);
  const affinity = prepareAffinity(pod, snapshot, excluded);
  return (node) => {
    const rejection = rejectionOf(pod, node, snapshot.nominated.get(node.name));
    if (rejection !== undefined) return rejection;
    if (volumes !== undefined) {
      const choice = chooseVolumes(volumes, node, snapshot);
      if ('plugin' in choice) return choice;
    }
    return (
      (spread === undefined ? undefined : spreadRejection(spread, node)) ??
      (affinity === undefined ? undefined : affinityRejection(affinity, pod, node))
    );
  };
}

export function summarize(nodes: number, rejections: Iterable<{ reasons: readonly string[] }>): string {
  const counts = new Map<string, number>();
  for (const { reasons } of rejections) for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const parts = [...counts].map(([reason, count]) => `${count} ${reason}`).sort();
  return `0/${nodes} nodes are available: ${parts.join(', ')}.`;
}

function failAll(snapshot: Snapshot, reason: string): Failure {
  return {
    type: 'unschedulable',
    message: `0/${snapshot.nodes.length} nodes are available: ${reason}.`,
    plugins: new Set(['VolumeBinding']),
    rejections: new Map(),
  };
}

/** `start`: where the search begins. */
export function chooseNode(pod: PodInfo, snapshot: Snapshot, start: number, random: Random): Decision {
  const { nodes } = snapshot;
  if (nodes.length === 0)
    return {
      type: 'unschedulable',
      message: 'no nodes available to schedule pods',
      plugins: new Set(['NodeName']),
      rejections: new Map(),
    };
  const check = prepareCheck(pod, snapshot);
  if (typeof check === 'string') return failAll(snapshot, check);
  const nominatedNode: string | undefined = pod.pod.status?.nominatedNodeName;
  const promised = nominatedNode === undefined ? undefined : snapshot.byName.get(nominatedNode);
  if (promised !== undefined && check(promised) === undefined) return placed(pod, promised, snapshot, start);
  for (const name of pod.pinned ?? []) {
    const node = snapshot.byName.get(name);
    if (node !== undefined && check(node) === undefined) return placed(pod, node, snapshot, start);
  }
  const wanted = feasibleNodesWanted(nodes.length);
  const feasible: NodeInfo[] = [];
  const rejections = new Map<string, Rejection>();
  let looked = 0;
  for (; looked < nodes.length && feasible.length < wanted; looked++) {
    const node = nodes[(start + looked) % nodes.length]!;
    const rejection = check(node);
    if (rejection === undefined) feasible.push(node);
    else rejections.set(node.name, rejection);
  }
  if (feasible.length === 0) {
    return {
      type: 'unschedulable',
      message: summarize(nodes.length, rejections.values()),
      plugins: new Set([...rejections.values()].map(({ plugin }) => plugin)),
      rejections,
    };
  }
  const chosen = feasible.length === 1 ? feasible[0]! : best(feasible, scoreNodes(pod, feasible, snapshot), random);
  return placed(pod, chosen, snapshot, (start + looked) % nodes.length);
}

function placed(pod: PodInfo, node: NodeInfo, snapshot: Snapshot, nextStart: number): Placement {
  const state = prepareVolumes(pod, snapshot.volumes);
  const choice = state === undefined || typeof state === 'string' ? undefined : chooseVolumes(state, node, snapshot);
  return { type: 'placed', node, volumes: choice === undefined || 'plugin' in choice ? undefined : choice, nextStart };
}

/** The node of the highest score; among equals each is as likely. */
function best(nodes: readonly NodeInfo[], scores: Float64Array, random: Random): NodeInfo {
  let chosen = 0;
  let equals = 1;
  for (let i = 1; i < nodes.length; i++) {
    if (scores[i]! > scores[chosen]!) {
      chosen = i;
      equals = 1;
    } else if (scores[i] === scores[chosen]) {
      equals++;
      if (random.float() * equals < 1) chosen = i;
    }
  }
  return nodes[chosen]!;
}
