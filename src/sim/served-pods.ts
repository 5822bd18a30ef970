/**
 * Simulated Pods as the kubelet's server sees an engine and its Pods: who asks for logs, exec, attach, port-forward or
 * stats of a simulated node goes through the code of a real one (`kubelet/server.ts`, `kubelet/serving.ts`) and ends
 * here.
 */
import { ApiError } from '#base/errors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import type { ContainerStats, ContainerStatus, ExecSpec, LogLine, LogOptions, Streams } from '#engine/engine.ts';
import { labelContainerName, labelPodName, labelPodNamespace, labelPodUid, labelRestartCount } from '#kubelet/names.ts';
import type { Served } from '#kubelet/serving.ts';
import type { Clock } from '#os/clock.ts';
import type { Duplex } from 'node:stream';
import { lastLines, type LogPosition, logStart, printedBytes, type PrintedLine } from './container-log.ts';
import { cpuNanoCoresOf } from './metrics.ts';
import { runAttach, runExec, type Spoken } from './pod-exec.ts';
import { connectTo } from './pod-ports.ts';
import type { Scripts } from './pod-script.ts';
import type { SimPod } from './sim-pod.ts';
import type { SimAttempt } from './sim-runtime.ts';

export interface ServedDependencies {
  clock: Clock;
  scripts: Scripts;
  /** Those of one node, or any. */ pods(): Iterable<SimPod>;
}
interface Run {
  pod: SimPod;
  attempt: SimAttempt;
}

function statusOf({ pod, attempt }: Run): ContainerStatus {
  const { uid, name, namespace } = pod.pod.metadata;
  return {
    id: attempt.id,
    name: attempt.name,
    owner: 'kubelet',
    image: attempt.image,
    imageId: attempt.imageId,
    state: attempt.state === 'running' ? 'running' : 'exited',
    pid: 0,
    exitCode: attempt.exitCode,
    oomKilled: attempt.oomKilled,
    error: '',
    createdAtMs: attempt.startedAtMs,
    startedAtMs: attempt.startedAtMs,
    finishedAtMs: attempt.finishedAtMs,
    restartCount: attempt.restartCount,
    logPath: '',
    labels: {
      [labelPodUid]: uid!,
      [labelPodName]: name!,
      [labelPodNamespace]: namespace!,
      [labelContainerName]: attempt.name,
      [labelRestartCount]: String(attempt.restartCount),
    },
  };
}

function specOf(pod: KubeObject, container: string): Json {
  const { containers, initContainers = [], ephemeralContainers = [] } = pod['spec'];
  return (
    ([...containers, ...initContainers, ...ephemeralContainers] as Json[]).find(({ name }) => name === container) ?? {}
  );
}

