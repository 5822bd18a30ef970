/**
 * RuntimeClass: a Pod that names a class gets its overhead and its scheduling, and one that names none that exists is
 * refused (Kubernetes documentation, "Runtime Class"; the plug-in is on by default).
 */
import type { Json } from '#base/objects.ts';
import type { RequestContext } from '../context.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { forbiddenBy } from '../object-errors.ts';

export async function admitRuntimeClass(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { storage } = context.kind;
  if (
    storage.group !== '' ||
    storage.resource !== 'pods' ||
    attributes.operation !== 'CREATE' ||
    attributes.subresource !== ''
  )
    return;
  const pod = attributes.object;
  const spec = pod.spec;
  const refuse = (text: string): Error => forbiddenBy(context, pod.metadata.name ?? '', text);
  const name: string = spec.runtimeClassName ?? '';
  if (name === '') {
    if (spec.overhead !== undefined && Object.keys(spec.overhead).length > 0)
      throw refuse('pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead');
    return;
  }
  const runtimeClass: Json = (await context.server.live.runtimeClasses.current()).get('', name);
  if (runtimeClass === undefined) throw refuse(`pod rejected: RuntimeClass "${name}" not found`);
  const fixed: Json = runtimeClass.overhead?.podFixed;
  if (spec.overhead !== undefined && JSON.stringify(sorted(spec.overhead)) !== JSON.stringify(sorted(fixed ?? {})))
    throw refuse("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
  if (fixed !== undefined) spec.overhead = { ...fixed };
  schedule(spec, runtimeClass.scheduling ?? {}, refuse);
}

function schedule(spec: Json, scheduling: Json, refuse: (text: string) => Error): void {
  for (const [key, value] of Object.entries((scheduling.nodeSelector ?? {}) as Record<string, string>)) {
    const own: string | undefined = spec.nodeSelector?.[key];
    if (own !== undefined && own !== value)
      throw refuse(
        `pod rejected: conflict: runtimeClass.scheduling.nodeSelector[${key}] = ${value}; pod.spec.nodeSelector[${key}] = ${own}`,
      );
    spec.nodeSelector = { ...spec.nodeSelector, [key]: value };
  }
  for (const toleration of (scheduling.tolerations ?? []) as Json[]) {
    const text = JSON.stringify(sorted(toleration));
    if (!((spec.tolerations ?? []) as Json[]).some((known) => JSON.stringify(sorted(known)) === text))
      spec.tolerations = [...(spec.tolerations ?? []), toleration];
  }
}

function sorted(map: Json): [string, unknown][] {
  return Object.entries(map as Record<string, unknown>).sort(([a], [b]) => (a < b ? -1 : 1));
}
