/** Labels by which the kubelet finds its containers and sandboxes again after a restart. */
import type { Pod } from '#api/core.v1.ts';

export const labelPodName = 'io.kubernetes.pod.name';
export const labelPodNamespace = 'io.kubernetes.pod.namespace';
export const labelPodUid = 'io.kubernetes.pod.uid';
export const labelContainerName = 'io.kubernetes.container.name';
export const labelContainerType = 'io.kubernetes.container.type';
export const labelRestartCount = 'io.kubernetes.container.restartCount';

/** JSON of the hooks and grace period, so that a Pod deleted while the kubelet was down still gets its preStop. */
export const labelTermination = 'tiphys.io/termination';

export const runtimeName = 'tiphys';

/** The name Kubernetes prints in messages: `web_default(uid)`. */
export function podFullName(pod: Pod): string {
  return `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
}

export function podLabels(pod: Pod): Record<string, string> {
  return {
    [labelPodName]: pod.metadata.name,
    [labelPodNamespace]: pod.metadata.namespace,
    [labelPodUid]: pod.metadata.uid,
  };
}
