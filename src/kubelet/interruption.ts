/**
 * What ends a wait before its time. A Pod's worker waits for long things - a pull, a hook, a mount, a start - that a
 * deletion, an eviction or a newer specification makes pointless. `AbortSignal.any` and listeners would do the same;
 * this costs next to nothing where nothing is interrupted, and remembers the work that goes on unattended.
 */
import { whenSettled } from '#base/promises.ts';

/** The wait was ended; nothing failed. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted');
  }
}

/** One for all: where it was made says nothing, and thousands are told at once. */
const interrupted = new Interrupted();

export class Interruption {
  #isDue = false;
  #abort: AbortController | undefined;
  #waiting: Set<() => void> | undefined;
  readonly #leftovers: Promise<unknown>[];

  /** `leftovers` takes work that goes on though nobody waits for it any more. */
  constructor(leftovers: Promise<unknown>[]) {
    this.#leftovers = leftovers;
  }

  get isDue(): boolean {
    return this.#isDue;
  }
  /** For work that can be told. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#isDue) this.#abort.abort(interrupted);
    }
    return this.#abort.signal;
  }

  interrupt(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.#abort?.abort(interrupted);
    for (const end of this.#waiting ?? []) end();
  }

  throwIfDue(): void {
    if (this.#isDue) throw interrupted;
  }

  /** The work's own end, or `Interrupted` when that comes first. */
  race<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const end = (): void => {
        this.#leftovers.push(whenSettled(work));
        reject(interrupted);
      };
      if (this.#isDue) {
        end();
        return;
      }
      const waiting = (this.#waiting ??= new Set());
      waiting.add(end);
      work.then(resolve, reject).finally(() => waiting.delete(end));
    });
  }
}
