/** Time spent below a bound, counted from change to change. */
export class Deficit {
  #since: number | undefined;
  #totalMs = 0;

  set(below: boolean, nowMs: number): void {
    if (below && this.#since === undefined) this.#since = nowMs;
    else if (!below && this.#since !== undefined) {
      this.#totalMs += nowMs - this.#since;
      this.#since = undefined;
    }
  }

  /** Begun seconds count whole. */
  seconds(nowMs: number): number {
    return Math.ceil((this.#totalMs + (this.#since === undefined ? 0 : nowMs - this.#since)) / 1000);
  }
}
