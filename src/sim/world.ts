/**
 * What checkers look at: a mirror of the store kept by its commits (not by the API that is under test), with what was deleted and when the
 * last change was; and the cluster itself. Violations are collected, each once.
 */
import type { KubeObject } from '#base/objects.ts';
import type { Cluster } from './cluster.ts';
import { bytesOf } from '#store/store.ts';
import type { CommittedOperation } from './event-hash.ts';

export interface Commit { revision: number; key: string; atMs: number; object: KubeObject | undefined; previous: KubeObject | undefined }
export interface Violation { checker: string; message: string; atMs: number; revision: number }

/** One invariant. `onCommit` sees every change; `onTick` runs each virtual second; `atRest` after faults have stopped and all is quiet. */
export interface Checker {
  readonly name: string;
  onCommit?(commit: Commit, world: World): void;
  onTick?(world: World): void | Promise<void>;
  atRest?(world: World): void | Promise<void>;
}

const decoder = new TextDecoder();
const violationsMax = 100;

export class World {
  readonly cluster: Cluster;
  readonly checkers: readonly Checker[];
  /** Present objects by store key. */
  readonly objects = new Map<string, KubeObject>();
  readonly violations: Violation[] = [];
  revision = 0;
  /** When something other than a lease or an event last changed. */
  lastChangeMs: number;
  readonly #reported = new Set<string>();

  constructor(cluster: Cluster, checkers: readonly Checker[]) {
    this.cluster = cluster;
    this.checkers = checkers;
    this.lastChangeMs = cluster.now;
    cluster.observed.onCommit((operation) => this.#onCommit(operation));
  }

  /** Objects of a kind, by its path in the store: `pods`, `apps/replicasets`. */
  *of(resource: string): Iterable<KubeObject> {
    const prefix = `/registry/${resource}/`;
    for (const [key, object] of this.objects) if (key.startsWith(prefix)) yield object;
  }

  report(checker: string, message: string): void {
    const id = `${checker}: ${message}`;
    if (this.#reported.has(id) || this.violations.length >= violationsMax) return;
    this.#reported.add(id);
    this.violations.push({ checker, message, atMs: this.cluster.now, revision: this.revision });
  }

  #onCommit({ revision, key, value }: CommittedOperation): void {
    if (!key.startsWith('/registry/')) return;
    const previous = this.objects.get(key);
    let object: KubeObject | undefined;
    const bytes = value === undefined ? undefined : bytesOf(value);
    if (bytes?.[0] === 0x7b) object = JSON.parse(decoder.decode(bytes)) as KubeObject;
    if (object?.metadata === undefined) object = undefined;
    if (object === undefined) this.objects.delete(key);
    else this.objects.set(key, object);
    const commit: Commit = { revision, key, atMs: this.cluster.now, object, previous };
    for (const checker of this.checkers) checker.onCommit?.(commit, this);
    this.revision = Math.max(this.revision, revision);
    if (!key.startsWith('/registry/coordination.k8s.io/') && !key.startsWith('/registry/events')) this.lastChangeMs = this.cluster.now;
  }

  async tick(): Promise<void> {
    for (const checker of this.checkers) await checker.onTick?.(this);
  }

  async rest(): Promise<void> {
    for (const checker of this.checkers) await checker.atRest?.(this);
  }
}
