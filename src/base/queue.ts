/**
 * A bounded queue between a producer that must not wait and one consumer that iterates. Used for watch streams.
 * Invariant: items come out in order and once; when the bound is passed the queue fails as a whole (the consumer starts
 * over from a list), because dropping single items would lie to it. Not for several consumers at once.
 */
export class QueueOverflowError extends Error {}

export class AsyncQueue<T> implements AsyncIterable<T>, AsyncIterator<T> {
  readonly #itemsMax: number;
  readonly #onReturn: (() => void) | undefined;
  #items: T[] = [];
  #head = 0;
  #ended = false;
  #error: unknown;
  #waiting: { resolve(result: IteratorResult<T>): void; reject(error: unknown): void } | undefined;

  /** `onReturn` is called once, when the consumer leaves the loop or the queue is closed. */
  constructor(itemsMax: number, onReturn?: () => void) {
    this.#itemsMax = itemsMax;
    this.#onReturn = onReturn;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }
  get ended(): boolean {
    return this.#ended;
  }

  /** False when the queue has ended, or ends now because it is full. */
  push(item: T): boolean {
    if (this.#ended) return false;
    const waiting = this.#waiting;
    if (waiting !== undefined) {
      this.#waiting = undefined;
      waiting.resolve({ value: item, done: false });
      return true;
    }
    if (this.length >= this.#itemsMax) {
      this.fail(new QueueOverflowError(`queue holds ${this.#itemsMax} items and its consumer does not keep up`));
      return false;
    }
    this.#items.push(item);
    return true;
  }

  /** Ends after what is queued has been taken. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#waiting?.resolve({ value: undefined, done: true });
    this.#waiting = undefined;
    this.#onReturn?.();
  }

  /** Ends with an error after what is queued has been taken. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#waiting === undefined) this.#error = error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.#onReturn?.();
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#head < this.#items.length) {
      const value = this.#items[this.#head]!;
      this.#items[this.#head++] = undefined as T;
      if (this.#head === this.#items.length) {
        this.#items = [];
        this.#head = 0;
      } else if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
        this.#items = this.#items.slice(this.#head);
        this.#head = 0;
      }
      return Promise.resolve({ value, done: false });
    }
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  return(): Promise<IteratorResult<T>> {
    this.#items = [];
    this.#head = 0;
    this.#error = undefined;
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
