/**
 * Records events about objects, as `kubectl describe` and `kubectl events` show them (core v1 Event).
 *
 * Repeats are counted on one Event; messages that differ only in detail are combined past a threshold; a token bucket
 * per source and object bounds spam. Events are for people: writing never holds up or fails the caller, and what does
 * not fit the queue is dropped. Source: Kubernetes' documented event correlation limits (25 burst, one per five
 * minutes; 10 in 10 minutes).
 */
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import type { Client } from './client.ts';
import { kinds } from '#base/kinds.ts';
import {
  recorderBurstMax,
  recorderCacheEntriesMax,
  recorderQueueEventsMax,
  recorderRefillMs,
  recorderSimilarMax,
  recorderSimilarWindowMs,
} from './limits.ts';

export interface ObjectReference {
  apiVersion: string;
  kind: string;
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  fieldPath?: string;
}

export interface EventRecorder {
  event(about: KubeObject | ObjectReference, type: 'Normal' | 'Warning', reason: string, message: string): void;
  /** Resolves when all that was recorded has been written or dropped. */
  flush(): Promise<void>;
}

export interface EventRecorderOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  /** `default-scheduler`, `deployment-controller`, `kubelet`. */
  component: string;
  /** The node, for events of a kubelet. */
  host?: string;
}

interface Seen {
  name: string;
  namespace: string;
  count: number;
}
interface Similar {
  count: number;
  lastMs: number;
  messages: Set<string>;
}
interface Bucket {
  tokens: number;
  filledMs: number;
}

/** A map that forgets its oldest entry beyond the bound. */
function remember<V>(map: Map<string, V>, key: string, value: V): V {
  map.delete(key);
  map.set(key, value);
  if (map.size > recorderCacheEntriesMax) {
    const [oldest = key] = map.keys();
    map.delete(oldest);
  }
  return value;
}

export function referenceTo(object: KubeObject | ObjectReference, fieldPath?: string): ObjectReference {
  if (!('metadata' in object)) return object;
  const { name = '', namespace, uid, resourceVersion } = object.metadata;
  return {
    kind: object.kind,
    apiVersion: object.apiVersion,
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
    ...(fieldPath === undefined ? {} : { fieldPath }),
  };
}

class Recorder implements EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #seen = new Map<string, Seen>();
  readonly #similar = new Map<string, Similar>();
  readonly #buckets = new Map<string, Bucket>();
  readonly #queue: {
    key: string;
    about: ObjectReference;
    type: string;
    reason: string;
    message: string;
    atMs: number;
  }[] = [];
  #writing: Promise<void> | undefined;
  #lastName = 0n;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  event(object: KubeObject | ObjectReference, type: 'Normal' | 'Warning', reason: string, text: string): void {
    const about = referenceTo(object);
    const atMs = this.#options.clock.now();
    const subject = `${about.kind}/${about.namespace ?? ''}/${about.name}/${about.uid ?? ''}/${about.fieldPath ?? ''}`;
    const { message, key } = this.#combined(`${subject}/${type}/${reason}`, text, atMs);
    if (!this.#allowed(subject, atMs) || this.#queue.length >= recorderQueueEventsMax) return;
    this.#queue.push({ key, about, type, reason, message, atMs });
    this.#writing ??= this.#write();
  }

  async flush(): Promise<void> {
    await this.#writing;
  }

  #combined(group: string, text: string, atMs: number): { message: string; key: string } {
    let similar = this.#similar.get(group);
    if (similar === undefined || atMs - similar.lastMs > recorderSimilarWindowMs)
      similar = { count: 0, lastMs: atMs, messages: new Set() };
    similar.lastMs = atMs;
    similar.messages.add(text);
    remember(this.#similar, group, similar);
    if (similar.messages.size <= recorderSimilarMax) return { message: text, key: `${group}/${text}` };
    similar.messages = new Set([...similar.messages].slice(-recorderSimilarMax - 1));
    return { message: `(combined from similar events): ${text}`, key: group };
  }

  #allowed(subject: string, atMs: number): boolean {
    const bucket = this.#buckets.get(subject) ?? { tokens: recorderBurstMax, filledMs: atMs };
    const refilled = Math.floor((atMs - bucket.filledMs) / recorderRefillMs);
    if (refilled > 0) {
      bucket.tokens = Math.min(recorderBurstMax, bucket.tokens + refilled);
      bucket.filledMs += refilled * recorderRefillMs;
    }
    remember(this.#buckets, subject, bucket);
    if (bucket.tokens <= 0) return false;
    bucket.tokens--;
    return true;
  }

  async #write(): Promise<void> {
    // Off the caller's turn; `#writing` is set by then.
    await Promise.resolve();
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      try {
        await this.#writeOne(next);
      } catch (error) {
        // A namespace that is going away refuses events; that and an unreachable server are no one's business here.
        if (!isReason(error, 'Forbidden', 'NotFound', 'ServiceUnavailable'))
          this.#options.log.debug('event not written', { error });
      }
    }
    this.#writing = undefined;
  }

  async #writeOne({
    key,
    about,
    type,
    reason,
    message,
    atMs,
  }: {
    key: string;
    about: ObjectReference;
    type: string;
    reason: string;
    message: string;
    atMs: number;
  }): Promise<void> {
    const { client, component, host } = this.#options;
    const at = timestamp(atMs);
    const seen = this.#seen.get(key);
    if (seen !== undefined) {
      try {
        await client.patch(kinds.Event, seen, {
          merge: { count: seen.count + 1, lastTimestamp: at, message },
        });
        remember(this.#seen, key, { ...seen, count: seen.count + 1 });
        return;
      } catch (error) {
        // Events expire; then it is a new one.
        if (!isReason(error, 'NotFound')) throw error;
      }
    }
    const namespace = about.namespace ?? 'default';
    let stamp = BigInt(Math.floor(atMs)) * 1_000_000n;
    if (stamp <= this.#lastName) stamp = this.#lastName + 1n;
    this.#lastName = stamp;
    const name = `${about.name}.${stamp.toString(16)}`;
    await client.create(kinds.Event, {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace },
      involvedObject: about,
      reason,
      message,
      type,
      count: 1,
      firstTimestamp: at,
      lastTimestamp: at,
      eventTime: null,
      source: { component, ...(host === undefined ? {} : { host }) },
      reportingComponent: component,
      reportingInstance: host ?? '',
    });
    remember(this.#seen, key, { name, namespace, count: 1 });
  }
}

export function createEventRecorder(options: EventRecorderOptions): EventRecorder {
  return new Recorder(options);
}
