/**
 * Filters that look at one node and one Pod alone: name, taints, selector and affinity, ports, resources. Each answers
 * the reason that keeps the Pod off the node, in the words that `kubectl describe pod` is known for. `resolvable` says
 * whether removing Pods from the node could help (preemption).
 */
import type { Taint, Toleration } from '#api/core.v1.ts';
import { type Labels, type LabelSelector, matchesLabels, matchesRequirement } from '#base/selectors.ts';
import { type NodeInfo, portKey } from './node-info.ts';
import type { HostPort, NodeSelectorTerm, PodInfo } from './pod-info.ts';

export interface Rejection {
  plugin: string;
  reasons: readonly string[];
  resolvable: boolean;
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect !== undefined && toleration.effect !== '' && toleration.effect !== taint.effect) return false;
  if (toleration.key !== undefined && toleration.key !== '' && toleration.key !== taint.key) return false;
  if (toleration.operator === 'Exists') return true;
  if (toleration.key === undefined || toleration.key === '') return false;
  return (toleration.value ?? '') === (taint.value ?? '');
}

export function untoleratedTaint(
  taints: readonly Taint[],
  tolerations: readonly Toleration[],
  effects: readonly string[],
): Taint | undefined {
  for (const taint of taints) {
    if (effects.includes(taint.effect) && !tolerations.some((toleration) => tolerates(toleration, taint))) return taint;
  }
  return undefined;
}

const schedulingEffects = ['NoSchedule', 'NoExecute'] as const;
const unschedulableTaint: Taint = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };

export function matchesNodeTerm(term: NodeSelectorTerm, labels: Labels, name: string): boolean {
  if (term.labels.length === 0 && term.fields.length === 0) return false;
  return matchesLabels(term.labels, labels) && matchesNodeFields(term.fields, name);
}

function matchesNodeFields(fields: LabelSelector, name: string): boolean {
  return fields.every(
    (requirement) => requirement.key === 'metadata.name' && matchesRequirement(requirement, { 'metadata.name': name }),
  );
}

export function matchesNodeAffinity(pod: PodInfo, node: { labels: Labels; name: string }): boolean {
  if (pod.nodeSelector.length > 0 && !matchesLabels(pod.nodeSelector, node.labels)) return false;
  return (
    pod.nodeAffinity === undefined || pod.nodeAffinity.some((term) => matchesNodeTerm(term, node.labels, node.name))
  );
}

function hasPortConflict(ports: readonly HostPort[], used: ReadonlyMap<string, number>): boolean {
  if (used.size === 0) return false;
  for (const { protocol, ip, port } of ports) {
    if (used.has(portKey(protocol, '0.0.0.0', port)) || used.has(portKey(protocol, ip, port))) return true;
    if (ip !== '0.0.0.0') continue;
    const end = `/${port}`;
    for (const key of used.keys()) if (key.startsWith(`${protocol}/`) && key.endsWith(end)) return true;
  }
  return false;
}

/** Reasons why the requests do not fit beside what is there and what is promised to `nominated`. */
function fitProblems(pod: PodInfo, node: NodeInfo, nominated: readonly PodInfo[] | undefined): Rejection | undefined {
  let { cpu, memory, ephemeral } = node;
  let pods = node.podCount;
  if (nominated !== undefined) {
    for (const other of nominated) {
      if (other.uid === pod.uid || other.priority < pod.priority) continue;
      cpu += other.requests.cpu;
      memory += other.requests.memory;
      ephemeral += other.requests.ephemeral;
      pods++;
    }
  }
  const { requests } = pod;
  if (
    pods < node.podsMax &&
    (requests.cpu === 0 || requests.cpu <= node.cpuMax - cpu) &&
    (requests.memory === 0 || requests.memory <= node.memoryMax - memory) &&
    (requests.ephemeral === 0 || requests.ephemeral <= node.ephemeralMax - ephemeral) &&
    requests.scalars === undefined
  )
    return undefined;
  const reasons: string[] = [];
  let resolvable = true;
  const check = (name: string, wanted: number, has: number, used: number): void => {
    if (wanted === 0 || wanted <= has - used) return;
    reasons.push(`Insufficient ${name}`);
    if (wanted > has) resolvable = false;
  };
  if (pods >= node.podsMax) reasons.push('Too many pods');
  check('cpu', requests.cpu, node.cpuMax, cpu);
  check('memory', requests.memory, node.memoryMax, memory);
  check('ephemeral-storage', requests.ephemeral, node.ephemeralMax, ephemeral);
  for (const [name, wanted] of requests.scalars ?? []) {
    const promised = (nominated ?? []).reduce(
      (sum, other) =>
        sum + (other.uid === pod.uid || other.priority < pod.priority ? 0 : (other.requests.scalars?.get(name) ?? 0)),
      0,
    );
    check(name, wanted, node.allocatableScalars?.get(name) ?? 0, (node.scalars.get(name) ?? 0) + promised);
  }
  return reasons.length === 0 ? undefined : { plugin: 'NodeResourcesFit', reasons, resolvable };
}

/** The first reason that keeps the Pod off the node, in the order of the default profile. */
export function rejectionOf(
  pod: PodInfo,
  node: NodeInfo,
  nominated: readonly PodInfo[] | undefined,
): Rejection | undefined {
  if (node.unschedulable && !pod.tolerations.some((toleration) => tolerates(toleration, unschedulableTaint))) {
    return { plugin: 'NodeUnschedulable', reasons: ['node(s) were unschedulable'], resolvable: false };
  }
  if (pod.nodeName !== undefined && pod.nodeName !== '' && pod.nodeName !== node.name) {
    return { plugin: 'NodeName', reasons: ["node(s) didn't match the requested node name"], resolvable: false };
  }
  if (node.taints.length > 0) {
    const taint = untoleratedTaint(node.taints, pod.tolerations, schedulingEffects);
    if (taint !== undefined)
      return {
        plugin: 'TaintToleration',
        reasons: [`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`],
        resolvable: false,
      };
  }
  if ((pod.nodeSelector.length > 0 || pod.nodeAffinity !== undefined) && !matchesNodeAffinity(pod, node)) {
    return {
      plugin: 'NodeAffinity',
      reasons: ["node(s) didn't match Pod's node affinity/selector"],
      resolvable: false,
    };
  }
  if (pod.ports.length > 0 && hasPortConflict(pod.ports, node.ports)) {
    return {
      plugin: 'NodePorts',
      reasons: ["node(s) didn't have free ports for the requested pod ports"],
      resolvable: true,
    };
  }
  return fitProblems(pod, node, nominated);
}
