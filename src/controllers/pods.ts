/** What controllers ask about Pods and conditions (Kubernetes documentation, "Pod Lifecycle"). Pure. */
import type { Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { ObjectMeta, OwnerReference, Time } from '#api/meta.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: Time | null;
  lastUpdateTime?: Time | null;
  /** Of a Node's conditions. */
  lastHeartbeatTime?: Time | null;
  lastProbeTime?: Time | null;
  observedGeneration?: number;
}

/** An object whose status has conditions of one sort. */
export interface Conditioned<C extends Condition = Condition> {
  metadata: ObjectMeta;
  status?: { conditions?: C[] };
}

export function conditionOf<C extends Condition>({ status }: Conditioned<C>, type: string): C | undefined {
  const conditions = status?.conditions;
  if (conditions === undefined) return undefined;
  for (let i = 0; i < conditions.length; i++) if (conditions[i]!.type === type) return conditions[i];
  return undefined;
}

/** What is asked of a Pod: of its specification nothing. */
type PodState = Pick<Manifest<Pod>, 'metadata' | 'status'>;

/** Neither finished nor going away. */
export function isPodActive(pod: PodState): boolean {
  const phase = pod.status?.phase;
  return phase !== 'Succeeded' && phase !== 'Failed' && pod.metadata.deletionTimestamp === undefined;
}

export function isPodTerminal(pod: PodState): boolean {
  const phase = pod.status?.phase;
  return phase === 'Succeeded' || phase === 'Failed';
}

export function isPodReady(pod: PodState): boolean {
  return conditionOf(pod, 'Ready')?.status === 'True';
}

/** Milliseconds until a ready Pod counts as available; 0 when it does, undefined when it is not ready. */
export function untilAvailableMs(pod: PodState, minReadySeconds: number, nowMs: number): number | undefined {
  const ready = conditionOf(pod, 'Ready');
  if (ready?.status !== 'True') return undefined;
  if (minReadySeconds === 0) return 0;
  if (ready.lastTransitionTime == null) return minReadySeconds * 1000;
  return Math.max(0, Date.parse(ready.lastTransitionTime) + minReadySeconds * 1000 - nowMs);
}

/**
 * The list with this condition in it; the transition time changes with the status only. The same list when nothing
 * changes.
 */
export function withCondition<C extends Condition>(
  conditions: C[] | undefined,
  next: NoInfer<C>,
  nowMs: number,
  withUpdateTime = false,
): C[] {
  const list = conditions ?? [];
  const held = list.find((condition) => condition.type === next.type);
  if (held !== undefined && held.status === next.status && held.reason === next.reason && held.message === next.message)
    return list;
  const lastTransitionTime =
    held?.status === next.status ? (held.lastTransitionTime ?? timestamp(nowMs)) : timestamp(nowMs);
  const made = {
    ...next,
    lastTransitionTime,
    ...(withUpdateTime ? { lastUpdateTime: timestamp(nowMs) } : {}),
  };
  return held === undefined ? [...list, made] : list.map((condition) => (condition === held ? made : condition));
}

export function withoutCondition<C extends Condition>(conditions: C[] | undefined, type: string): C[] {
  return (conditions ?? []).filter((condition) => condition.type !== type);
}

/** A Pod from a template: labels, annotations, finalizers and spec, with this owner. */
export function podFromTemplate(
  template: Pick<Pod, 'spec'> & { metadata?: ObjectMeta },
  namespace: string,
  owner: OwnerReference,
  name: { name: string } | { generateName: string },
): Manifest<Pod> {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...name,
      namespace,
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
      ...(finalizers === undefined ? {} : { finalizers }),
      ownerReferences: [owner],
    },
    spec: template.spec,
  };
}

export function createdMs(object: KubeObject): number {
  return Date.parse(object.metadata.creationTimestamp ?? '1970-01-01T00:00:00Z');
}

/** By creation, then by name: an order that does not depend on who listed. */
export function byAge(a: KubeObject, b: KubeObject): number {
  const [left, right] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? ''];
  if (left !== right) return left < right ? -1 : 1;
  return a.metadata.name! < b.metadata.name! ? -1 : a.metadata.name! > b.metadata.name! ? 1 : 0;
}
