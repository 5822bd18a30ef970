/**
 * Sessions: connections on which a client serves what only it has (files, credentials, secrets, an SSH agent). A client
 * opens its session by `POST /session` with an id of its own choice and names that id when it asks for a build, in
 * either order.
 */
import { duplexPair } from 'node:stream';
import type { Duplex } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { whenSettled } from '#base/promises.ts';
import { whenDrained } from '#base/streams.ts';
import type { Clock } from '#os/clock.ts';
import { Arrivals } from './arrivals.ts';
import type { GrpcClient } from '#grpc/client.ts';
import { connectGrpc } from './grpc.ts';
import type { Call } from './grpc.ts';
import { bytesIn } from '#grpc/fields.ts';
import { sessionWaitMs, sessionsMax } from './limits.ts';

export interface Session {
  id: string;
  /** What the client calls the place that it builds in: the same at its next build. '' when it does not say. */
  place: string;
  client: GrpcClient;
  /** Whether the client serves this method, `/moby.filesync.v1.FileSync/DiffCopy`. */
  serves(path: string): boolean;
}

export interface SessionHeaders {
  id: string;
  place: string;
  methods: readonly string[];
}

export class Sessions {
  readonly #open: Arrivals<Session>;

  constructor(clock: Clock) {
    this.#open = new Arrivals(clock, sessionWaitMs, 'no active session for');
  }

  /** Throws before anything is taken over: BadRequest without an id, Conflict for one that is there. */
  check(id: string): void {
    if (id === '') throw new ApiError('BadRequest', 'no session id in request');
    if (this.#open.has(id)) throw new ApiError('Conflict', `session ${id.slice(0, 100)} is open already`);
    if (this.#open.size >= sessionsMax) throw new ApiError('TooManyRequests', `more than ${sessionsMax} sessions`);
  }

  /** The client serves on this connection until it closes. */
  add(socket: Duplex, { id, place, methods }: SessionHeaders): void {
    const served = new Set(methods.map((method) => method.toLowerCase()));
    const client = connectGrpc(socket);
    const session: Session = { id, place, client, serves: (path) => served.has(path.toLowerCase()) };
    this.#open.add(id, session);
    void client.closed.then(() => this.#open.remove(id, session));
  }

  /** A session within a call: the client's connection goes through its messages. Ends with either. */
  async tunnel({ metadata, messages, send }: Call): Promise<undefined> {
    const id = String(metadata['x-docker-expose-session-uuid'] ?? '');
    this.check(id);
    const methods = String(metadata['x-docker-expose-session-grpc-method'] ?? '').split(/,\s*/);
    const [ours, theirs] = duplexPair();
    const place = String(metadata['x-docker-expose-session-sharedkey'] ?? '');
    this.add(ours, { id, place, methods });
    const sending = (async () => {
      for await (const data of theirs) await send({ data });
    })();
    const receiving = (async () => {
      for await (const message of messages) if (!theirs.write(bytesIn(message, 'data'))) await whenDrained(theirs);
      theirs.end();
    })();
    try {
      await Promise.race([sending, receiving]);
    } finally {
      ours.destroy();
      theirs.destroy();
      await Promise.all([whenSettled(sending), whenSettled(receiving)]);
    }
    return undefined;
  }

  /** Waits a moment for a session that is about to open. Throws NotFound. */
  get(id: string, signal: AbortSignal): Promise<Session> {
    return this.#open.get(id, signal);
  }
}
