/**
 * Pods of a simulated cluster for tests, and what `kubectl describe pod` shows of them, in one line each: the words of
 * the kubelet.
 */
import type { Pod, PodSpec, PodStatus } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import { createCluster, type Cluster, type ClusterOptions, kinds, type PodScript } from './testing.ts';

const startMs = Date.parse('2026-01-01T00:00:00Z');
const uid = /\(\w{8}(-\w{4}){3}-\w{12}\)/;

export function podOf(spec: Partial<PodSpec> = {}, metadata: ObjectMeta = {}): Manifest<Pod> {
  const { containers = [{ name: 'main', image: 'app:1' }], ...rest } = spec;
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', ...metadata }, spec: { containers, ...rest } };
}

/** A cluster of one node with this Pod; `startAfter` is a second where the script does not say. */
export async function runPod(
  object: Manifest<Pod>,
  script: PodScript | ((container: string, attempt: number) => PodScript) = {},
  options: ClusterOptions = {},
): Promise<Cluster> {
  const of = typeof script === 'function' ? script : (): PodScript => script;
  const cluster = await createCluster({
    nodes: 1,
    start: startMs,
    scripts: [{ script: ({ container, attempt }) => ({ startAfter: '1s', ...of(container, attempt) }) }],
    ...options,
  });
  try {
    await cluster.apply(object);
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
  return cluster;
}

export async function statusOf(cluster: Cluster, name = 'web'): Promise<PodStatus> {
  return (await cluster.client.get(kinds.Pod, name, 'default')).status ?? {};
}

/** Of the first container. */
export function restartsOf({ containerStatuses = [] }: PodStatus): number | undefined {
  return containerStatuses[0]?.restartCount;
}

/** A container's state in one line: `running`, `waiting CrashLoopBackOff: message`, `terminated Error 1`. */
export function stateOf(status: PodStatus, name = 'main', key: 'state' | 'lastState' = 'state'): string {
  const found = [
    ...(status.initContainerStatuses ?? []),
    ...(status.containerStatuses ?? []),
    ...(status.ephemeralContainerStatuses ?? []),
  ].find((each) => each.name === name);
  const { running, waiting, terminated } = found?.[key] ?? {};
  if (running !== undefined) return 'running';
  if (waiting !== undefined)
    return `waiting ${waiting.reason}${waiting.message === undefined ? '' : `: ${waiting.message.replace(uid, '(uid)')}`}`;
  return terminated === undefined
    ? 'none'
    : `terminated ${terminated.reason} ${terminated.exitCode}${terminated.message === undefined ? '' : `: ${terminated.message}`}`;
}

/** `True`, or `False Reason: message`. */
export function conditionOf({ conditions = [] }: PodStatus, type: string): string {
  const found = conditions.find((each) => each.type === type);
  if (found === undefined) return 'none';
  return [
    found.status,
    ...(found.reason === undefined
      ? []
      : [`${found.reason}${found.message === undefined ? '' : `: ${found.message}`}`]),
  ].join(' ');
}

/** `Reason: message` of each Event of a Pod. */
export async function eventsOf(cluster: Cluster): Promise<string[]> {
  await cluster.advance('1s');
  const { items } = await cluster.client.list(kinds.Event, { namespace: 'default' });
  return items
    .filter((event) => event.involvedObject.kind === 'Pod')
    .map((event) => `${event.reason}: ${(event.message ?? '').replace(uid, '(uid)')}`);
}

/** How each state of a container followed the one before, and when it began, in seconds. Looks each half second. */
export async function historyOf(
  cluster: Cluster,
  seconds: number,
  of: (status: PodStatus) => string,
): Promise<string[]> {
  const seen: string[] = [];
  const from = cluster.now;
  while (cluster.now - from < seconds * 1000) {
    const what = of(await statusOf(cluster));
    if (!seen.at(-1)?.endsWith(` ${what}`)) seen.push(`${(cluster.now - from) / 1000}s ${what}`);
    await cluster.advance(500);
  }
  return seen;
}
