/**
 * What one watcher is told next: merges a store watch with the bookmark timer, the time-out and the client's going
 * away.
 */
import type { Timer } from '#os/clock.ts';
import type { StoreEvent, StoreWatch } from '#store/store.ts';
import type { RequestContext } from './context.ts';
import { fanOutWatchersMin, watchBookmarkIntervalMs } from './limits.ts';

export class Feed {
  #watch: StoreWatch;
  #iterator: AsyncIterator<StoreEvent[]>;
  #pending: Promise<void> | undefined;
  #batches: StoreEvent[][] = [];
  #ended = false;
  #error: unknown;
  #tick: number | undefined;
  /** The revision of the last event handed out. */
  #delivered = 0;
  #wake: (() => void) | undefined;
  #timers: Timer[] = [];
  #context: RequestContext;
  readonly #isRouted: boolean;
  /** Events were handed out, and nobody has rested since. */
  #hasTold = false;

  /** `isRouted`: it is woken for its own events alone. */
  constructor(
    context: RequestContext,
    watch: StoreWatch,
    { bookmarks, isRouted }: { bookmarks: boolean; isRouted: boolean },
  ) {
    this.#context = context;
    this.#isRouted = isRouted;
    this.#watch = watch;
    this.#iterator = watch[Symbol.asyncIterator]();
    const { clock, random } = context.server;
    const asked = Number(context.request.query.get('timeoutSeconds') ?? 0) || 0;
    const seconds = asked > 0 ? asked : 1800 + Math.floor(random.float() * 1800);
    this.#timers.push(clock.setTimer(seconds * 1000, () => this.#end(), { background: true }));
    if (bookmarks) this.#armTick();
    context.request.signal.addEventListener('abort', this.#end, { once: true });
  }

  #armTick(): void {
    const { clock, store } = this.#context.server;
    // What was committed up to now has reached the watch's queue; pulling it before the bookmark keeps the bookmark
    // from overtaking an event.
    this.#timers[1] = clock.setTimer(
      watchBookmarkIntervalMs,
      () => {
        const revision = store.currentRevision();
        this.#pull();
        this.#timers[2] = clock.setTimer(
          5,
          () => {
            this.#tick = revision;
            this.#notify();
          },
          { background: true },
        );
        this.#armTick();
      },
      { background: true },
    );
  }

  #end = (): void => {
    this.#ended = true;
    this.#notify();
  };
  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #pull(): void {
    this.#pending ??= this.#iterator.next().then(
      (result) => {
        this.#pending = undefined;
        if (result.done === true) this.#ended = true;
        else this.#batches.push(result.value);
        this.#notify();
      },
      (error: unknown) => {
        this.#error = error;
        this.#notify();
      },
    );
  }

  /** Who is one of many rests with them; not who shares this process. */
  async #rest(): Promise<void> {
    const { server, request, info } = this.#context;
    this.#hasTold = false;
    if (this.#isRouted || request.wantsObject === true) return;
    if (server.flowControl.estimates.watchesOf(info) >= fanOutWatchersMin) await server.fanOut.rest();
  }

  async next(): Promise<StoreEvent[] | number | 'closed'> {
    if (this.#hasTold) await this.#rest();
    for (;;) {
      const batch = this.#batches.shift();
      if (batch !== undefined) {
        this.#delivered = batch.at(-1)?.revision ?? this.#delivered;
        this.#hasTold = true;
        return batch;
      }
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return 'closed';
      if (this.#tick !== undefined) {
        // Events that came since the bookmark fell due have gone out: a client must never be sent back to before them.
        const at = Math.max(this.#tick, this.#delivered);
        this.#tick = undefined;
        return at;
      }
      this.#pull();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#context.request.signal.removeEventListener('abort', this.#end);
    this.#ended = true;
    this.#watch.close();
  }
}
