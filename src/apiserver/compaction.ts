/**
 * Forgets history: what is older than `historyKeepMs`, what lies more than `historyRevisionsMax` back, and at once what
 * is more than `historyBytesMax`: a burst of writes must not fill the memory with old versions. Who resumes a watch
 * from before that is told `Expired` and lists again. When a burst is over and its history is forgotten, its memory
 * goes back.
 */
import type { Server } from './context.ts';
import {
  burstRevisionsMin,
  historyBytesMax,
  historyKeepMs,
  historyRevisionsMax,
  historyStepsPerKeep,
  releaseIntervalMs,
  releasesAfterBurst,
} from './limits.ts';
import { forgetFrames } from './watch-frames.ts';

/** Answers how to stop. */
export function runCompaction(server: Server): () => void {
  const keepMs = server.options.historyKeepMs ?? historyKeepMs;
  if (keepMs === 0) return () => undefined;
  const compaction = new Compaction(server, keepMs);
  compaction.arm();
  server.onWritten = () => compaction.boundBytes();
  return () => compaction.stop();
}

class Compaction {
  readonly #server: Server;
  readonly #keepMs: number;
  #marks: { atMs: number; revision: number }[] = [];
  #stopped = false;
  #timer = { cancel(): void {} };
  #releases = releasesAfterBurst;
  #isBounding = false;

  constructor(server: Server, keepMs: number) {
    this.#server = server;
    this.#keepMs = keepMs;
  }

  arm(): void {
    const isReleasing = this.#releases > 0 && this.#releases < releasesAfterBurst;
    const run = (): void => {
      this.#step()
        .catch((error: unknown) => this.#server.log.error('compaction failed', { error }))
        .finally(() => {
          if (!this.#stopped) this.arm();
        });
    };
    this.#timer = this.#server.clock.setTimer(
      isReleasing ? releaseIntervalMs : this.#keepMs / historyStepsPerKeep,
      run,
      { background: true },
    );
  }

  stop(): void {
    this.#stopped = true;
    this.#timer.cancel();
  }

  /** Large values come faster than the timer: each write that leaves too much history behind asks for less. */
  boundBytes(): void {
    const { store, log } = this.#server;
    if (this.#isBounding || store.historyBytes() <= historyBytesMax) return;
    this.#isBounding = true;
    store
      .compact(store.revisionKeeping(historyBytesMax / 2))
      .catch((error: unknown) => log.error('compaction failed', { error }))
      .finally(() => {
        this.#isBounding = false;
      });
  }

  async #step(): Promise<void> {
    const { store, clock, lists, live, options } = this.#server;
    const [now, current, compacted] = [clock.monotonic(), store.currentRevision(), store.compactedRevision()];
    const written = current - (this.#marks.at(-1)?.revision ?? current);
    const old = this.#marks.filter((m) => m.atMs <= now - this.#keepMs).at(-1)?.revision ?? 0;
    this.#marks = [...this.#marks.filter((m) => m.atMs > now - this.#keepMs), { atMs: now, revision: current }];
    forgetFrames();
    lists.forget();
    live.drain();
    const upTo = Math.max(old, current - historyRevisionsMax);
    if (upTo > compacted) await store.compact(upTo);
    if (written >= burstRevisionsMin || upTo - compacted >= burstRevisionsMin) this.#releases = releasesAfterBurst;
    else if (this.#releases > 0) {
      this.#releases--;
      await options.releaseMemory?.();
    }
  }
}