export class ServedPodsOf implements Served {
  readonly #deps: ServedDependencies;
  readonly kubelet: Served['kubelet'] = {
    pods: () => [...this.#deps.pods()].map(({ pod }) => pod),
    podByName: (namespace, name) =>
      [...this.#deps.pods()]
        .map(({ pod }) => pod)
        .find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
  };
  readonly engine: Served['engine'] = {
    containers: {
      list: ({ labels = {} } = {}) =>
        [...this.#runs(labels)]
          .map(statusOf)
          .filter((status) => Object.entries(labels).every(([name, value]) => status.labels[name] === value)),
      exec: (id, spec, streams, signal) => this.#exec(id, spec, streams, signal),
      attach: (id, streams, signal) => runAttach(this.#spoken(this.#run(id)), streams, this.#deps.clock, signal),
      logs: (id, options) => this.logs(id, options),
      stats: async (id) => this.#stats(this.#run(id)),
    },
    sandboxes: { connect: (id, port) => this.#connect(id, port) },
  };
  /** Processor time used so far, by run. */
  readonly #used = new WeakMap<SimAttempt, { nanoseconds: number; atMs: number }>();

  constructor(deps: ServedDependencies) {
    this.#deps = deps;
  }

  *#runs(labels: Record<string, string> = {}): Generator<Run> {
    const uid = labels[labelPodUid];
    for (const pod of this.#deps.pods()) {
      if (uid !== undefined && pod.pod.metadata.uid !== uid) continue;
      for (const attempts of pod.attempts.values()) for (const attempt of attempts) yield { pod, attempt };
    }
  }

  #run(id: string): Run {
    for (const run of this.#runs()) if (run.attempt.id === id) return run;
    throw new ApiError('NotFound', `no such container: ${id}`);
  }

  #spoken({ pod, attempt }: Run): Spoken {
    const context = pod.context(attempt.name);
    const { tty = false, stdin = false, stdinOnce = false } = specOf(pod.pod, attempt.name);
    return {
      script: this.#deps.scripts.of(context),
      context,
      log: pod.logOf(attempt),
      tty,
      openStdin: stdin,
      stdinOnce,
    };
  }

  async #exec(id: string, spec: ExecSpec, streams: Streams, signal?: AbortSignal): Promise<number> {
    return runExec(this.#spoken(this.#run(id)), spec, streams, this.#deps.clock, signal);
  }

  /** What a run has logged by now, of `options`; and from where what follows is read. */
  readLog(id: string, options: LogOptions): { lines: LogLine[]; position: LogPosition } {
    const { pod, attempt } = this.#run(id);
    const log = pod.logOf(attempt);
    const { lines, position } = log.read(logStart, this.#deps.clock.now());
    const wanted = lines.filter(
      ({ stream, atMs }) =>
        options[stream] && (options.sinceNs === undefined || BigInt(atMs + log.skewMs) * 1_000_000n >= options.sinceNs),
    );
    return {
      lines: (options.tailLines === undefined ? wanted : lastLines(wanted, options.tailLines)).map((line) =>
        toLogLine(line, log.skewMs),
      ),
      position,
    };
  }

  async *logs(id: string, options: LogOptions): AsyncGenerator<LogLine> {
    const { pod, attempt } = this.#run(id);
    const { lines, position } = this.readLog(id, options);
    yield* lines;
    if (!options.follow) return;
    const log = pod.logOf(attempt);
    for await (const line of log.follow(position, this.#deps.clock, options.signal))
      if (options[line.stream]) yield toLogLine(line, log.skewMs);
  }

  #stats({ pod, attempt }: Run): ContainerStats {
    const context = pod.context(attempt.name);
    const readAtMs = this.#deps.clock.now();
    const used = this.#used.get(attempt) ?? { nanoseconds: 0, atMs: attempt.beganMs };
    // A counter never goes back, whatever the script says of each moment.
    used.nanoseconds += Math.round(
      (cpuNanoCoresOf(this.#deps.scripts.of(context), context) * Math.max(0, readAtMs - used.atMs)) / 1000,
    );
    used.atMs = readAtMs;
    this.#used.set(attempt, used);
    const memory = Math.round(pod.memoryBytes(attempt.name));
    return {
      cpuNanoseconds: used.nanoseconds,
      memoryUsageBytes: memory,
      memoryWorkingSetBytes: memory,
      memoryLimitBytes: 0,
      pids: 1,
      readAtMs,
      rxBytes: 0,
      txBytes: 0,
      blockReadBytes: 0,
      blockWriteBytes: 0,
    };
  }

  /** To whatever of the Pod's running containers listens there; they share one address. */
  async #connect(podUid: string, port: number): Promise<Duplex> {
    for (const { pod, attempt } of this.#runs({ [labelPodUid]: podUid })) {
      if (attempt.state !== 'running') continue;
      const listening = this.#deps.scripts.of(pod.context(attempt.name)).ports?.[port];
      if (listening === undefined) continue;
      const connection = connectTo(listening, () => pod.context(attempt.name));
      const forget = pod.logOf(attempt).onEnd(() => {
        connection.destroy();
      });
      connection.once('close', forget);
      return connection;
    }
    throw new Error(`dial tcp4 127.0.0.1:${port}: connect: connection refused`);
  }
}

function toLogLine(line: PrintedLine, skewMs: number): LogLine {
  const timestamp = new Date(line.atMs + skewMs).toISOString().replace('Z', '000000Z');
  return { stream: line.stream, timestamp, partial: line.isPartial, data: Buffer.from(printedBytes(line)) };
}
