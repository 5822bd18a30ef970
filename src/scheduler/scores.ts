/**
 * How well each feasible node suits a Pod: 0 to 100 per aspect, weighted as in Kubernetes' default profile (taints 3;
 * node affinity, Pod affinity and spreading 2; least allocated, balance and image locality 1). Aspects that do not
 * apply are not computed.
 */
import { matchesNodeTerm, tolerates } from './filters.ts';
import { preferenceOf, preparePreferences } from './affinity.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo } from './pod-info.ts';
import type { Snapshot } from './snapshot.ts';
import { prepareSpread, spreadCost } from './spread.ts';

const megabyte = 1024 * 1024;
const imageBytesMin = 23 * megabyte;
const imageBytesMaxPerContainer = 1000 * megabyte;

function fractionOf(used: number, has: number): number {
  return has === 0 ? 1 : Math.min(1, used / has);
}

/** Least allocated plus balanced allocation: what every Pod is scored by. */
function resourceScore(pod: PodInfo, node: NodeInfo): number {
  const { cpuMax, memoryMax } = node;
  const cpu = fractionOf(node.scoredCpu + pod.scoredCpu, cpuMax);
  const memory = fractionOf(node.scoredMemory + pod.scoredMemory, memoryMax);
  const least = ((1 - cpu) * 100 + (1 - memory) * 100) / 2;
  const balance =
    (1 -
      Math.abs(
        fractionOf(node.cpu + pod.requests.cpu, cpuMax) - fractionOf(node.memory + pod.requests.memory, memoryMax),
      ) /
        2) *
    100;
  return least + balance;
}

function imageScore(pod: PodInfo, node: NodeInfo, snapshot: Snapshot): number {
  if (node.images.size === 0) return 0;
  let bytes = 0;
  for (const image of pod.images) {
    const name = image.includes('@') || image.lastIndexOf(':') > image.lastIndexOf('/') ? image : `${image}:latest`;
    const size = node.images.get(image) ?? node.images.get(name);
    // An image that many nodes hold says little about this one; one that few hold must not draw all Pods there.
    if (size !== undefined)
      bytes += size * (snapshot.imageNodes(node.images.has(image) ? image : name) / snapshot.nodes.length);
  }
  const most = imageBytesMaxPerContainer * pod.images.length;
  if (bytes <= imageBytesMin) return 0;
  return (100 * (Math.min(bytes, most) - imageBytesMin)) / (most - imageBytesMin);
}

/** Adds `weight` × values scaled so that the best gets 100. */
function addScaled(totals: Float64Array, values: Float64Array, weight: number, lowerIsBetter: boolean): void {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (most === least) return;
  for (let i = 0; i < totals.length; i++) {
    const share = (values[i]! - least) / (most - least);
    totals[i]! += weight * 100 * (lowerIsBetter ? 1 - share : share);
  }
}

function fill(nodes: readonly NodeInfo[], of: (node: NodeInfo) => number): Float64Array {
  const values = new Float64Array(nodes.length);
  for (let i = 0; i < nodes.length; i++) values[i] = of(nodes[i]!);
  return values;
}

/** Pods of one owner go apart, by node and by zone, where no constraint says otherwise. */
function ownerCosts(owned: ReadonlyMap<number, number>, nodes: readonly NodeInfo[]): Float64Array {
  const zones = new Map<string, number>();
  const costs = new Float64Array(nodes.length);
  for (let i = 0; i < nodes.length; i++) {
    const count = owned.get(nodes[i]!.row);
    if (count === undefined) continue;
    const { zone } = nodes[i]!;
    costs[i] = count;
    if (zone !== undefined) zones.set(zone, (zones.get(zone) ?? 0) + count);
  }
  if (zones.size === 0) return costs;
  const most = Math.max(...zones.values());
  for (let i = 0; i < nodes.length; i++) {
    const { zone } = nodes[i]!;
    if (zone !== undefined) costs[i]! += (2 * (zones.get(zone) ?? 0)) / most;
  }
  return costs;
}

export function scoreNodes(pod: PodInfo, nodes: readonly NodeInfo[], snapshot: Snapshot): Float64Array {
  const totals = new Float64Array(nodes.length);
  for (let i = 0; i < nodes.length; i++)
    totals[i] = resourceScore(pod, nodes[i]!) + imageScore(pod, nodes[i]!, snapshot);
  if (nodes.some((node) => node.taints.length > 0)) {
    addScaled(
      totals,
      fill(nodes, (node) => {
        let count = 0;
        for (const taint of node.taints)
          if (
            taint.effect === 'PreferNoSchedule' &&
            !pod.tolerations.some((toleration) => tolerates(toleration, taint))
          )
            count++;
        return count;
      }),
      3,
      true,
    );
  }
  if (pod.preferredNodes.length > 0) {
    addScaled(
      totals,
      fill(nodes, (node) => {
        let sum = 0;
        for (const { weight, term } of pod.preferredNodes)
          if (matchesNodeTerm(term, node.labels, node.name)) sum += weight;
        return sum;
      }),
      2,
      false,
    );
  }
  const soft = prepareSpread(pod, snapshot, false);
  if (soft !== undefined)
    addScaled(
      totals,
      fill(nodes, (node) => spreadCost(soft, node)),
      2,
      true,
    );
  else if (pod.spread.length === 0 && pod.owner !== undefined) {
    const owned = snapshot.ownedPods(pod.owner);
    if (owned !== undefined) addScaled(totals, ownerCosts(owned, nodes), 2, true);
  }
  const weights = preparePreferences(pod, snapshot);
  if (weights !== undefined)
    addScaled(
      totals,
      fill(nodes, (node) => preferenceOf(weights, node)),
      2,
      false,
    );
  return totals;
}
