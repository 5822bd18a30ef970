/**
 * A container in the engine's memory: its record, what goes on with it now, and who waits for it. Only the life-cycle
 * files (container-*.ts) change it, under its lock; everyone else reads.
 */
import { Lock } from '#base/gate.ts';
import type { Timer } from '#os/clock.ts';
import type { AttachHub } from './attach.ts';
import { saveRecord } from './container-record.ts';
import type { ContainerRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';
import type { ContainerStatus } from './engine.ts';

export interface HealthState {
  status: 'starting' | 'healthy' | 'unhealthy';
  failingStreak: number;
  log: { Start: string; End: string; ExitCode: number; Output: string }[];
}

export class Container {
  readonly record: ContainerRecord;
  readonly lock = new Lock();
  /** There while somebody is attached, or has asked to be before the start. */
  hub: AttachHub | undefined;
  /** The root filesystem, while it is mounted. */
  root: string | undefined;
  restartTimer: Timer | undefined;
  restartDelayMs = 0;
  /** Set while a stop asked by a user is under way, so that its exit restarts nothing. */
  stopping = false;
  /** Between the end and the start of a `restart`. */
  isRestarting = false;
  removed = false;
  health: HealthState | undefined;
  /** How many works want it to stand still now (freeze.ts). */
  stillFor = 0;
  /** While it runs. */
  keptLog: KeptLog | undefined;
  /** While its log is sent somewhere. */
  forwarder: SentLog | undefined;
  readonly execIds = new Set<string>();
  readonly #runEndWaiters = new Set<() => void>();
  readonly #exitWaiters = new Set<(code: number) => void>();
  readonly #removeWaiters = new Set<(code: number) => void>();

  constructor(record: ContainerRecord) {
    this.record = record;
  }

  get id(): string {
    return this.record.id;
  }
  get name(): string {
    return this.record.spec.name;
  }
  get isRunning(): boolean {
    return this.record.state === 'running' || this.record.state === 'paused';
  }

  save(context: EngineContext, options: { sync?: boolean } = {}): void {
    if (!this.removed) saveRecord(context.directories.data, this.record, options);
  }

  status(): ContainerStatus {
    const { record } = this;
    return {
      id: record.id,
      name: record.spec.name,
      owner: record.spec.owner,
      image: record.spec.image,
      imageId: record.spec.imageId,
      mountedImageIds: record.spec.mounts.flatMap((mount) => mount.imageId ?? []),
      state: record.state,
      pid: this.isRunning ? (record.run?.pid ?? 0) : 0,
      exitCode: record.exitCode,
      oomKilled: record.oomKilled,
      ...(record.isExitUnknown === true ? { isExitUnknown: true } : {}),
      error: record.error,
      createdAtMs: record.createdAtMs,
      startedAtMs: record.startedAtMs,
      finishedAtMs: record.finishedAtMs,
      labels: record.spec.labels,
      restartCount: record.restartCount,
      logPath: record.spec.logPath ?? '',
      resources: record.spec.resources,
    };
  }

  /** Calls back once, at the end of this run, also when a restart follows. Returns what takes the call back. */
  onRunEnd(listener: () => void): () => void {
    this.#runEndWaiters.add(listener);
    return () => this.#runEndWaiters.delete(listener);
  }

  /** Calls back once, at the end of this life: no restart follows. Returns what takes the call back. */
  onExit(listener: (code: number) => void): () => void {
    this.#exitWaiters.add(listener);
    return () => this.#exitWaiters.delete(listener);
  }

  onRemove(listener: (code: number) => void): () => void {
    this.#removeWaiters.add(listener);
    return () => this.#removeWaiters.delete(listener);
  }

  tellRunEnd(): void {
    for (const listener of [...this.#runEndWaiters]) {
      this.#runEndWaiters.delete(listener);
      listener();
    }
  }

  tellExit(code: number): void {
    for (const listener of [...this.#exitWaiters]) {
      this.#exitWaiters.delete(listener);
      listener(code);
    }
  }

  tellRemoved(): void {
    const code = this.record.exitCode ?? 0;
    for (const listener of [...this.#removeWaiters]) {
      this.#removeWaiters.delete(listener);
      listener(code);
    }
  }
}

/** Attributes of a container's events, as docker gives them. */
export function eventAttributes(container: Container): Record<string, string> {
  return { ...container.record.spec.labels, image: container.record.spec.image, name: container.name };
}

/** The way of a log to its driver's receiver. */
export interface SentLog {
  /** Resolves when all is sent, or nobody takes it. */ flush(): Promise<void>;
  /** The next engine goes on. */ stop(): void;
}

export interface KeptLog {
  /** Looks no more; what runs goes on. */ stop(): void;
  /** The run has ended: leaves the log within its bound. */ end(): Promise<void>;
}
