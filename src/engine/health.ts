/**
 * Health checks of docker's containers (`HEALTHCHECK`, `--health-cmd`): a command run in the container every so often;
 * its last results; `healthy`,
 * `unhealthy` after so many failures in a row, `starting` before that. Times come as nanoseconds, as docker's API has
 * them; 0 is the default.
 */
import { formatDuration } from '#base/duration.ts';
import { PassThrough } from 'node:stream';
import { messageOf } from '#base/thrown.ts';
import { pause } from '#os/clock.ts';
import type { Container, HealthState } from './container.ts';
import { eventAttributes } from './container.ts';
import type { Clock } from '#os/clock.ts';
import type { EngineContext } from './context.ts';
import type { Containers } from './engine.ts';
import { healthLogEntriesMax, healthOutputBytesMax } from './limits.ts';

export interface HealthCheck {
  command: string[];
  intervalMs: number;
  timeoutMs: number;
  startPeriodMs: number;
  startIntervalMs: number;
  retries: number;
}

interface HealthBody {
  Test?: string[];
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

/** Undefined when there is none, or it was switched off (`NONE`). */
export function parseHealthCheck(body: HealthBody | null | undefined): HealthCheck | undefined {
  const [kind, ...rest] = body?.Test ?? [];
  if (kind === undefined || kind === 'NONE' || rest.length === 0) return undefined;
  const ms = (value: number | undefined, absent: number): number =>
    value === undefined || value === 0 ? absent : Math.max(1, Math.floor(value / 1_000_000));
  return {
    command: kind === 'CMD-SHELL' ? ['/bin/sh', '-c', rest.join(' ')] : rest,
    intervalMs: ms(body?.Interval, 30_000),
    timeoutMs: ms(body?.Timeout, 30_000),
    startPeriodMs: ms(body?.StartPeriod, 0),
    startIntervalMs: ms(body?.StartInterval, 5_000),
    retries: body?.Retries === undefined || body.Retries === 0 ? 3 : body.Retries,
  };
}

/**
 * What a result makes of the state. A failure within the start period counts for nothing; a success ends that period.
 */
export function nextHealth(
  state: HealthState,
  check: HealthCheck,
  exitCode: number,
  sinceStartMs: number,
): Pick<HealthState, 'status' | 'failingStreak'> {
  if (exitCode === 0) return { status: 'healthy', failingStreak: 0 };
  if (state.status === 'starting' && sinceStartMs < check.startPeriodMs)
    return { status: 'starting', failingStreak: 0 };
  const failingStreak = state.failingStreak + 1;
  return { status: failingStreak >= check.retries ? 'unhealthy' : state.status, failingStreak };
}

/** Runs checks until this life of the container ends. */
export async function runHealthChecks(
  context: EngineContext,
  containers: Pick<Containers, 'exec'>,
  container: Container,
): Promise<void> {
  const check = parseHealthCheck(container.record.spec.request?.['Healthcheck'] as HealthBody | undefined);
  if (check === undefined) return;
  const run = container.record.run;
  const state: HealthState = { status: 'starting', failingStreak: 0, log: [] };
  container.health = state;
  const over = new AbortController();
  container.onRunEnd(() => over.abort());
  while (container.record.run === run && !over.signal.aborted) {
    const starting =
      state.status === 'starting' && context.clock.now() - container.record.startedAtMs < check.startPeriodMs;
    await pause(
      context.clock,
      starting ? Math.min(check.startIntervalMs, check.intervalMs) : check.intervalMs,
      over.signal,
    );
    if (over.signal.aborted || container.record.run !== run) return;
    if (container.record.state === 'paused') continue;
    const result = await probe(context.clock, containers, { container, check }, over.signal);
    if (over.signal.aborted || container.health !== state) return;
    const before = state.status;
    Object.assign(state, nextHealth(state, check, result.ExitCode, context.clock.now() - container.record.startedAtMs));
    state.log = [...state.log, result].slice(-healthLogEntriesMax);
    if (state.status !== before)
      context.events.emit({
        type: 'container',
        action: `health_status: ${state.status}`,
        id: container.id,
        attributes: eventAttributes(container),
        owner: container.record.spec.owner,
      });
  }
}

interface HealthProbe {
  container: Container;
  check: HealthCheck;
}

async function probe(
  clock: Clock,
  containers: Pick<Containers, 'exec'>,
  { container, check }: HealthProbe,
  signal: AbortSignal,
): Promise<HealthState['log'][number]> {
  const started = clock.now();
  const late = new AbortController();
  const timer = clock.setTimer(check.timeoutMs, () => late.abort(), { background: true });
  const out = new PassThrough();
  let text = '';
  out.on('data', (part: Buffer) => {
    if (text.length < healthOutputBytesMax) text += part.toString('utf8', 0, healthOutputBytesMax - text.length);
  });
  let code: number;
  try {
    code = await containers.exec(
      container.id,
      { command: check.command, tty: false },
      { stdout: out, stderr: out },
      AbortSignal.any([signal, late.signal]),
    );
  } catch (error) {
    code = -1;
    text = messageOf(error);
  }
  timer.cancel();
  if (late.signal.aborted) {
    code = -1;
    text = `Health check exceeded timeout (${formatDuration(check.timeoutMs)})${text === '' ? '' : `: ${text}`}`;
  }
  const iso = (ms: number): string => new Date(ms).toISOString();
  return { Start: iso(started), End: iso(clock.now()), ExitCode: code, Output: text };
}
