/**
 * May this Pod run here at all? The scheduler has asked before, but a Pod can name its node itself, and two schedulers can race.
 * Reasons and messages are the kubelet's: `OutOfcpu`, `OutOfmemory`, `OutOfpods`, `NodePorts`, `NodeAffinity`.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { podsPerNodeMax } from './limits.ts';
import { allocatableOf, type NodeFacts } from './node-status.ts';
import { amount } from './qos.ts';

interface Demand { cpu: number; memory: number }

/** Requests of a Pod: the sum of its containers, or the largest init container where that is more. */
export function demandOf(pod: KubeObject): Demand {
  const of = (container: Json): Demand => ({
    cpu: amount(container.resources?.requests?.cpu ?? container.resources?.limits?.cpu) ?? 0,
    memory: amount(container.resources?.requests?.memory ?? container.resources?.limits?.memory) ?? 0,
  });
  const total: Demand = { cpu: 0, memory: 0 };
  for (const container of pod.spec.containers ?? []) { const demand = of(container); total.cpu += demand.cpu; total.memory += demand.memory; }
  for (const container of pod.spec.initContainers ?? []) {
    const demand = of(container);
    if (container.restartPolicy === 'Always') { total.cpu += demand.cpu; total.memory += demand.memory; }
    else { total.cpu = Math.max(total.cpu, demand.cpu); total.memory = Math.max(total.memory, demand.memory); }
  }
  return total;
}

function hostPortsOf(pod: KubeObject): string[] {
  return [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])].flatMap((container: Json) => (container.ports ?? []).filter((port: Json) => port.hostPort).map((port: Json) => `${port.protocol ?? 'TCP'}/${port.hostIP ?? '0.0.0.0'}/${port.hostPort}`));
}

export function admitPod(pod: KubeObject, others: readonly KubeObject[], facts: NodeFacts): { reason: string; message: string } | undefined {
  const active = others.filter((other) => other.status?.phase !== 'Succeeded' && other.status?.phase !== 'Failed');
  const allocatable = allocatableOf(facts);
  if (active.length >= podsPerNodeMax) return { reason: 'OutOfpods', message: `Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: ${active.length}, capacity: ${podsPerNodeMax}` };
  const wanted = demandOf(pod);
  const used = active.map(demandOf).reduce((sum, demand) => ({ cpu: sum.cpu + demand.cpu, memory: sum.memory + demand.memory }), { cpu: 0, memory: 0 });
  const outOf = (resource: string, want: number, have: number, capacity: number, scale: number): { reason: string; message: string } =>
    ({ reason: `OutOf${resource}`, message: `Pod was rejected: Node didn't have enough resource: ${resource}, requested: ${Math.round(want * scale)}, used: ${Math.round(have * scale)}, capacity: ${Math.round(capacity * scale)}` });
  if (wanted.cpu > 0 && used.cpu + wanted.cpu > allocatable.cpu + 1e-9) return outOf('cpu', wanted.cpu, used.cpu, allocatable.cpu, 1000);
  if (wanted.memory > 0 && used.memory + wanted.memory > allocatable.memory) return outOf('memory', wanted.memory, used.memory, allocatable.memory, 1);
  const taken = new Set(active.flatMap(hostPortsOf));
  if (hostPortsOf(pod).some((port) => taken.has(port))) return { reason: 'NodePorts', message: 'Pod was rejected: Predicate NodePorts failed: node(s) didn\'t have free ports for the requested pod ports' };
  return undefined;
}
