/** What kind an object is, in its stored version: whoever asks may use its fields. */
import type { CustomResourceDefinition } from '#api/apiextensions.v1.ts';
import type { Container, PersistentVolumeClaim, Pod, PodSpec, Service } from '#api/core.v1.ts';
import type { KubeObject } from '#base/objects.ts';

/** Whether an object is of the kind of that version. Its structure was checked when it was decoded. */
const isOf =
  <K extends KubeObject>(apiVersion: string, kind: string) =>
  (object: KubeObject): object is K =>
    object.kind === kind && object.apiVersion === apiVersion;

/**
 * Containers and init containers of a Pod that is not validated yet: one without containers gets this far, and is
 * refused later.
 */
export function mainContainers({ containers, initContainers = [] }: Partial<PodSpec>): Container[] {
  return [...(containers ?? []), ...initContainers];
}

export const isPod = isOf<Pod>('v1', 'Pod');
export const isService = isOf<Service>('v1', 'Service');
export const isDefinition = isOf<CustomResourceDefinition>('apiextensions.k8s.io/v1', 'CustomResourceDefinition');
export const isClaim = isOf<PersistentVolumeClaim>('v1', 'PersistentVolumeClaim');
