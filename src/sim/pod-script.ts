/**
 * What a simulated Pod does. Scripts are chosen by label selector or by a function; what they do not say happens as a
 * small healthy server would: pulled and started within a moment, ready at once, running until it is told to stop. The
 * Pod of a Job does its work in a second.
 */
import type { AnyContainer } from '#kubelet/containers.ts';
import type { Pod } from '#api/core.v1.ts';
import type { Duplex, Readable, Writable } from 'node:stream';
import { matchesLabels, parseLabelSelector } from '#base/selectors.ts';
import { amount } from '#kubelet/qos.ts';
import type { Random } from '#os/clock.ts';
import type { LogEntry } from './container-log.ts';
import { type Duration, durationMs } from './duration.ts';

const jobMs = 1_000;

export interface ContainerContext {
  pod: Pod;
  container: string;
  /** Starts at 0; grows with each restart. */ attempt: number;
  nowMs: number;
  random: Random;
}

export interface ExecResult {
  stdout?: string | Uint8Array;
  stderr?: string | Uint8Array;
  /** 0 when absent. */ exitCode?: number;
}

/** A command that runs in a container, and its client. */
export interface ExecContext extends ContainerContext {
  tty: boolean;
  /**
   * What the client sends, as bytes; it has ended from the start where nothing is sent. With a terminal it comes line
   * by line.
   */
  stdin: Readable;
  /** For what shall be shown at once; what the answer says comes after it. */
  stdout: Writable;
  stderr: Writable;
  /** Aborts when the client leaves, the container ends or, on a terminal, Ctrl-C is typed. */
  signal: AbortSignal;
  /** Resolves when so much virtual time has passed; rejects when `signal` aborts. */
  sleep(duration: Duration): Promise<void>;
}

export type PortAnswer = Response | string;
/** A string is a body with status 200; an error is a 500. `accept` is handed each connection as bytes, and ends it. */
export type PortScript =
  | ((request: Request, context: ContainerContext) => PortAnswer | Promise<PortAnswer>)
  | { accept(connection: Duplex, context: ContainerContext): void };

export interface PodScript {
  /**
   * From the node's acceptance to the first container's start, an ordinary image pull included; 200 to 500 ms when
   * absent.
   */
  startAfter?: Duration;
  /** Pulling the image takes this long more: once for each node and image, as it is kept there. */
  pullAfter?: Duration;
  /** From a container's start to its readiness (a readiness probe adds its own delay). */
  readyAfter?: Duration;
  /** A startup probe fails until this time after the start; `readyAfter` when absent. */
  startedAfter?: Duration;
  /** The container is no longer ready from this time after its start. */
  readinessFailsAfter?: Duration;
  /**
   * The container ends by itself after this time, Infinity for never; a second for the Pod of a Job, and never for
   * others, when absent …
   */
  exitAfter?: Duration;
  /** … with this code; 0 when absent. */
  exitCode?: number;
  /** The container fails this many times (by `exitCode`, 1 when absent) and then runs well. */
  failures?: number;
  /** What it leaves to say when it ends by itself: its termination message. */
  terminationMessage?: string;
  /**
   * Memory grows by this much a second until the limit: the container is killed with 137, OOMKilled. Without a limit
   * the node runs short and evicts.
   */
  leakBytesPerSecond?: number;
  /**
   * The liveness probe fails from this time after the start (at once, where there is no probe): the container is
   * restarted.
   */
  livenessFailsAfter?: Duration;
  /** The image cannot be pulled. */
  imagePullFails?: boolean;
  /** The containers cannot be made, for this reason (CreateContainerConfigError): tried again every few seconds. */
  cannotCreate?: string;
  /**
   * How long a container takes to stop after the signal, 100 ms when absent; never beyond the grace period, then it is
   * killed (137). After a failed probe, a container without this hangs: it does not hear the signal.
   */
  stopAfter?: Duration;
  /** Exit code when it stops in time; 0 when absent. */
  stopExitCode?: number;
  /** Init containers take this long each … */
  initAfter?: Duration;
  /** … and end with this code; 0 when absent. */
  initExitCode?: number;
  /** Usage for metrics.k8s.io: CPU in thousandths of a core, memory in bytes. */
  cpu?(context: ContainerContext): number;
  memory?(context: ContainerContext): number;
  /**
   * What it prints: at its start, or at times counted from it (`{ text, after, every, stream }`). A function is called
   * once for each start.
   */
  logs?: ScriptedLogs | ((context: ContainerContext) => ScriptedLogs);
  /** What a command says; undefined when there is no such program. */
  exec?(command: readonly string[], context: ExecContext): ExecResult | undefined | Promise<ExecResult | undefined>;
  /**
   * What it prints when this is typed to it (`attach --stdin`; the container must have `stdin: true`); an empty text is
   * the end of a `stdinOnce` input.
   */
  input?(text: string, context: ContainerContext): string | undefined;
  /** What answers on its ports, for `port-forward`. */
  ports?: Readonly<Record<number, PortScript>>;
}

