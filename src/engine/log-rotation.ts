/**
 * The bound of a log: `max-file` files of at most `max-size` bytes, the newest lines of all. The log is `PATH`, then
 * `PATH.1`, `PATH.2`, … from new to old.
 *
 *   while it runs A log that does not change costs nothing: its directory is watched. One that does is looked at again
 *   before it can be full. A full file is
 *                   renamed and the monitor told to open a new one; it goes on writing to the renamed file until then,
 *                   so nothing is lost. A writer that was
 *                   faster than the look leaves too long a file: it is cut into files of the right size, of which the
 *                   newest are kept.
 *   at the end      The last file is cut likewise.
 *   without engine The monitor begins its file anew at a bound of its own (`monitorBytes`). That bound counts all that
 *   it ever wrote, so it is reached in the middle of
 *                   a healthy log too. `PATH.held` is a second name of the file that is written: what the monitor gave
 *                   up is found there, and becomes `.1`.
 */
import { closeSync, linkSync, openSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { pause } from '#os/clock.ts';
import { listDirectory, watchPath } from '#os/files.ts';
import { giveWay } from '#os/turn.ts';
import type { Container, KeptLog } from './container.ts';
import type { EngineContext } from './context.ts';
import type { ContainerSpec } from './engine.ts';
import {
  logCheckMsMax,
  logCheckMsMin,
  logFilesDefault,
  logFillBytesPerMs,
  logMaxBytesDefault,
  logMonitorBytesMin,
  logReopenMsMax,
} from './limits.ts';
import { compressFile, heldPath, inodeOf, openIfAny, rotatedPath } from './log-file.ts';

export interface LogBound {
  bytes: number;
  files: number;
  /** Files from the second rotated one on are compressed. */
  isCompressed?: boolean;
}

export function logBoundOf(spec: Pick<ContainerSpec, 'logMaxBytes' | 'logMaxFiles' | 'logCompress'>): LogBound {
  return {
    bytes: spec.logMaxBytes ?? logMaxBytesDefault,
    files: Math.max(1, spec.logMaxFiles ?? (spec.logMaxBytes === undefined ? logFilesDefault : 1)),
    ...(spec.logCompress === true ? { isCompressed: true } : {}),
  };
}

export function monitorBytes({ bytes, files }: LogBound): number {
  return Math.min(Number.MAX_SAFE_INTEGER, Math.max(logMonitorBytesMin, bytes * files));
}

/** Keeps one log within its bound, from the start of a run to its end. One at a time for a path. */
export class LogKeeper {
  readonly #path: string;
  readonly #bound: LogBound;
  readonly #reopen: () => void;
  readonly #clock: EngineContext['clock'];
  readonly #onError: (error: unknown) => void;
  readonly #ending = new AbortController();
  #reopenedAtMs = -Infinity;

  constructor(
    path: string,
    bound: LogBound,
    options: { reopen: () => void; clock: EngineContext['clock']; onError?: (error: unknown) => void },
  ) {
    this.#path = path;
    this.#bound = bound;
    this.#reopen = options.reopen;
    this.#clock = options.clock;
    this.#onError = options.onError ?? (() => undefined);
  }

  /** Until `stop`. */
  async run(): Promise<void> {
    // What an engine that was killed while it cut left behind.
    for (const name of listDirectory(dirname(this.#path)))
      if (name.startsWith(`${basename(this.#path)}.`) && /\.(cut-\d+|part|read)$/.test(name))
        rmSync(`${dirname(this.#path)}/${name}`, { force: true });
    let last = '';
    while (!this.#ending.signal.aborted) {
      try {
        const size = await this.check();
        const now = `${inodeOf(this.#path)} ${size}`;
        if (now === last) await this.#changed(now);
        else await pause(this.#clock, this.#delayMs(size), this.#ending.signal);
        last = now;
      } catch (error) {
        // A full disk, or no more watches: the bound is tried again.
        this.#onError(error);
        await pause(this.#clock, logCheckMsMax, this.#ending.signal);
      }
    }
  }

  stop(): void {
    this.#ending.abort(new Error('the log has ended'));
  }

  #delayMs(size: number): number {
    if (inodeOf(this.#path) === undefined) return logCheckMsMin;
    return Math.min(logCheckMsMax, Math.max(logCheckMsMin, (this.#bound.bytes - size) / logFillBytesPerMs));
  }

  /** Resolves when the file is no longer as `known` says, or at the end. */
  #changed(known: string): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#ending;
      const finish = (): void => {
        watcher.close();
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const watcher = watchPath(dirname(this.#path), () => {
        if (this.#now() !== known) finish();
      });
      signal.addEventListener('abort', finish, { once: true });
      if (this.#now() !== known || signal.aborted) finish();
    });
  }

  #now(): string {
    return `${inodeOf(this.#path)} ${statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0}`;
  }

  /** One look: the size of what is written now. Public for tests. */
  async check(): Promise<number> {
    const inode = inodeOf(this.#path);
    if (inode === undefined) {
      if (this.#clock.monotonic() - this.#reopenedAtMs > logReopenMsMax) this.#tellMonitor();
      return 0;
    }
    this.#reopenedAtMs = Infinity;
    await keepHeld(this.#path, this.#bound);
    const size = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    if (size < this.#bound.bytes) return size;
    await this.#rotate();
    return 0;
  }

  #tellMonitor(): void {
    this.#reopenedAtMs = this.#clock.monotonic();
    this.#reopen();
  }

  async #rotate(): Promise<void> {
    shift(this.#path, this.#bound, 1);
    rmSync(heldPath(this.#path), { force: true });
    this.#tellMonitor();
    // Before the monitor has its new file it still writes to the old one.
    const deadlineMs = this.#clock.monotonic() + logReopenMsMax;
    while (inodeOf(this.#path) === undefined && this.#clock.monotonic() < deadlineMs && !this.#ending.signal.aborted)
      await this.#clock.sleep(1);
    if (inodeOf(this.#path) === undefined) return;
    if (this.#bound.files === 1) rmSync(`${this.#path}.1`, { force: true });
    else await cut(this.#path, 1, this.#bound);
    await compressOld(this.#path, this.#bound);
  }
}

/** Nobody writes any more: the last file, and what the monitor gave up, within the bound. */
export async function settleLog(path: string, bound: LogBound): Promise<void> {
  // A rotation that the end overtook.
  if (inodeOf(path) === undefined && inodeOf(`${path}.1`) !== undefined) shift(path, bound, -1);
  if (inodeOf(path) === undefined) return;
  await keepHeld(path, bound);
  rmSync(heldPath(path), { force: true });
  await cut(path, 0, bound);
  await compressOld(path, bound);
}

function nameOf(path: string, index: number): string {
  return index === 0 ? path : `${path}.${index}`;
}

/** The newest rotated file may still be cut, and is soon read again: it stays plain. */
async function compressOld(path: string, bound: LogBound): Promise<void> {
  if (bound.isCompressed !== true) return;
  for (let index = 2; inodeOf(rotatedPath(path, index)) !== undefined; index++)
    if (inodeOf(nameOf(path, index)) !== undefined) await compressFile(nameOf(path, index));
}

/**
 * Moves every file `by` places to older, or newer, names; what would be older than the oldest goes. One more than
 * `files` names may exist for a moment where files is one.
 */
function shift(path: string, bound: LogBound, by: number, from = 0): void {
  const most = Math.max(2, bound.files);
  let count = from;
  while (inodeOf(rotatedPath(path, count)) !== undefined) count++;
  const move = (index: number): void => {
    const name = rotatedPath(path, index);
    if (index + by >= most) rmSync(name, { force: true });
    else if (index + by >= 0) renameSync(name, `${nameOf(path, index + by)}${name.endsWith('.gz') ? '.gz' : ''}`);
  };
  if (by > 0) for (let index = count - 1; index >= from; index--) move(index);
  else
    for (
      let index = from + (inodeOf(rotatedPath(path, from)) === undefined ? 1 : 0);
      inodeOf(rotatedPath(path, index)) !== undefined;
      index++
    )
      move(index);
}

/** Takes in what the monitor gave up, and gives the file that it writes its second name. */
async function keepHeld(path: string, bound: LogBound): Promise<void> {
  const held = heldPath(path);
  if (inodeOf(held) !== undefined && inodeOf(held) !== inodeOf(path)) {
    if (bound.files === 1 || inodeOf(held) === inodeOf(`${path}.1`)) rmSync(held);
    else {
      shift(path, bound, 1, 1);
      renameSync(held, `${path}.1`);
      await cut(path, 1, bound);
    }
  }
  if (inodeOf(held) !== undefined) return;
  try {
    linkSync(path, held);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOENT') throw error;
  }
}

/**
 * Cuts the file with that number where it is too long; each piece ends with a record. The newest pieces that have room
 * are kept, older files before them.
 */
async function cut(path: string, index: number, bound: LogBound): Promise<void> {
  const file = openIfAny(nameOf(path, index));
  if (file === undefined) return;
  try {
    const { size } = file;
    if (size <= bound.bytes) return;
    const pieces: string[] = [];
    const room = Math.max(1, bound.files - index);
    for (let end = size; end > 0 && pieces.length < room;) {
      const from = end <= bound.bytes ? 0 : file.firstEnd(end - bound.bytes);
      if (from >= end) break;
      const name = `${path}.cut-${pieces.length}`;
      const fd = openSync(name, 'w', 0o600);
      try {
        await file.copy(from, end, async (bytes) => {
          writeSync(fd, bytes);
          await giveWay();
        });
      } finally {
        closeSync(fd);
      }
      pieces.push(name);
      end = from;
    }
    if (pieces.length > 1) shift(path, bound, pieces.length - 1, index + 1);
    pieces.forEach((name, number) => renameSync(name, nameOf(path, index + number)));
  } finally {
    file.close();
  }
}

/** Begins to keep the log of a run. */
export function keepLog(
  context: EngineContext,
  container: Container,
  path: string | undefined,
  reopen: () => void,
): KeptLog | undefined {
  if (path === undefined) return undefined;
  const bound = logBoundOf(container.record.spec);
  let last = '';
  const warn = (error: unknown): void => {
    const { message } = error as Error;
    if (!container.removed && message !== last)
      context.log.warn('the bound of a log', { id: container.id, error: error as Error });
    last = message;
  };
  const keeper = new LogKeeper(path, bound, { reopen, clock: context.clock, onError: warn });
  const running = keeper.run().catch(warn);
  return {
    stop: () => keeper.stop(),
    async end() {
      keeper.stop();
      await running;
      await settleLog(path, bound).catch(warn);
    },
  };
}
