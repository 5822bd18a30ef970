/**
 * The replay of one raw watch of a kind (no informer, which would list anew and hide a gap): every version of every
 * object, by revision. The watch is resumed where it broke off, over a connection of its own, so that what is judged is
 * API server and store, not the network.
 */
import { ApiError, isReason } from '#base/errors.ts';
import type { KindRef, KubeObject, WatchEvent } from '#base/objects.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { pause } from '#os/clock.ts';
import type { Client } from '#client/client.ts';
import { keyOf } from '#client/informer.ts';
import type { Clock } from '#os/clock.ts';

export interface Change {
  type: string;
  revision: number;
  key: string;
  object: KubeObject;
  previous: KubeObject | undefined;
}

const revisionOf = (object: KubeObject): number => Number(object.metadata.resourceVersion);
const retryMs = 500;

export class Replay {
  readonly kind: KindRef;
  /** What is replayed begins after this revision. */
  base = 0;
  /** All changes since, oldest first. */
  changes: Change[] = [];
  readonly #start = new Map<string, KubeObject>();
  readonly #now = new Map<string, KubeObject>();
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #report: (message: string) => void;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #seen = 0;

  constructor(kind: KindRef, client: Client, clock: Clock, report: (message: string) => void) {
    this.kind = kind;
    this.#client = client;
    this.#clock = clock;
    this.#report = (message) => report(`${kind.resource}: ${message}`);
  }

  /** Lists, and watches from there. Resolves when the list is there. */
  async start(): Promise<void> {
    await this.#list();
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #list(): Promise<void> {
    const list = await this.#client.list(this.kind);
    this.base = this.#seen = Number(list.metadata.resourceVersion);
    this.changes = [];
    for (const map of [this.#start, this.#now]) {
      map.clear();
      for (const item of list.items) map.set(keyOf(item), item);
    }
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        for await (const event of this.#client.watch(this.kind, {
          resourceVersion: String(this.#seen),
          allowBookmarks: true,
          signal: this.#stop.signal,
        }))
          this.#take(event);
      } catch (error) {
        // Tried again after the pause.
        if (isReason(error, 'Expired', 'Gone')) await this.#list().catch(() => {});
      }
      if (!this.#stop.signal.aborted) await pause(this.#clock, retryMs, this.#stop.signal);
    }
  }

  #take({ type, object }: WatchEvent): void {
    if (type === 'ERROR')
      throw new ApiError(
        fieldOf(object, 'code') === 410 ? 'Expired' : 'InternalError',
        textOf(object, 'message') ?? 'the watch failed',
      );
    const revision = revisionOf(object);
    if (revision < this.#seen) this.#report(`${type} of revision ${revision} came after ${this.#seen}`);
    this.#seen = Math.max(this.#seen, revision);
    if (type === 'BOOKMARK') return;
    const key = keyOf(object);
    const previous = this.#now.get(key);
    if ((type === 'ADDED') !== (previous === undefined))
      this.#report(
        `${type} of ${key} at ${revision}, which was ${previous === undefined ? 'not there' : `there since ${previous.metadata.resourceVersion}`}`,
      );
    if (previous !== undefined && revision <= revisionOf(previous))
      this.#report(`${key} was watched at ${revision} after ${previous.metadata.resourceVersion}`);
    if (type === 'DELETED') this.#now.delete(key);
    else this.#now.set(key, object);
    this.changes.push({ type, revision, key, object, previous });
  }

  /** Objects as they were at a revision, `base` or later. */
  at(revision: number): Map<string, KubeObject> {
    const last = this.changes.at(-1);
    if (last === undefined || last.revision <= revision) return new Map(this.#now);
    const objects = new Map(this.#start);
    for (const change of this.changes) {
      if (change.revision > revision) break;
      if (change.type === 'DELETED') objects.delete(change.key);
      else objects.set(change.key, change.object);
    }
    return objects;
  }

  /** Forgets what happened up to a revision. */
  forget(revision: number): void {
    const count = this.changes.findIndex((change) => change.revision > revision);
    for (const { type, key, object } of this.changes.splice(0, count < 0 ? this.changes.length : count)) {
      if (type === 'DELETED') this.#start.delete(key);
      else this.#start.set(key, object);
    }
    this.base = Math.max(this.base, revision);
  }
}
