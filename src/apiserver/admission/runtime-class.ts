/**
 * RuntimeClass: a Pod that names a class gets its overhead and its scheduling, and one that names none that exists is
 * refused (Kubernetes documentation, "Runtime Class"; the plug-in is on by default).
 */
import type { PodSpec } from '#api/core.v1.ts';
import type { Scheduling } from '#api/node.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf } from '#base/objects.ts';
import type { RequestContext } from '../context.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { forbiddenBy } from '../object-errors.ts';

export async function admitRuntimeClass(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const pod = attributes.object;
  if (!isOf(kinds.Pod, pod) || attributes.operation !== 'CREATE' || attributes.subresource !== '') return;
  const spec = pod.spec;
  const refuse = (text: string): Error => forbiddenBy(context, pod.metadata.name ?? '', text);
  const name = spec.runtimeClassName ?? '';
  if (name === '') {
    if (spec.overhead !== undefined && Object.keys(spec.overhead).length > 0)
      throw refuse('pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead');
    return;
  }
  const runtimeClass = (await context.server.live.runtimeClasses.current()).get('', name);
  if (runtimeClass === undefined) throw refuse(`pod rejected: RuntimeClass "${name}" not found`);
  const fixed = runtimeClass.overhead?.podFixed;
  if (spec.overhead !== undefined && JSON.stringify(sorted(spec.overhead)) !== JSON.stringify(sorted(fixed ?? {})))
    throw refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
  if (fixed !== undefined) spec.overhead = { ...fixed };
  schedule(spec, runtimeClass.scheduling ?? {}, refuse);
}

function schedule(spec: PodSpec, scheduling: Scheduling, refuse: (text: string) => Error): void {
  for (const [key, value] of Object.entries(scheduling.nodeSelector ?? {})) {
    const own = spec.nodeSelector?.[key];
    if (own !== undefined && own !== value)
      throw refuse(
        `pod rejected: conflict: runtimeClass.scheduling.nodeSelector[${key}] = ${value}; pod.spec.nodeSelector[${key}] = ${own}`,
      );
    spec.nodeSelector = { ...spec.nodeSelector, [key]: value };
  }
  for (const toleration of scheduling.tolerations ?? []) {
    const text = JSON.stringify(sorted(toleration));
    if (!(spec.tolerations ?? []).some((known) => JSON.stringify(sorted(known)) === text))
      spec.tolerations = [...(spec.tolerations ?? []), toleration];
  }
}

function sorted(map: object): [string, unknown][] {
  return Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
}
