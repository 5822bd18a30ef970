/** What controllers ask about Pods and conditions (Kubernetes documentation, "Pod Lifecycle"). Pure. */
import type { Json, KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
  lastUpdateTime?: string;
  /** Of a Node's conditions. */
  lastHeartbeatTime?: string;
  lastProbeTime?: string | null;
  observedGeneration?: number;
}

export function conditionOf(object: KubeObject, type: string): Condition | undefined {
  const conditions = object['status']?.conditions as Condition[] | undefined;
  if (conditions === undefined) return undefined;
  for (let i = 0; i < conditions.length; i++) if (conditions[i]!.type === type) return conditions[i];
  return undefined;
}

/** Neither finished nor going away. */
export function isPodActive(pod: KubeObject): boolean {
  const phase = pod['status']?.phase;
  return phase !== 'Succeeded' && phase !== 'Failed' && pod.metadata.deletionTimestamp === undefined;
}

export function isPodTerminal(pod: KubeObject): boolean {
  const phase = pod['status']?.phase;
  return phase === 'Succeeded' || phase === 'Failed';
}

export function isPodReady(pod: KubeObject): boolean {
  return conditionOf(pod, 'Ready')?.status === 'True';
}

/** Milliseconds until a ready Pod counts as available; 0 when it does, undefined when it is not ready. */
export function untilAvailableMs(pod: KubeObject, minReadySeconds: number, nowMs: number): number | undefined {
  const ready = conditionOf(pod, 'Ready');
  if (ready?.status !== 'True') return undefined;
  if (minReadySeconds === 0) return 0;
  if (ready.lastTransitionTime === undefined) return minReadySeconds * 1000;
  return Math.max(0, Date.parse(ready.lastTransitionTime) + minReadySeconds * 1000 - nowMs);
}

/**
 * The list with this condition in it; the transition time changes with the status only. The same list when nothing
 * changes.
 */
export function withCondition(
  conditions: Condition[] | undefined,
  next: Condition,
  nowMs: number,
  withUpdateTime = false,
): Condition[] {
  const list = conditions ?? [];
  const held = list.find((condition) => condition.type === next.type);
  if (held !== undefined && held.status === next.status && held.reason === next.reason && held.message === next.message)
    return list;
  const lastTransitionTime =
    held?.status === next.status ? (held.lastTransitionTime ?? timestamp(nowMs)) : timestamp(nowMs);
  const made: Condition = {
    ...next,
    lastTransitionTime,
    ...(withUpdateTime ? { lastUpdateTime: timestamp(nowMs) } : {}),
  };
  return held === undefined ? [...list, made] : list.map((condition) => (condition === held ? made : condition));
}

export function withoutCondition(conditions: Condition[] | undefined, type: string): Condition[] {
  return (conditions ?? []).filter((condition) => condition.type !== type);
}

/** A Pod from a template: labels, annotations, finalizers and spec, with this owner. */
export function podFromTemplate(
  template: Json,
  namespace: string,
  owner: Json,
  name: { name: string } | { generateName: string },
): KubeObject {
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
