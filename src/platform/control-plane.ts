/**
 * Controllers and scheduler of a server process, which run while it leads. Of several servers one leads; a server alone
 * is elected at once. The candidate is the server, not its process: one that was killed and comes back finds itself the
 * holder and waits for nothing, because its supervisor starts no process beside another.
 *
 * Controllers and scheduler share a lease and their informers: they gain nothing from running on different servers.
 */
import type { Client } from '#client/client.ts';
import { InformerFactory } from '#client/informer.ts';
import { runLeaderElection } from '#client/leader-election.ts';
import { createWorkQueueMetrics } from '#client/metrics.ts';
import { runControllers, type ControllerOptions } from '#controllers/run.ts';
import type { Logger } from '#observe/log.ts';
import type { Metrics } from '#observe/metrics.ts';
import type { Clock, Random } from '#os/clock.ts';
import { createSchedulerMetrics, type SchedulerMetrics } from '#scheduler/metrics.ts';
import { runScheduler } from '#scheduler/scheduler.ts';
import { controlPlaneRetryMs, sharedLeaseMs, sharedLookMs, sharedRenewDeadlineMs, sharedRetryMs } from './limits.ts';

export interface ControlPlaneInput {
  clientFor(name: string): Client;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Of this server, the same after a restart. */
  identity: string;
  options: ControllerOptions;
  metrics: Metrics;
  /** Other servers may lead. */
  isShared?: boolean;
}

export interface ControlPlane extends AsyncDisposable {
  /** Resolves when controllers and scheduler run, here or where another server leads. */
  ready: Promise<void>;
}

/** The others notice within ten seconds that the leader is gone, and within one that it has left. */
const sharedTerms = {
  leaseDurationMs: sharedLeaseMs,
  renewDeadlineMs: sharedRenewDeadlineMs,
  retryPeriodMs: sharedRetryMs,
  lookPeriodMs: sharedLookMs,
};

/** On one machine usage is at hand, so that autoscalers need not wait as long as in a large cluster. */
const autoscalerPeriodMs = 3_000;

/** Of the server on a node's machine, the same after a restart. */
export function leaderIdentity(node: string, instanceId: string): string {
  return `${node}_${instanceId}`;
}

/** The node on whose machine controllers and scheduler run. */
export function nodeOfLeader(identity: string): string {
  return identity.replace(/_[^_]*$/, '');
}

export const leaderLease = { namespace: 'kube-system', name: 'tiphys-control-plane' } as const;

export function runControlPlane(input: ControlPlaneInput): ControlPlane {
  const { clientFor, clock, random, log, identity } = input;
  const measured: Measured = {
    queueMetrics: createWorkQueueMetrics(input.metrics),
    scheduler: createSchedulerMetrics(input.metrics),
  };
  const ready = Promise.withResolvers<void>();
  const stop = new AbortController();
  const election = runLeaderElection({
    client: clientFor('system:kube-controller-manager'),
    clock,
    random,
    log,
    ...leaderLease,
    identity,
    ...(input.isShared === true ? sharedTerms : { retryPeriodMs: controlPlaneRetryMs }),
    signal: stop.signal,
    newLeader(holder) {
      if (holder !== identity) ready.resolve();
    },
    lead: (signal) => lead(input, measured, signal, ready.resolve),
  });
  election.catch(ready.reject);
  return {
    ready: ready.promise,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await election;
    },
  };
}

/** Of all terms. */
interface Measured {
  queueMetrics: ReturnType<typeof createWorkQueueMetrics>;
  scheduler: SchedulerMetrics;
}

/** One term. */
async function lead(
  input: ControlPlaneInput,
  measured: Measured,
  signal: AbortSignal,
  running: () => void,
): Promise<void> {
  const { clientFor, clock, random, log, options } = input;
  const client = clientFor('system:kube-controller-manager');
  await using informers = new InformerFactory({ client, clock, random, log });
  await using _controllers = await runControllers({
    client,
    clock,
    random,
    log,
    informers,
    options: { autoscalerPeriodMs, ...options },
    queueMetrics: measured.queueMetrics,
  });
  await using _scheduler = await runScheduler({
    client: clientFor('system:kube-scheduler'),
    clock,
    random,
    log,
    informers,
    metrics: measured.scheduler,
  });
  running();
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
