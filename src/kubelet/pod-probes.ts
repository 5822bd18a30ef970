/**
 * The probes of a Pod's running containers: which look at what, and what their verdicts change. How a probe looks is
 * the node's business (`Prober`).
 * Rules: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes".
 */
import type { AnyContainer } from './containers.ts';
import type { SandboxStatus } from '#engine/engine.ts';
import type { ProbeKind } from './doors.ts';
import { memoryOf, type Attempt, type Observed } from './container-memory.ts';
import { isSidecar } from './pod-plan.ts';
import type { PodState } from './pod-state.ts';

export function cancelProbes(state: PodState, name: string): void {
  for (const probe of state.probes.get(name)?.probes ?? []) probe.cancel();
  state.probes.delete(name);
}

export function cancelAllProbes(state: PodState): void {
  for (const name of [...state.probes.keys()]) cancelProbes(state, name);
}

/** Looks at what runs, and at nothing else. */
export function manageProbes(state: PodState, observed: Observed, sandbox: SandboxStatus | undefined): void {
  const { containers, initContainers } = state.pod.spec;
  for (const container of containers ?? []) manageOf(state, container, observed, sandbox);
  for (const container of initContainers ?? []) if (isSidecar(container)) manageOf(state, container, observed, sandbox);
}

function manageOf(
  state: PodState,
  container: AnyContainer,
  observed: Observed,
  sandbox: SandboxStatus | undefined,
): void {
  const { name } = container;
  const attempt = observed.get(name)?.[0];
  if (attempt?.state !== 'running' || sandbox === undefined || state.killed?.has(attempt.id) === true) {
    cancelProbes(state, name);
    return;
  }
  if (state.probes.get(name)?.attempt === attempt.id) return;
  cancelProbes(state, name);
  state.probes.set(name, { attempt: attempt.id, probes: [] });
  startProbes(state, container, attempt, sandbox);
}

const fieldOf = {
  Startup: 'startupProbe',
  Liveness: 'livenessProbe',
  Readiness: 'readinessProbe',
} as const satisfies Record<ProbeKind, string>;

function startProbes(state: PodState, container: AnyContainer, attempt: Attempt, sandbox: SandboxStatus): void {
  const { prober, hostIp, api } = state.host;
  const { name } = container;
  const remembered = memoryOf(state.memory, name);
  const target = {
    containerId: attempt.id,
    podIp: state.pod.spec.hostNetwork === true ? hostIp : sandbox.podIp,
    pod: state.pod,
    container,
  };
  const start = (kind: ProbeKind, decided: (ok: boolean) => void): void => {
    const probe = prober.start(kind, target, attempt.startedAtMs, {
      failed: (message) =>
        api.tell({ pod: state.pod, container: name }, 'Warning', 'Unhealthy', `${kind} probe failed: ${message}`),
      decided: (ok) => {
        decided(ok);
        state.wake();
      },
    });
    state.probes.get(name)?.probes.push(probe);
  };
  const kill = (kind: ProbeKind): void => {
    remembered.killBecause = {
      attempt: attempt.id,
      message: `Container ${name} failed ${kind.toLowerCase()} probe, will be restarted`,
      graceSeconds: container[fieldOf[kind]]?.terminationGracePeriodSeconds,
    };
  };
  const startOthers = (): void => {
    if (prober.isAsked('Liveness', target))
      start('Liveness', (ok) => {
        if (!ok) kill('Liveness');
      });
    if (prober.isAsked('Readiness', target))
      start('Readiness', (ok) => {
        remembered.ready = ok;
      });
  };
  if (remembered.started || !prober.isAsked('Startup', target)) {
    startOthers();
    return;
  }
  start('Startup', (ok) => {
    if (!ok) {
      kill('Startup');
      return;
    }
    if (remembered.started) return;
    remembered.started = true;
    remembered.ready = !prober.isAsked('Readiness', target);
    state.probes.get(name)?.probes[0]?.cancel();
    startOthers();
  });
}