export type ScriptedLogs = readonly (string | LogEntry)[];

/** A function may decide per container run, so that a second start behaves unlike the first. */
export type ScriptSource = PodScript | ((context: ContainerContext) => PodScript | undefined);
export interface ScriptRule {
  selector?: string;
  namespace?: string;
  script: ScriptSource;
}

/** Times of one container run in milliseconds from its start, and codes. */
export interface ResolvedScript {
  startedMs: number;
  readyMs: number;
  unreadyMs: number | undefined;
  exitMs: number | undefined;
  exitCode: number;
  initMs: number;
  initExitCode: number;
  oomMs: number | undefined;
  livenessMs: number | undefined;
  script: PodScript;
}

const nothing: PodScript = Object.freeze({});

export class Scripts {
  readonly #rules: { matches(pod: Pod): boolean; script: ScriptSource }[] = [];

  constructor(rules: readonly ScriptRule[]) {
    for (const rule of rules) this.add(rule);
  }

  /** An independent list of the same rules. */
  copy(): Scripts {
    const copy = new Scripts([]);
    copy.#rules.push(...this.#rules);
    return copy;
  }

  /** Later rules are asked first. */
  add({ selector, namespace, script }: ScriptRule): void {
    const requirements = selector === undefined ? [] : parseLabelSelector(selector);
    this.#rules.unshift({
      script,
      matches: (pod) =>
        (namespace === undefined || pod.metadata.namespace === namespace) &&
        matchesLabels(requirements, pod.metadata.labels),
    });
  }

  of(context: ContainerContext): PodScript {
    for (const { matches, script } of this.#rules) {
      if (!matches(context.pod)) continue;
      const found = typeof script === 'function' ? script(context) : script;
      if (found !== undefined) return found;
    }
    return nothing;
  }

  /** Times and codes of one run of the container `spec`. */
  resolve(context: ContainerContext, spec: AnyContainer): ResolvedScript {
    const script = this.of(context);
    const limit = amount(spec.resources?.limits?.memory) ?? 0;
    const failing = script.failures !== undefined && context.attempt < script.failures;
    const exitMs = optionalMs(script.exitAfter) ?? (isWork(context.pod, spec, script) ? jobMs : Infinity);
    const exits =
      exitMs < Infinity &&
      (script.failures === undefined || failing || (spec.restartPolicy ?? context.pod.spec.restartPolicy) !== 'Always');
    const readyMs = durationMs(script.readyAfter ?? 0);
    return {
      readyMs,
      startedMs: script.startedAfter === undefined ? readyMs : durationMs(script.startedAfter),
      unreadyMs: optionalMs(script.readinessFailsAfter),
      exitMs: exits ? exitMs : undefined,
      exitCode: script.failures === undefined ? (script.exitCode ?? 0) : failing ? (script.exitCode ?? 1) : 0,
      initMs: durationMs(script.initAfter ?? 100),
      initExitCode: script.initExitCode ?? 0,
      oomMs:
        script.leakBytesPerSecond === undefined || limit === 0 ? undefined : (limit / script.leakBytesPerSecond) * 1000,
      livenessMs: optionalMs(script.livenessFailsAfter),
      script,
    };
  }
}

/** Of a Job, and nothing is said of how else it ends. */
function isWork(pod: Pod, container: AnyContainer, { leakBytesPerSecond, livenessFailsAfter }: PodScript): boolean {
  return (
    leakBytesPerSecond === undefined &&
    livenessFailsAfter === undefined &&
    container.restartPolicy !== 'Always' &&
    pod.metadata.ownerReferences?.some(({ kind, controller }) => kind === 'Job' && controller === true) === true
  );
}

function optionalMs(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : durationMs(duration);
}

const idleCpu = 1;

/** What a container uses of processors now, in billionths of one. */
export function cpuNanoCoresOf(script: PodScript, context: ContainerContext): number {
  return Math.round((script.cpu?.(context) ?? idleCpu) * 1e6);
}
