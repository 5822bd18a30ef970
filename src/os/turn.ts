/** Long work in pieces: between two of them other work of the process has its turn. */
export function giveWay(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** For loops over many small things: `next` gives way once in so many calls. */
export class Turns {
  readonly #every: number;
  #count = 0;

  constructor(every: number) {
    this.#every = every;
  }

  async next(): Promise<void> {
    if (++this.#count % this.#every === 0) await giveWay();
  }
}
