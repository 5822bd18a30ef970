/**
 * The order in which requests that have been read are looked at, before it is known whose they are: connection by
 * connection, so many in one turn of the event loop. A client that was held up sends hundreds at once when it goes on,
 * and the thread reads them all in one turn; others are read behind them, and would wait for each to be authenticated
 * and queued.
 */
import type { Thread } from './flow-control/pace.ts';
import { intakePerTurn, intakeWaitingMax } from './limits.ts';

export class Intake {
  readonly #thread: Thread | undefined;
  readonly #waiting = new Map<object, (() => void)[]>();
  #begun = 0;
  #size = 0;
  #isAwaited = false;

  /** Without a thread nothing waits. */
  constructor(thread: Thread | undefined) {
    this.#thread = thread;
  }

  /** Begins what came on a connection: at once, or when it has its turn. */
  take(connection: object, begin: () => void): void {
    if (this.#thread === undefined) return begin();
    this.#wake(this.#thread);
    if (this.#waiting.size === 0 && this.#begun < intakePerTurn) {
      this.#begun++;
      return begin();
    }
    // It is for flow control to refuse.
    if (this.#size >= intakeWaitingMax) return begin();
    this.#size++;
    const before = this.#waiting.get(connection);
    if (before === undefined) this.#waiting.set(connection, [begin]);
    else before.push(begin);
  }

  #wake(thread: Thread): void {
    if (this.#isAwaited) return;
    this.#isAwaited = true;
    thread.afterTurn(() => {
      this.#isAwaited = false;
      this.#begun = 0;
      if (this.#waiting.size === 0) return;
      this.#wake(thread);
      this.#turn();
    });
  }

  /** One of each connection, those first that have waited longest since their last one. */
  #turn(): void {
    for (const [connection, list] of this.#waiting) {
      const begin = list.shift();
      this.#waiting.delete(connection);
      if (list.length > 0) this.#waiting.set(connection, list);
      this.#size--;
      if (begin !== undefined) begin();
      if (++this.#begun >= intakePerTurn) return;
    }
  }
}
