/**
 * When the probes of a scripted container come to their verdicts, in milliseconds from its start. Probes look at set
 * moments and need several alike results, so what they say comes later than what happens (Kubernetes documentation,
 * "Configure Liveness, Readiness and Startup Probes"). Without a probe the verdict comes as it happens. Pure.
 */
import type { AnyContainer } from '#kubelet/containers.ts';
import type { Probe } from '#api/core.v1.ts';
import type { ResolvedScript } from './pod-script.ts';

export interface ProbeTimes {
  startedMs: number;
  readyMs: number;
  unreadyMs: number | undefined;
  /** The first probe that has the container killed. */
  kill: { atMs: number; probe: 'Liveness' | 'Startup' } | undefined;
}

interface Looks {
  firstMs: number;
  periodMs: number;
  failures: number;
  successes: number;
}

function looksOf(probe: Probe, fromMs: number): Looks {
  return {
    firstMs: Math.max(fromMs, (probe.initialDelaySeconds ?? 0) * 1000),
    periodMs: (probe.periodSeconds ?? 10) * 1000,
    failures: probe.failureThreshold ?? 3,
    successes: probe.successThreshold ?? 1,
  };
}

/** The verdict of `count` looks from the first at or after `atMs`. */
function verdictMs({ firstMs, periodMs }: Looks, atMs: number, count: number): number {
  return firstMs + (Math.max(0, Math.ceil((atMs - firstMs) / periodMs)) + count - 1) * periodMs;
}

export function probeTimes(container: AnyContainer, script: ResolvedScript): ProbeTimes {
  const { startupProbe, readinessProbe, livenessProbe } = container;
  let startedMs = 0;
  let kill: ProbeTimes['kill'];
  if (startupProbe !== undefined) {
    const looks = looksOf(startupProbe, startedMs);
    const failedMs = verdictMs(looks, 0, looks.failures);
    startedMs = verdictMs(looks, script.startedMs, 1);
    if (failedMs < startedMs) kill = { atMs: failedMs, probe: 'Startup' };
  }
  const readiness = readinessProbe === undefined ? undefined : looksOf(readinessProbe, startedMs);
  const readyMs =
    readiness === undefined
      ? Math.max(startedMs, script.readyMs)
      : verdictMs(readiness, script.readyMs, readiness.successes);
  const unreadyMs =
    script.unreadyMs === undefined || readiness === undefined
      ? script.unreadyMs
      : verdictMs(readiness, script.unreadyMs, readiness.failures);
  if (kill === undefined && script.livenessMs !== undefined) {
    const liveness = livenessProbe === undefined ? undefined : looksOf(livenessProbe, startedMs);
    kill = {
      atMs: liveness === undefined ? script.livenessMs : verdictMs(liveness, script.livenessMs, liveness.failures),
      probe: 'Liveness',
    };
  }
  return { startedMs, readyMs, unreadyMs, kill };
}

/** What a failed probe of this kind says of an application that does not answer. */
export function probeFailure(probe: Probe | undefined, podIp: string): string {
  if (probe?.httpGet !== undefined) return 'HTTP probe failed with statuscode: 500';
  if (probe?.tcpSocket !== undefined) return `dial tcp ${podIp}:${probe.tcpSocket.port}: connect: connection refused`;
  if (probe?.grpc !== undefined) return 'service unhealthy (responded with "NOT_SERVING")';
  return '';
}
