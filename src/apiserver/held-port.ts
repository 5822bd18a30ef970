/**
 * A port that is listened on before anybody can answer: connections that come wait until there is a server for them. So
 * a process that takes another one's place refuses nobody while it reads the state.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { codeOf } from '#base/thrown.ts';
import type { Clock } from '#os/clock.ts';
import { heldConnectionsMax } from './limits.ts';

interface HeldPortOptions {
  host: string;
  port: number;
  /** As long as another process listens there it is tried again, so often. Absent: that is a failure. */
  retry?: { clock: Clock; stepMs: number };
}

export class HeldPort implements AsyncDisposable {
  readonly #server: Server;
  #waiting: Socket[] = [];
  #isTaken = false;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => this.#hold(socket));
    // Connections that cannot be accepted for want of descriptors or memory are not there; the next ones may be.
    server.on('error', () => undefined);
  }

  /** Resolves when it listens. */
  static async open({ host, port, retry }: HeldPortOptions): Promise<HeldPort> {
    for (;;) {
      const server = createServer({ pauseOnConnect: true });
      try {
        await new Promise<void>((resolve, reject) => {
          server.once('error', reject);
          server.listen(port, host, () => {
            server.removeListener('error', reject);
            resolve();
          });
        });
        return new HeldPort(server);
      } catch (error) {
        if (retry === undefined || codeOf(error) !== 'EADDRINUSE') throw error;
        await retry.clock.sleep(retry.stepMs);
      }
    }
  }

  get port(): number {
    const bound = this.#server.address();
    return bound !== null && typeof bound === 'object' ? bound.port : 0;
  }

  /** Hands over those that wait and all that come; the port is closed with that server. Resolves when it listens. */
  async handTo(server: Server): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#server, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
    this.#isTaken = true;
    for (const socket of this.#waiting.splice(0)) server.emit('connection', socket);
  }

  #hold(socket: Socket): void {
    if (this.#waiting.length >= heldConnectionsMax) {
      socket.destroy();
      return;
    }
    socket.on('error', () => socket.destroy());
    this.#waiting.push(socket);
  }

  /** What nobody has taken ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isTaken) return;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    await closed;
  }
}
