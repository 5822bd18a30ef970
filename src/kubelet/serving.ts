/**
 * Which container a request to the kubelet's server means, and what is said when there is none. What serves is
 * described by two small interfaces, so that a simulated node answers by the same code. Choice and words are the
 * kubelet's own (Kubernetes documentation, "Determine the Reason for Pod Failure", and what its `logs` says of each
 * container state).
 */
import type { Pod } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { Containers, ContainerStatus, Sandboxes } from '#engine/engine.ts';
import type { Kubelet } from './kubelet.ts';
import { labelContainerName, labelPodUid, labelRestartCount } from './pod-labels.ts';

/** The part of an engine that requests reach. */
export interface ServedRuntime {
  readonly containers: Pick<Containers, 'list' | 'exec' | 'attach' | 'logs' | 'stats'>;
  readonly sandboxes: Pick<Sandboxes, 'connect'>;
}
export type ServedPods = Pick<Kubelet, 'pods' | 'podByName' | 'reading' | 'storage'>;
export interface Served {
  kubelet: ServedPods;
  engine: ServedRuntime;
}

/** Attempts of a container, newest first. */
function attemptsOf(engine: ServedRuntime, podUid: string, container: string): ContainerStatus[] {
  return engine.containers
    .list({ owner: 'kubelet', labels: { [labelPodUid]: podUid, [labelContainerName]: container } })
    .sort(
      (a, b) =>
        Number(b.labels[labelRestartCount]) - Number(a.labels[labelRestartCount]) || b.createdAtMs - a.createdAtMs,
    );
}

export function findPod({ kubelet }: Served, namespace: string, name: string): Pod {
  const pod = kubelet.podByName(namespace, name);
  if (pod === undefined) throw new ApiError('NotFound', `pod does not exist`);
  return pod;
}

/** For exec and attach. */
export function runningContainer(
  served: Served,
  namespace: string,
  podName: string,
  container: string,
): ContainerStatus {
  const pod = findPod(served, namespace, podName);
  const attempt = attemptsOf(served.engine, pod.metadata.uid, container).find((status) => status.state === 'running');
  if (attempt === undefined) throw new ApiError('NotFound', `container not found ("${container}")`);
  return attempt;
}

function waitingReason(pod: Pod, container: string): string | undefined {
  const { containerStatuses = [], initContainerStatuses = [], ephemeralContainerStatuses = [] } = pod['status'] ?? {};
  return [...containerStatuses, ...initContainerStatuses, ...ephemeralContainerStatuses].find(
    ({ name }) => name === container,
  )?.state?.waiting?.reason;
}

/** A container as users name it. */
export interface LoggedContainer {
  namespace: string;
  podName: string;
  container: string;
}

/**
 * The run whose log is meant: the newest, or the one before it (`previous`). Of a container that waits for its restart,
 * the run that ended last is both.
 */
export function loggedContainer(
  served: Served,
  { namespace, podName, container }: LoggedContainer,
  previous: boolean,
): ContainerStatus {
  const pod = findPod(served, namespace, podName);
  const { containers, initContainers = [], ephemeralContainers = [] } = pod['spec'];
  if (![...containers, ...initContainers, ...ephemeralContainers].some(({ name }) => name === container))
    throw new ApiError('BadRequest', `container ${container} is not valid for pod ${podName}`);
  const attempts = attemptsOf(served.engine, pod.metadata.uid, container).filter(({ state }) => state !== 'created');
  const reason = waitingReason(pod, container);
  const waitsAgain = reason !== undefined && attempts[0]?.state === 'exited';
  const attempt = attempts[previous && !waitsAgain ? 1 : 0];
  if (attempt !== undefined) return attempt;
  if (previous)
    throw new ApiError('BadRequest', `previous terminated container "${container}" in pod "${podName}" not found`);
  const why =
    reason === 'ErrImagePull'
      ? `image can't be pulled`
      : reason === 'ImagePullBackOff'
        ? 'trying and failing to pull image'
        : (reason ?? 'ContainerCreating');
  throw new ApiError('BadRequest', `container "${container}" in pod "${podName}" is waiting to start: ${why}`);
}
