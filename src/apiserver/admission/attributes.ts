/** What an admission plug-in is, and what it sees of a request. */
import type { Container, PodSpec } from '#api/core.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import type { RequestContext } from '../context.ts';

export interface AdmissionAttributes {
  operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';
  /** In its stored version; a mutating plug-in changes it in place or replaces it. */
  object: KubeObject;
  old: KubeObject | undefined;
  subresource: string;
  dryRun: boolean;
}

export type Admission = (context: RequestContext, attributes: AdmissionAttributes) => Promise<void> | void;

/**
 * Containers and init containers of a Pod that is not validated yet: one without containers gets this far, and is
 * refused later.
 */
export function mainContainers({ containers, initContainers = [] }: Partial<PodSpec>): Container[] {
  return [...(containers ?? []), ...initContainers];
}
