/** A connection to a receiver of logs: TCP, TLS or a unix socket, with bounds on every wait. */
import { connect as connectNet, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import type { Clock } from '#os/clock.ts';
import { logConnectMsMax } from '../limits.ts';

export type StreamAddress = { host: string; port: number; tls?: ConnectionOptions } | { path: string };

export class StreamSocket {
  readonly #socket: Socket;
  #failure: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const fail = (error: Error): void => {
      this.#failure ??= error;
    };
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the receiver closed the connection')));
    socket.setNoDelay(true);
  }

  /** Rejects with the system's error, or after `logConnectMsMax`. */
  static async connect(address: StreamAddress, clock: Clock): Promise<StreamSocket> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const socket =
      'path' in address
        ? connectNet(address.path, resolve)
        : address.tls === undefined
          ? connectNet(address.port, address.host, resolve)
          : connectTls({ ...address.tls, host: address.host, port: address.port }, resolve);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the receiver closed the connection')));
    const timer = clock.setTimer(logConnectMsMax, () => socket.destroy(new Error('i/o timeout')), { background: true });
    try {
      await promise;
      return new StreamSocket(socket);
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      timer.cancel();
    }
  }

  /** Resolves when the system has taken it; for as long as the receiver reads nothing, it waits. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#socket.write(bytes)) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        this.#socket.off('drain', settle);
        this.#socket.off('close', settle);
        if (this.#failure === undefined) resolve();
        else reject(this.#failure);
      };
      this.#socket.on('drain', settle);
      this.#socket.on('close', settle);
    });
  }

  onData(listener: (bytes: Buffer) => void): void {
    this.#socket.on('data', listener);
  }
  onClose(listener: () => void): void {
    this.#socket.on('close', listener);
  }

  /** What was written is sent first, for as long as a connection may take. */
  async close(clock: Clock): Promise<void> {
    if (this.#socket.destroyed) return;
    const timer = clock.setTimer(logConnectMsMax, () => this.#socket.destroy(), { background: true });
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve());
      this.#socket.resume();
      this.#socket.end();
    });
    timer.cancel();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
