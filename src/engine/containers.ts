/**
 * `Containers`, the contract of engine.ts, and what docker asks beyond it. Each method finds the container and hands on
 * to the file of its verb.
 */
import { ApiError } from '#base/errors.ts';
import type { CgroupLimits } from '#os/cgroups.ts';
import type { Clock } from '#os/clock.ts';
import { applyUpdate } from './cgroup-limits.ts';
import { publishNames } from './dns-names.ts';
import { AttachHub } from './attach.ts';
import type { Container } from './container.ts';
import { eventAttributes } from './container.ts';
import { createContainer } from './container-create.ts';
import { runHealthChecks } from './health.ts';
import { finishRun, nextRestartDelayMs } from './container-exit.ts';
import { removeContainer } from './container-remove.ts';
import { startContainer } from './container-start.ts';
import { bundleDirectory, logPathOf, readableLogPath } from './container-paths.ts';
import { killContainer, stopContainer } from './container-stop.ts';
import { setPaused } from './freeze.ts';
import type {
  ContainerSpec,
  ContainerStats,
  ContainerStatus,
  Containers as ContainersContract,
  DiskUse,
  ExecSpec,
  LogLine,
  LogOptions,
  Owner,
  Streams,
} from './engine.ts';
import { emitExec, startExec } from './exec.ts';
import type { RunningExec } from './exec.ts';
import { concurrentRemovalsMax, concurrentStartsMax } from './limits.ts';
import { Gate } from '#base/gate.ts';
import { onceAborted } from '#base/streams.ts';
import { forwardLog, infoOf } from './log-drivers/open.ts';
import { isPluginLog } from './log-drivers/options.ts';
import { readPluginLog } from './log-drivers/plugin.ts';
import { keepLog } from './log-rotation.ts';
import { readLogs } from './logs.ts';
import type { ContainerTable } from './container-table.ts';
import { readStats, summariseStats } from './stats.ts';
import { treeSize } from './tree-size.ts';

export class Containers implements ContainersContract {
  readonly table: ContainerTable;
  readonly #starts = new Gate(concurrentStartsMax);
  readonly #removals = new Gate(concurrentRemovalsMax);
  readonly #clock: Clock;
  #closed = false;

  constructor(table: ContainerTable) {
    this.table = table;
    this.#clock = table.context.clock;
    table.onStarted = (container) => this.watch(container);
  }

  close(): void {
    this.#closed = true;
    for (const container of this.table.list()) {
      container.restartTimer?.cancel();
      container.keptLog?.stop();
      container.forwarder?.stop();
    }
  }

  async create(spec: ContainerSpec): Promise<string> {
    const { context } = this.table;
    const id = spec.id ?? Buffer.from(context.random.bytes(32)).toString('hex');
    this.table.reserveName(spec.name, id);
    using pins = new DisposableStack();
    try {
      const container = await createContainer(
        { context, networks: this.table.networks, volumes: this.table.volumes },
        { ...spec, id },
        pins,
      );
      this.table.add(container);
      return id;
    } catch (error) {
      this.table.releaseName(spec.name, id);
      throw error;
    }
  }

  /** A no-op when it runs already. */
  async start(id: string): Promise<void> {
    const container = this.table.get(id);
    if (container.record.state === 'paused')
      throw new ApiError('Conflict', 'cannot start a paused container, try unpause instead');
    if (container.record.state === 'restarting') {
      container.restartTimer?.cancel();
      container.restartTimer = undefined;
    }
    container.restartDelayMs = 0;
    if (!container.isRunning) container.record.restartCount = 0;
    try {
      await this.#startNow(container);
    } catch (error) {
      // Whoever waits for the removal of a `--rm` container learns of the failure by it.
      container.tellExit(container.record.exitCode ?? 128);
      if (container.record.spec.autoRemove === true && !container.removed)
        void this.remove(container.id, { volumes: true }).catch((second: unknown) =>
          this.table.context.log.warn('auto-remove', { id: container.id, error: second }),
        );
      throw error;
    }
  }

