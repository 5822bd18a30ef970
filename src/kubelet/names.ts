/**
 * Labels by which the kubelet finds its containers and sandboxes again after a restart, and where a Pod's files lie.
 */
import type { Pod } from '#api/core.v1.ts';
import { dirname, join } from 'node:path';

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

export interface KubeletPaths {
  /** On disk. */
  podsDir: string;
  /** A tmpfs: Secrets and tokens never reach a disk. */
  secretsDir: string;
  logsDir: string;
}

export function podDir(paths: KubeletPaths, uid: string): string {
  return join(paths.podsDir, uid);
}
/** Profiles of the node's own that a Pod may name by their path below it. */
export function seccompDir(paths: KubeletPaths): string {
  return join(dirname(paths.podsDir), 'seccomp');
}
export function podSecretsDir(paths: KubeletPaths, uid: string): string {
  return join(paths.secretsDir, uid);
}
export function podLogsDir(paths: KubeletPaths, pod: Pod): string {
  return join(paths.logsDir, `${pod.metadata.namespace}_${pod.metadata.name}_${pod.metadata.uid}`);
}
export function containerLogPath(paths: KubeletPaths, pod: Pod, container: string, restartCount: number): string {
  return join(podLogsDir(paths, pod), container, `${restartCount}.log`);
}
export function terminationMessagePath(
  paths: KubeletPaths,
  uid: string,
  container: string,
  restartCount: number,
): string {
  return join(podDir(paths, uid), 'containers', container, `termination-${restartCount}`);
}
