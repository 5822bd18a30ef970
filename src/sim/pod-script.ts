/**
 * What a simulated Pod does. Scripts are chosen by label selector or by a function; what they do not say happens as a small
 * healthy server would: pulled and started within a moment, ready at once, running until it is told to stop.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { matchesLabels, parseLabelSelector } from '#base/selectors.ts';
import type { Random } from '#os/clock.ts';
import { type Duration, durationMs } from './duration.ts';

export interface ContainerContext { pod: KubeObject; container: string; /** Starts at 0; grows with each restart. */ attempt: number; nowMs: number; random: Random }

export interface ExecResult { stdout?: string; stderr?: string; exitCode?: number }

export interface PodScript {
  /** From the node's acceptance to the first container's start: image pull and sandbox. */
  startAfter?: Duration;
  /** From a container's start to its readiness (a readiness probe adds its own delay). */
  readyAfter?: Duration;
  /** The container ends by itself after this time … */
  exitAfter?: Duration;
  /** … with this code; 0 when absent. */
  exitCode?: number;
  /** The container fails this many times (by `exitCode`, 1 when absent) and then runs well. */
  failures?: number;
  /** Memory grows by this much a second until the limit: the container is killed with 137, OOMKilled. */
  leakBytesPerSecond?: number;
  /** The liveness probe fails from this time after the start: the container is restarted. */
  livenessFailsAfter?: Duration;
  /** The image cannot be pulled. */
  imagePullFails?: boolean;
  /** The containers cannot be made, for this reason (CreateContainerConfigError): tried again every few seconds. */
  cannotCreate?: string;
  /** How long a container takes to stop after the signal; never beyond the grace period, then it is killed (137). */
  stopAfter?: Duration;
  /** Exit code on an orderly stop; 0 when absent. */
  stopExitCode?: number;
  /** Init containers take this long each. */
  initAfter?: Duration;
  /** Usage for metrics.k8s.io: CPU in thousandths of a core, memory in bytes. */
  cpu?(context: ContainerContext): number;
  memory?(context: ContainerContext): number;
  logs?: readonly string[] | ((context: ContainerContext) => readonly string[]);
  exec?(command: readonly string[], context: ContainerContext): ExecResult;
}

/** A function may decide per container run, so that a second start behaves unlike the first. */
export type ScriptSource = PodScript | ((context: ContainerContext) => PodScript | undefined);
export interface ScriptRule { selector?: string; namespace?: string; script: ScriptSource }

export interface ResolvedScript { startMs: number; readyMs: number; exitMs: number | undefined; exitCode: number; stopMs: number; stopExitCode: number; initMs: number; oomMs: number | undefined; livenessMs: number | undefined; imagePullFails: boolean; cannotCreate: string | undefined; script: PodScript }

const nothing: PodScript = Object.freeze({});

export class Scripts {
  readonly #rules: { matches(pod: KubeObject): boolean; script: ScriptSource }[] = [];

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
    this.#rules.unshift({ script, matches: (pod) => (namespace === undefined || pod.metadata.namespace === namespace) && matchesLabels(requirements, pod.metadata.labels) });
  }

  of(context: ContainerContext): PodScript {
    for (const { matches, script } of this.#rules) {
      if (!matches(context.pod)) continue;
      const found = typeof script === 'function' ? script(context) : script;
      if (found !== undefined) return found;
    }
    return nothing;
  }

  /** Times and codes of one container run. */
  resolve(context: ContainerContext): ResolvedScript {
    const script = this.of(context);
    const spec = (context.pod['spec'].containers as Json[]).find(({ name }) => name === context.container) ?? {};
    const limit = Number(memoryLimitOf(spec) ?? 0);
    const failing = script.failures !== undefined && context.attempt < script.failures;
    const exits = script.exitAfter !== undefined && (script.failures === undefined || failing || context.pod['spec'].restartPolicy !== 'Always');
    return {
      startMs: script.startAfter === undefined ? 200 + Math.floor(context.random.float() * 300) : durationMs(script.startAfter), readyMs: durationMs(script.readyAfter ?? 0),
      exitMs: exits ? durationMs(script.exitAfter!) : undefined, exitCode: script.failures === undefined ? (script.exitCode ?? 0) : failing ? (script.exitCode ?? 1) : 0,
      stopMs: durationMs(script.stopAfter ?? 100), stopExitCode: script.stopExitCode ?? 0, initMs: durationMs(script.initAfter ?? 100),
      oomMs: script.leakBytesPerSecond === undefined || limit === 0 ? undefined : (limit / script.leakBytesPerSecond) * 1000,
      livenessMs: script.livenessFailsAfter === undefined ? undefined : durationMs(script.livenessFailsAfter), imagePullFails: script.imagePullFails === true, cannotCreate: script.cannotCreate, script,
    };
  }
}

const suffixBytes: Record<string, number> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, k: 1e3, M: 1e6, G: 1e9 };

function memoryLimitOf(container: Json): number | undefined {
  const text: string | undefined = container.resources?.limits?.memory;
  const match = text === undefined ? null : /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|k|M|G)?$/.exec(text);
  return match === null ? undefined : Number(match[1]) * (match[2] === undefined ? 1 : suffixBytes[match[2]]!);
}
