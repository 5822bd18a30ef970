/**
 * How many streams a connection of HTTP/2 may have (RFC 9113, 5.1.2). One with many requests that wait for their
 * answers is allowed fewer: its client then keeps the rest to itself, which costs this side nothing, where a refusal
 * costs as much as a small answer and brings the next request. Those whose answers go on, as watches do, are not
 * counted. What was under way when the limit was told is refused as a stream that was not looked at (REFUSED_STREAM),
 * which clients send again (8.7): so only those are told who have more under way than upstream lets a connection have.
 */
import type { Http2Session } from 'node:http2';
import type { Clock } from '#os/clock.ts';
import { pressingStreamsMax, pressingStreamsMin, streamsMax, streamsReviewMs } from './limits.ts';

interface Streams {
  /** Open ones, those of them that wait for their answer, and the most of these since the last look. */
  open: number;
  waiting: number;
  waitingMost: number;
  /** What the client was told; `streamsMax` where it does not press. */
  limit: number;
}

export class StreamLimits {
  readonly #clock: Clock;
  readonly #sessions = new WeakMap<Http2Session, Streams>();
  /** Those that were told a lower limit. */
  readonly #pressing = new Map<Http2Session, Streams>();
  #isAwaited = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A stream has begun; answers what to call when its answer begins, and when it ends. */
  begin(session: Http2Session): { answered(): void; ended(): void } {
    let streams = this.#sessions.get(session);
    if (streams === undefined)
      this.#sessions.set(session, (streams = { open: 0, waiting: 0, waitingMost: 0, limit: streamsMax }));
    const known = streams;
    known.open++;
    if (++known.waiting > known.waitingMost) known.waitingMost = known.waiting;
    if (known.waiting > pressingStreamsMin && known.limit === streamsMax) this.#press(session, known);
    let isWaiting = true;
    const answered = (): void => {
      if (isWaiting) known.waiting--;
      isWaiting = false;
    };
    return {
      answered,
      ended: () => {
        answered();
        known.open--;
      },
    };
  }

  #press(session: Http2Session, streams: Streams): void {
    this.#pressing.set(session, streams);
    this.#tell(session, streams);
    if (this.#isAwaited) return;
    this.#isAwaited = true;
    this.#clock.setTimer(streamsReviewMs, () => this.#review(), { background: true });
  }

  /** Who has not used what was left to him is let go; the rest share anew. */
  #review(): void {
    this.#isAwaited = false;
    for (const [session, streams] of this.#pressing) {
      const isAtLimit = streams.waitingMost >= streams.limit - (streams.open - streams.waiting);
      streams.waitingMost = streams.waiting;
      if (session.destroyed || session.closed) this.#pressing.delete(session);
      else if (!isAtLimit && !session.pendingSettingsAck) {
        this.#pressing.delete(session);
        streams.limit = streamsMax;
        session.settings({ maxConcurrentStreams: streamsMax });
      }
    }
    for (const [session, streams] of this.#pressing) this.#tell(session, streams);
    if (this.#pressing.size === 0) return;
    this.#isAwaited = true;
    this.#clock.setTimer(streamsReviewMs, () => this.#review(), { background: true });
  }

  /** Its part of what all that press have together, beside those whose answers go on. */
  #tell(session: Http2Session, streams: Streams): void {
    const part = Math.max(1, Math.floor(pressingStreamsMax / this.#pressing.size));
    const limit = Math.min(streamsMax, streams.open - streams.waiting + part);
    if (limit === streams.limit || session.pendingSettingsAck) return;
    streams.limit = limit;
    session.settings({ maxConcurrentStreams: limit });
  }
}
