/**
 * One output of a command, from its pipe or terminal to whoever wants it. The end of a process is not the end of its
 * pipes: a child in the background may hold them open as long as it likes. What the process itself wrote is in the pipe
 * when it ends; after that is delivered nobody waits, and what the child writes is thrown away.
 */
import type { Readable, Writable } from 'node:stream';
import { onceClosed, onceEnded, whenDrained } from '#base/streams.ts';
import { pause } from '#os/clock.ts';
import type { Clock } from '#os/clock.ts';
import { execErrorBytesMax, execIdleWaitMs, execPipeBytesMax } from './limits.ts';

export class ExecOutput {
  readonly #source: Readable;
  readonly #ended: Promise<void>;
  #target: Writable | undefined;
  #bytes = 0;
  #isWaiting = false;
  /** Bytes kept back while `isStarted` says no: the runtime's own complaint, if it turns out so. */
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(source: Readable, target: Writable | undefined, isStarted: () => boolean = () => true) {
    this.#source = source;
    this.#target = target;
    let started = false;
    this.#ended = new Promise((resolve) => {
      onceEnded(source, resolve);
    });
    if (target !== undefined) {
      target.on('error', () => undefined);
      onceClosed(target, () => this.#discard());
    }
    source.on('error', () => source.destroy());
    source.on('data', (part: Buffer) => {
      this.#bytes += part.length;
      started ||= isStarted();
      if (started) {
        this.#release();
        this.#write(part);
      } else if (this.#heldBytes < execErrorBytesMax) {
        this.#held.push(part);
        this.#heldBytes += part.length;
      }
    });
  }

  #write(part: Buffer): void {
    const target = this.#target;
    if (target === undefined || target.destroyed || target.writableEnded || target.write(part)) return;
    this.#source.pause();
    this.#isWaiting = true;
    void whenDrained(target).then(() => {
      this.#isWaiting = false;
      this.#source.resume();
    });
  }

  #release(): void {
    if (this.#held.length === 0) return;
    const held = Buffer.concat(this.#held);
    this.#held = [];
    this.#write(held);
  }

  #discard(): void {
    this.#target = undefined;
    this.#source.resume();
  }

  /**
   * The process has ended: resolves when what it wrote is delivered. `started` false: the text that was kept back is
   * the runtime's.
   */
  async settle(clock: Clock, started: () => boolean): Promise<string> {
    const most = this.#bytes + execPipeBytesMax;
    const over = new AbortController();
    void this.#ended.then(() => over.abort());
    for (let before = -1; !over.signal.aborted && this.#bytes < most && (this.#isWaiting || before !== this.#bytes);) {
      before = this.#bytes;
      await pause(clock, execIdleWaitMs, over.signal);
    }
    const text = Buffer.concat(this.#held).toString();
    if (started()) this.#release();
    // Whoever still holds the other end writes to nobody, but is not hurt.
    this.#discard();
    return text;
  }
}
