/**
 * How long clients of a priority level are told to wait that were refused (Kubernetes, KEP-1040): twice as long while
 * many are refused, a second less once few are. In seconds.
 */
const secondsMax = 32;

export class RetryAfter {
  seconds = 1;
  #second = 0;
  #count = 0;
  #raisedAt = 0;
  /** Refusals of the seconds before, newest last. */
  #history: { second: number; count: number }[] = [];

  note(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    if (second === this.#second) {
      this.#count++;
      return;
    }
    const kept = Math.min(2 * this.seconds, secondsMax);
    this.#history.push({ second: this.#second, count: this.#count });
    this.#history = this.#history.filter((each) => this.#second - each.second <= kept);
    this.#second = second;
    this.#count = 1;
    this.#update(second);
  }

  #update(second: number): void {
    const refused = this.#history
      .filter((each) => second - each.second <= this.seconds)
      .reduce((sum, each) => sum + each.count, 0);
    if (second - this.#raisedAt >= this.seconds && refused >= 3 * this.seconds) {
      this.seconds = Math.min(2 * this.seconds, secondsMax);
      this.#raisedAt = second;
    } else if (refused < this.seconds && this.seconds > 1) this.seconds--;
  }
}
