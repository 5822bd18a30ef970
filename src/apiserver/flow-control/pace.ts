/**
 * How much is begun in one turn of the event loop. One thread serves everybody: seats alone bound what is under way,
 * and most requests are over before they have waited for anything, so a flood that arrives in one turn would be
 * carried out in that turn, before anybody else is so much as read. What is begun in a turn is therefore bounded by
 * how long turns take (a slice), and what is beyond it waits in the queues, where flows share fairly.
 */

/** The thread that serves. */
export interface Thread {
  /** Calls back when the turn is over: what has arrived by then has been read. */
  afterTurn(run: () => void): void;
  /** Processor time of the thread so far, in milliseconds: what others do on the machine is not its turns' length. */
  busyMs(): number;
}

/** Milliseconds that a slice should take, where several flows come and where one comes alone. */
const sharedSliceMs = 1;
const sliceMs = 10;
/** How long it is remembered that several flows came. */
const sharedMs = 1_000;
const seatsPerSliceMin = 2;
const seatsPerSliceMax = 1024;
/** What a seat is thought to take before anybody has looked, and how much the latest slice counts. */
const seatMsFirst = 0.1;
const latestPart = 0.2;
/** The part of the time that a thread is busy which has no rest between turns. */
const restlessPart = 0.75;

/**
 * Slices follow each other by the clock, as requests come. Only when one is full, or the thread has had no rest, is
 * anybody asked to call back at the end of the turn, where the next one begins: a server that is not pressed pays
 * nothing for this.
 */
export class Pace {
  readonly #thread: Thread | undefined;
  readonly #onTurn: () => void;
  readonly #nowMs: () => number;
  #seatMs = seatMsFirst;
  /** Seats of this slice: those that it has, and those that were taken. */
  #seats = 0;
  #taken = 0;
  #begunMs = 0;
  #endMs = 0;
  #busyMs = 0;
  #isAwaited = false;
  #lastFlow = '';
  #sharedUntilMs = 0;

  /** Without a thread nothing is bounded. */
  constructor(thread: Thread | undefined, nowMs: () => number, onTurn: () => void) {
    this.#thread = thread;
    this.#nowMs = nowMs;
    this.#onTurn = onTurn;
  }

  /** A request of a flow has come. */
  note(flow: string, nowMs: number): void {
    if (flow === this.#lastFlow) return;
    this.#lastFlow = flow;
    this.#sharedUntilMs = nowMs + sharedMs;
  }

  /** Whether something of so many seats may begin in this slice. */
  take(seats: number, nowMs: number): boolean {
    if (this.#thread === undefined) return true;
    // Whoever waits goes first in the next one.
    if (nowMs >= this.#endMs && !this.#isAwaited && !this.#beginIfRested(this.#thread, nowMs)) return false;
    if (this.#taken >= this.#seats) return false;
    this.#taken += seats;
    return true;
  }

  /** Whether `take` would answer true. */
  hasRoom(): boolean {
    return this.#thread === undefined || this.#taken < this.#seats;
  }

  /** Whether several flows come, so that one would wait for what is done in one go for another. */
  get isShared(): boolean {
    return this.#thread !== undefined && this.#nowMs() < this.#sharedUntilMs;
  }

  get isBounded(): boolean {
    return this.#thread !== undefined;
  }

  /** Refusals that are answered in one turn: each brings the next request of the one who is refused. */
  get refusalsPerTurn(): number {
    return Math.max(1, this.#seats >> 2);
  }

  /** `onTurn` will be called when this turn is over, as somebody waits. */
  wake(): void {
    const thread = this.#thread;
    if (thread === undefined || this.#isAwaited) return;
    this.#isAwaited = true;
    thread.afterTurn(() => {
      this.#isAwaited = false;
      this.#begin(this.#nowMs(), thread.busyMs());
      this.#onTurn();
    });
  }

  /** A thread that was busy all the time may be in the same turn yet: others have not been read meanwhile. */
  #beginIfRested(thread: Thread, nowMs: number): boolean {
    const busyMs = thread.busyMs();
    const isShared = nowMs < this.#sharedUntilMs;
    if (isShared && busyMs - this.#busyMs > restlessPart * (nowMs - this.#begunMs)) return false;
    this.#begin(nowMs, busyMs);
    return true;
  }

  #begin(nowMs: number, busyMs: number): void {
    if (this.#taken > 0) this.#seatMs += latestPart * ((busyMs - this.#busyMs) / this.#taken - this.#seatMs);
    const isShared = nowMs < this.#sharedUntilMs;
    const goalMs = isShared ? sharedSliceMs : sliceMs;
    // Who is alone and takes all of the thread is not made to wait for the end of each slice.
    const seats = Math.floor(((isShared ? 1 : 2) * goalMs) / this.#seatMs);
    this.#seats = Math.max(seatsPerSliceMin, Math.min(seatsPerSliceMax, seats));
    this.#taken = 0;
    this.#busyMs = busyMs;
    this.#begunMs = nowMs;
    this.#endMs = nowMs + goalMs;
  }
}
