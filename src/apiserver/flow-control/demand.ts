/**
 * How many seats a priority level could use, over time: the average and the deviation of one period, its highest
 * value, and an average of periods that forgets slowly (Kubernetes, KEP-1040, "Seat borrowing"). Times in milliseconds.
 */

/** Half of what is remembered is forgotten in five minutes of periods of ten seconds. */
const smoothing = 0.977;

export class SeatDemand {
  average = 0;
  deviation = 0;
  high = 0;
  smoothed = 0;
  #value = 0;
  #sinceMs: number;
  #begunMs: number;
  #sum = 0;
  #sumOfSquares = 0;
  #max = 0;

  constructor(nowMs: number) {
    this.#sinceMs = this.#begunMs = nowMs;
  }

  set(value: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#value = value;
    if (value > this.#max) this.#max = value;
  }

  #advance(nowMs: number): void {
    const ms = nowMs - this.#sinceMs;
    if (ms <= 0) return;
    this.#sinceMs = nowMs;
    this.#sum += this.#value * ms;
    this.#sumOfSquares += this.#value * this.#value * ms;
  }

  /** Ends a period and begins the next. */
  endPeriod(nowMs: number): void {
    this.#advance(nowMs);
    const ms = nowMs - this.#begunMs;
    this.high = Math.round(this.#max);
    if (ms > 0) {
      this.average = this.#sum / ms;
      this.deviation = Math.sqrt(Math.max(0, this.#sumOfSquares / ms - this.average ** 2));
      const envelope = this.average + this.deviation;
      this.smoothed = Math.max(envelope, smoothing * this.smoothed + (1 - smoothing) * envelope);
    }
    this.#begunMs = nowMs;
    this.#sum = this.#sumOfSquares = 0;
    this.#max = this.#value;
  }
}