  async #startNow(container: Container): Promise<void> {
    await container.lock.run(async () => {
      if (container.removed) throw new ApiError('NotFound', `No such container: ${container.id}`);
      if (container.isRunning) return;
      if (this.table.shuttingDown) throw new ApiError('ServiceUnavailable', 'the engine is shutting down');
      await this.#starts.run(() => startContainer(this.table, container));
    });
  }

  async stop(id: string, timeoutMs: number, signal?: number): Promise<void> {
    const container = this.table.get(id);
    // A start that is under way ends first: stopping half a container would leave the other half.
    await container.lock.run(async () => undefined);
    await stopContainer(this.table, container, timeoutMs, signal);
  }

  async restart(id: string, timeoutMs: number, signal?: number): Promise<void> {
    const container = this.table.get(id);
    // One that vanishes with its end (`--rm`) does not vanish now.
    container.isRestarting = true;
    try {
      if (container.isRunning) await stopContainer(this.table, container, timeoutMs, signal);
      await this.start(container.id);
    } finally {
      container.isRestarting = false;
    }
    this.table.context.events.emit({
      type: 'container',
      action: 'restart',
      id: container.id,
      attributes: eventAttributes(container),
      owner: container.record.spec.owner,
    });
  }

  async kill(id: string, signal: string): Promise<void> {
    const container = this.table.get(id);
    await killContainer(this.table, container, signal);
    if (!container.isRunning) await container.lock.run(async () => undefined);
  }

  async remove(id: string, options: { force?: boolean; volumes?: boolean } = {}): Promise<void> {
    const container = this.table.get(id);
    await this.#removals.run(() => removeContainer(this.table, container, options));
  }

  async pause(id: string, paused: boolean): Promise<void> {
    await setPaused(this.table, this.table.get(id), paused);
  }

  async update(id: string, limits: CgroupLimits): Promise<void> {
    const container = this.table.get(id);
    const { context } = this.table;
    const { run, spec } = container.record;
    if (container.isRunning && run !== undefined) applyUpdate(context.os.cgroups, run.cgroup, limits);
    spec.resources = { ...spec.resources, ...limits };
    container.save(context);
  }

  status(id: string): ContainerStatus | undefined {
    return this.table.find(id)?.status();
  }

  list(filter: { owner?: Owner; labels?: Record<string, string> } = {}): ContainerStatus[] {
    return this.table
      .list()
      .map((container) => container.status())
      .filter(
        (status) =>
          (filter.owner === undefined || status.owner === filter.owner) &&
          Object.entries(filter.labels ?? {}).every(([key, value]) => status.labels[key] === value),
      );
  }

  /**
   * The code of this life's end; of the last one when it does not run. A created container is waited for, until it has
   * run.
   */
  wait(id: string, signal?: AbortSignal): Promise<number> {
    const container = this.table.get(id);
    if (!container.isRunning && container.record.state !== 'restarting')
      return Promise.resolve(container.record.exitCode ?? 0);
    return waitFor((listener) => container.onExit(listener), signal);
  }

  /** Docker's `wait` conditions. */
  waitCondition(id: string, condition: 'not-running' | 'next-exit' | 'removed', signal?: AbortSignal): Promise<number> {
    const container = this.table.get(id);
    if (condition === 'not-running') return this.wait(id, signal);
    return waitFor(
      (listener) => (condition === 'removed' ? container.onRemove(listener) : container.onExit(listener)),
      signal,
    );
  }

  // walk exec-stream 5/5: the engine runs the command beside the container's own process.
  async exec(id: string, spec: ExecSpec, streams: Streams, signal?: AbortSignal): Promise<number> {
    const execId = Buffer.from(this.table.context.random.bytes(32)).toString('hex');
    emitExec(this.table, { container: this.table.get(id), execId }, `exec_create: ${spec.command.join(' ')}`);
    const running = await this.startExec(id, execId, spec, streams);
    const forget = onceAborted(signal, () => running.kill());
    try {
      return await running.exit;
    } finally {
      forget();
    }
  }

  async startExec(id: string, execId: string, spec: ExecSpec, streams: Streams): Promise<RunningExec> {
    const container = this.table.get(id);
    emitExec(this.table, { container, execId }, `exec_start: ${spec.command.join(' ')}`);
    const running = await startExec(this.table, container, { execId, spec, streams });
    running.exit.then(
      (code) => emitExec(this.table, { container, execId }, 'exec_die', { exitCode: String(code) }),
      () => undefined,
    );
    return running;
  }

  async attach(id: string, streams: Streams, signal?: AbortSignal): Promise<void> {
    const container = this.table.get(id);
    const { context } = this.table;
    container.hub ??= new AttachHub(context.os.poll, {
      stdinOnce: container.record.spec.stdinOnce && !container.record.spec.tty,
    });
    const attached = container.hub.attach(streams, signal);
    if (container.isRunning)
      await container.hub
        .connect(`${bundleDirectory(context.directories.run, container.id)}/attach`)
        .catch((error: unknown) => context.log.debug('attach', { id: container.id, error }));
    if (streams.resizes !== undefined)
      void (async () => {
        for await (const size of streams.resizes!) this.resize(container.id, size);
        // The client has gone with its terminal.
      })().catch(() => {});
    await attached;
  }

  resize(id: string, size: { width: number; height: number }): void {
    const container = this.table.get(id);
    if (container.isRunning)
      this.table.context.runtime.resize(bundleDirectory(this.table.context.directories.run, container.id), size);
  }

  async *logs(id: string, options: LogOptions): AsyncGenerator<LogLine> {
    const container = this.table.get(id);
    const path = readableLogPath(this.table, container);
    const { run, spec } = container.record;
    if (spec.logDriver !== undefined && isPluginLog(spec.logDriver.name)) {
      const info = infoOf(this.table, container, spec.logDriver);
      const lines = await readPluginLog(info, this.table.context.plugins, options);
      if (lines !== undefined) {
        yield* lines;
        return;
      }
    }
    if (path === undefined)
      throw new ApiError('InternalError', 'configured logging driver does not support reading', undefined, 501);
    yield* readLogs(
      {
        path,
        // As in docker a restart ends what follows: who wants the next run's lines asks again when it starts.
        isRunning: () => !container.removed && container.isRunning && container.record.run === run,
        onExit: (listener) => container.onRunEnd(listener),
      },
      options,
    );
  }

  async diskUsage(id: string): Promise<DiskUse> {
    const { diskBytes, inodes } = await treeSize(this.table.context.snapshots.upperDir(this.table.get(id).id));
    return { bytes: diskBytes, inodes };
  }

  async stats(id: string): Promise<ContainerStats> {
    const raw = readStats(this.table, this.table.get(id));
    if (raw === undefined) throw new ApiError('Conflict', `container ${id} is not running`);
    return summariseStats(raw);
  }

  async reopenLog(id: string): Promise<void> {
    const container = this.table.get(id);
    if (container.isRunning)
      this.table.context.runtime.reopenLog(bundleDirectory(this.table.context.directories.run, container.id));
  }

  /** Waits for the end of a run by its monitor, which has written the exit file and the last of the log by then. */
  watch(container: Container): void {
    const run = container.record.run!;
    const { context } = this.table;
    publishNames(this.table, container);
    container.keptLog = keepLog(context, container, logPathOf(this.table, container), () =>
      context.runtime.reopenLog(bundleDirectory(context.directories.run, container.id)),
    );
    forwardLog(this.table, container);
    void runHealthChecks(this.table.context, this, container).catch((error: unknown) =>
      context.log.warn('health checks', { id: container.id, error }),
    );
    void context.os.poll
      .waitExit(run.monitorPid)
      .then(async () => {
        if (this.#closed || container.record.run !== run) return;
        if (
          context.runtime.exitCode(bundleDirectory(context.directories.run, container.id), container.id) ===
            undefined &&
          context.os.processes.startTime(run.pid) === run.pidStartTime
        ) {
          context.log.warn('the monitor of a container died; its process goes on unwatched', { id: container.id });
          await context.os.poll.waitExit(run.pid);
        }
        await container.lock.run(async () => {
          if (!this.#closed && container.record.run === run) await finishRun(this.table, container);
        });
        await this.afterExit(container);
      })
      .catch((error: unknown) => context.log.error('the end of a container', { id: container.id, error }));
  }

  /** Restart, removal of `--rm` containers, or nothing. */
  async afterExit(container: Container): Promise<void> {
    if (this.#closed || container.removed) return;
    if (container.record.state === 'restarting') {
      if (!this.table.shuttingDown) this.#scheduleRestart(container);
      return;
    }
    if (container.record.spec.autoRemove === true && container.record.state === 'exited' && !container.isRestarting)
      await this.remove(container.id, { volumes: true }).catch((error: unknown) =>
        this.table.context.log.warn('auto-remove', { id: container.id, error }),
      );
  }

  #scheduleRestart(container: Container): void {
    container.restartTimer = this.#clock.setTimer(nextRestartDelayMs(container), () => {
      container.restartTimer = undefined;
      if (container.record.state !== 'restarting' || container.removed) return;
      container.record.restartCount++;
      this.#startNow(container).catch(async (error: unknown) => {
        this.table.context.log.warn('a restart failed', { id: container.id, error });
        container.record.finishedAtMs = this.#clock.now();
        if (container.record.startedAtMs === 0) container.record.startedAtMs = this.#clock.now();
        container.record.state = 'restarting';
        container.save(this.table.context);
        this.#scheduleRestart(container);
      });
    });
  }
}

function waitFor(listen: (listener: (code: number) => void) => () => void, signal?: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const forgetSignal = onceAborted(signal, () => {
      forget();
      reject(signal!.reason as Error);
    });
    const forget = listen((code) => {
      forgetSignal();
      resolve(code);
    });
  });
}
