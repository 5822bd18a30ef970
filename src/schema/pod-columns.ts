/** What `kubectl get pods` shows, computed from a Pod's status as the reference implementation's printers do. */
import type { ContainerStatus, Pod } from '#api/core.v1.ts';
import { column, columns, orNone, shortDuration } from './kind.ts';
import type { Column } from './kind.ts';

const isRestartableInit = (pod: Pod, name: string): boolean =>
  (pod.spec?.initContainers ?? []).some((c) => c.name === name && c.restartPolicy === 'Always');

function initReason(pod: Pod, status: ContainerStatus, index: number): string | undefined {
  const state = status.state ?? {};
  if (state.terminated !== undefined) {
    if (state.terminated.exitCode === 0) return undefined;
    if (state.terminated.reason) return `Init:${state.terminated.reason}`;
    return state.terminated.signal
      ? `Init:Signal:${state.terminated.signal}`
      : `Init:ExitCode:${state.terminated.exitCode}`;
  }
  if (isRestartableInit(pod, status.name) && status.started === true) return undefined;
  if (state.waiting?.reason && state.waiting.reason !== 'PodInitializing') return `Init:${state.waiting.reason}`;
  return `Init:${index}/${(pod.spec?.initContainers ?? []).length}`;
}

function containerReason(status: ContainerStatus): string | undefined {
  const state = status.state ?? {};
  if (state.waiting?.reason) return state.waiting.reason;
  if (state.terminated === undefined) return undefined;
  if (state.terminated.reason) return state.terminated.reason;
  return state.terminated.signal ? `Signal:${state.terminated.signal}` : `ExitCode:${state.terminated.exitCode ?? 0}`;
}

function isReady(pod: Pod): boolean {
  return (pod.status?.conditions ?? []).some((c) => c.type === 'Ready' && c.status === 'True');
}

function podStatusText(pod: Pod): string {
  const status = pod.status ?? {};
  let reason: string = status.reason || status.phase || '';
  if ((status.conditions ?? []).some((c) => c.type === 'PodScheduled' && c.reason === 'SchedulingGated'))
    reason = 'SchedulingGated';
  const inits = status.initContainerStatuses ?? [];
  const initializing = inits.map((s, i) => initReason(pod, s, i)).find((r) => r !== undefined);
  const initialized = (status.conditions ?? []).some((c) => c.type === 'Initialized' && c.status === 'True');
  if (
    initializing !== undefined &&
    !(initialized && initializing.startsWith('Init:') && inits.every((s) => s.state?.terminated?.exitCode === 0))
  )
    reason = initializing;
  else {
    let running = false;
    for (const container of [...(status.containerStatuses ?? [])].reverse()) {
      const own = containerReason(container);
      if (own !== undefined) reason = own;
      else if (container.ready && container.state?.running !== undefined) running = true;
    }
    if (reason === 'Completed' && running) reason = isReady(pod) ? 'Running' : 'NotReady';
  }
  if (pod.metadata?.deletionTimestamp) {
    if (status.reason === 'NodeLost') return 'Unknown';
    if (status.phase !== 'Succeeded' && status.phase !== 'Failed') return 'Terminating';
  }
  return reason;
}

function restartText(pod: Pod, now: number): string {
  const inits = pod.status?.initContainerStatuses ?? [];
  const counted = [...(pod.status?.containerStatuses ?? []), ...inits.filter((s) => isRestartableInit(pod, s.name))];
  const initializing =
    inits.length > 0 &&
    (pod.status?.containerStatuses ?? []).every(
      (s) => s.state?.running === undefined && s.state?.terminated === undefined,
    );
  const list = initializing ? inits : counted;
  const restarts = list.reduce((sum: number, s) => sum + (s.restartCount ?? 0), 0);
  const last = Math.max(0, ...list.map((s) => Date.parse(s.lastState?.terminated?.finishedAt ?? '') || 0));
  return restarts > 0 && last > 0 ? `${restarts} (${shortDuration(now - last)} ago)` : String(restarts);
}

function readyText(pod: Pod): string {
  const inits = (pod.spec?.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  const total = (pod.spec?.containers ?? []).length + inits.length;
  const ready =
    (pod.status?.containerStatuses ?? []).filter((s) => s.ready && s.state?.running !== undefined).length +
    (pod.status?.initContainerStatuses ?? []).filter((s) => isRestartableInit(pod, s.name) && s.ready).length;
  return `${ready}/${total}`;
}

function gatesText(pod: Pod): string {
  const gates = pod.spec?.readinessGates ?? [];
  if (gates.length === 0) return '<none>';
  const met = gates.filter((g) =>
    (pod.status?.conditions ?? []).some((c) => c.type === g.conditionType && c.status === 'True'),
  ).length;
  return `${met}/${gates.length}`;
}

export const podColumns: readonly Column<Pod>[] = columns(
  column('Ready', readyText),
  column('Status', podStatusText),
  column('Restarts', (o, now) => restartText(o, now)),
  column('IP', (o) => orNone(o.status?.podIPs?.[0]?.ip ?? o.status?.podIP), { wide: true }),
  column('Node', (o) => orNone(o.spec?.nodeName), { wide: true }),
  column('Nominated Node', (o) => orNone(o.status?.nominatedNodeName), { wide: true }),
  column('Readiness Gates', gatesText, { wide: true }),
);
