/** Where the files of a Pod lie on its node. */
import type { Pod } from '#api/core.v1.ts';
import { dirname, join } from 'node:path';

export interface KubeletPaths {
  /** On disk. */
  podsDir: string;
  /** A tmpfs: Secrets and tokens never reach a disk. */
  secretsDir: string;
  logsDir: string;
}

/** Of a Pod's directory: that of its volumes, by plugin and name. */
export const volumesFolder = 'volumes';
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
