/** Waiting in order: a lock for one thing at a time, a gate for at most so many. Neither is re-entrant. */
export class Gate {
  readonly #max: number;
  #running = 0;
  #waiting: (() => void)[] = [];
  #first = 0;

  constructor(max: number) {
    this.#max = max;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#max) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      return await work();
    } finally {
      const next = this.#next();
      if (next === undefined) this.#running--;
      else next();
    }
  }

  #next(): (() => void) | undefined {
    if (this.#first < this.#waiting.length) return this.#waiting[this.#first++];
    this.#waiting = [];
    this.#first = 0;
    return undefined;
  }
}

export class Lock extends Gate {
  constructor() {
    super(1);
  }
}
