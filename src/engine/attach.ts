/**
 * Everyone attached to a container shares one connection to its monitor. A client may attach before the start; it then
 * waits, and the connection is made between create and start, so that no byte is missed. The slowest client slows the
 * container, as a full terminal would.
 */
import { onceAborted, onceClosed, onceEnded, whenDrained } from '#base/streams.ts';
import type { AttachSocket, Poll } from '#os/poll.ts';
import type { Streams } from './engine.ts';

interface Client {
  streams: Streams;
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class AttachHub {
  readonly #poll: Poll;
  readonly #clients = new Set<Client>();
  readonly #stdinOnce: boolean;
  #socket: AttachSocket | undefined;
  #connecting: Promise<void> | undefined;
  #isRunOver = false;

  constructor(poll: Poll, options: { stdinOnce: boolean }) {
    this.#poll = poll;
    this.#stdinOnce = options.stdinOnce;
  }

  get isEmpty(): boolean {
    return this.#clients.size === 0;
  }

  /** Resolves when the container ends, the client's signal aborts, or its output is closed. */
  attach(streams: Streams, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#clients.delete(client);
        resolve();
      };
      const client: Client = { streams, resolve: leave, reject };
      this.#clients.add(client);
      onceAborted(signal, leave);
      for (const output of [streams.stdout, streams.stderr]) if (output !== undefined) onceClosed(output, leave);
      if (this.#socket !== undefined) this.#pump(client);
    });
  }

  /** Connects to the monitor, if anybody is waiting. */
  async connect(path: string): Promise<void> {
    if (this.#socket !== undefined) return;
    this.#connecting ??= this.#open(path);
    await this.#connecting;
  }

  async #open(path: string): Promise<void> {
    const socket = await this.#poll.connectAttach(path);
    socket.onPacket = (packet, done) => this.#deliver(packet, done);
    socket.onEnd = () => {
      this.#socket = undefined;
      if (this.#isRunOver) this.#dismiss();
    };
    this.#socket = socket;
    for (const client of this.#clients) this.#pump(client);
  }

  #deliver(packet: Buffer, done: () => void): void {
    const data = packet.subarray(1);
    const waits: Promise<void>[] = [];
    for (const client of this.#clients) {
      const output = packet[0] === 3 ? client.streams.stderr : client.streams.stdout;
      if (output === undefined || output.destroyed || output.writableEnded) continue;
      if (!output.write(data)) waits.push(whenDrained(output));
    }
    if (waits.length === 0) done();
    else void Promise.all(waits).then(done);
  }

  #pump(client: Client): void {
    const socket = this.#socket!;
    const { stdin } = client.streams;
    if (stdin === undefined) return;
    stdin.on('data', (part: Buffer) => {
      if (!this.#clients.has(client)) return;
      stdin.pause();
      socket.write(part).then(
        () => stdin.resume(),
        () => stdin.destroy(),
      );
    });
    // Who has detached leaves the container's input open; a terminal stays open for the next one in any case.
    // It may have ended long before the container was made: `docker run -i` whose own input is empty.
    onceEnded(stdin, () => {
      if (this.#stdinOnce && this.#clients.has(client)) socket.shutdown();
    });
    stdin.on('error', () => undefined);
  }

  /**
   * The run is over and its record says so: clients go once they have all that it wrote. Not before: who has seen the
   * end of the output asks for the exit code next.
   */
  end(): void {
    this.#isRunOver = true;
    if (this.#socket === undefined) this.#dismiss();
  }

  /** The start failed: those who wait learn it. */
  fail(): void {
    this.#socket?.close();
    this.#socket = undefined;
    this.#connecting = undefined;
    this.#dismiss();
  }

  #dismiss(): void {
    for (const client of [...this.#clients]) client.resolve();
  }
}
