/**
 * What checkers look at: a mirror of the store kept by its commits (not by the API that is under test), with what was
 * deleted and when the last change was; and the cluster itself. Violations are collected, each once.
 */
import type { Pod } from '#api/core.v1.ts';
import { isOf, type KindRef, type KubeObject } from '#base/objects.ts';
import { stackOf } from '#base/thrown.ts';
import { isObject } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import { bytesOf } from '#store/store.ts';
import type { Cluster } from './cluster.ts';
import { type Part, parts } from './cluster-options.ts';
import type { CommittedOperation } from './event-hash.ts';

export interface Commit<T extends KubeObject = KubeObject> {
  revision: number;
  key: string;
  atMs: number;
  object: T | undefined;
  previous: T | undefined;
  /** The object, or as it last was where it is gone; undefined for what is no object. */
  last: T | undefined;
}
/** Of an object of one kind. */
export interface CommitOf<T extends KubeObject> extends Commit<T> {
  last: T;
}
export function isCommitOf<T extends KubeObject>(kind: KindRef<T>, commit: Commit): commit is CommitOf<T> {
  const { object, previous } = commit;
  return (
    (object === undefined || isOf(kind, object)) &&
    (previous === undefined || isOf(kind, previous)) &&
    commit.last !== undefined
  );
}

export interface Violation {
  checker: string;
  message: string;
  atMs: number;
  revision: number;
}

/**
 * One invariant. `onCommit` sees every change; `onRequest` what a part asks of the API server, before it is answered (a
 * voluntary act is its part's); `onTick` runs each virtual second; `atRest` after faults have stopped and all is quiet.
 */
export interface Checker {
  readonly name: string;
  onCommit?(commit: Commit, world: World): void;
  onRequest?(part: Part, request: TransportRequest, world: World): void;
  /** A part was told of a failure - or nothing: what it asked for may still have been done. */
  onFailure?(part: Part, request: TransportRequest, failure: unknown, world: World): void;
  onTick?(world: World): void | Promise<void>;
  atRest?(world: World): void | Promise<void>;
}

const decoder = new TextDecoder();
const violationsMax = 100;
/**
 * When the controllers' network has been undisturbed for this long, their informers watch again (they wait up to 45 s
 * between two attempts) and lag by nothing.
 */
const catchUpMs = 60_000;
/** A decision may be this old when its write arrives. */
export const inFlightMs = 2_000;
const noObjects: ReadonlyMap<string, KubeObject> = new Map();

/** The key in the store of an object of a kind that lies in this Namespace; its path is the kind's. */
export function storeKeyOf(kind: KindRef, name: string, namespace?: string): string {
  return `/registry/${pathOf(kind)}/${namespace === undefined ? name : `${namespace}/${name}`}`;
}

/** `pods` or `apps/replicasets`. */
const pathOf = ({ group, resource }: KindRef): string => (group === '' ? resource : `${group}/${resource}`);

/** The object that bytes of the store hold; undefined where it is none. */
function objectIn(bytes: Uint8Array | undefined): KubeObject | undefined {
  const value: unknown = bytes?.[0] === 0x7b ? JSON.parse(decoder.decode(bytes)) : undefined;
  return isKubeObject(value) ? value : undefined;
}

function isKubeObject(value: unknown): value is KubeObject {
  return isObject(value) && isObject(value['metadata']);
}

/** The path in a key: the group stands there where the object has one. */
function pathIn(key: string, object: KubeObject): string {
  const first = key.indexOf('/', 10);
  return object.apiVersion.includes('/') ? key.slice(10, key.indexOf('/', first + 1)) : key.slice(10, first);
}

/** Keys by something that objects name: a owner's UID, a node. */
class KeyIndex {
  readonly #keys = new Map<string, Set<string>>();
  readonly #namesOf: (object: KubeObject) => readonly string[];

  constructor(namesOf: (object: KubeObject) => readonly string[]) {
    this.#namesOf = namesOf;
  }

  change(key: string, object: KubeObject | undefined, previous: KubeObject | undefined): void {
    const [before, now] = [
      previous === undefined ? [] : this.#namesOf(previous),
      object === undefined ? [] : this.#namesOf(object),
    ];
    for (const name of before) {
      const keys = now.includes(name) ? undefined : this.#keys.get(name);
      if (keys?.delete(key) === true && keys.size === 0) this.#keys.delete(name);
    }
    for (const name of now) {
      const set = this.#keys.get(name);
      if (set === undefined) this.#keys.set(name, new Set([key]));
      else set.add(key);
    }
  }

  of(name: string): Iterable<string> {
    return this.#keys.get(name) ?? [];
  }
}

type Knowing = 'controllers' | 'scheduler';

/** How far the copies of a part reach, as far as one can tell from its network. */
class Knowledge {
  untilMs = 0;
  sinceMs = Infinity;
  readonly #cluster: Cluster;
  readonly #network: Cluster['networks'][Part];
  #disturbedMs: number;

  constructor(cluster: Cluster, part: Knowing) {
    this.#cluster = cluster;
    this.#network = cluster.networks[part];
    // At the start all of them have just read everything.
    this.#disturbedMs = cluster.now - catchUpMs;
    const { onChange } = this.#network;
    this.#network.onChange = () => {
      if (!this.#network.isHealthy) this.#disturbedMs = cluster.now;
      onChange?.();
    };
  }

  note(nowMs: number, runs: boolean, startedMs: number | undefined): void {
    if (!this.#network.isHealthy) this.#disturbedMs = nowMs;
    this.#disturbedMs = Math.max(this.#disturbedMs, Math.min(nowMs, this.#cluster.serverUpMs));
    const isInTouch = runs && nowMs - this.#disturbedMs >= catchUpMs;
    if (isInTouch) this.untilMs = nowMs - inFlightMs;
    if (startedMs !== undefined) this.untilMs = Math.max(this.untilMs, startedMs);
    if (!isInTouch) this.sinceMs = Infinity;
    else if (this.sinceMs === Infinity) this.sinceMs = nowMs;
  }
}

export class World {
  readonly cluster: Cluster;
  readonly checkers: readonly Checker[];
  /** Present objects by store key. */
  readonly objects = new Map<string, KubeObject>();
  readonly violations: Violation[] = [];
  revision = 0;
  /** When something other than a lease or an event last changed. */
  lastChangeMs: number;
  /** The revision that last wrote each present object. */
  readonly revisions = new Map<string, number>();
  /** What controllers and scheduler know of the world. */
  readonly #knowledge: Record<Knowing, Knowledge>;
  #control: Cluster['controllers'];
  #tickMs = 0;
  /** How often controllers and scheduler have been started. */
  controlStarts = 0;
  readonly #reported = new Set<string>();
  readonly #paths = new Map<string, Map<string, KubeObject>>();
  readonly #byOwner = new KeyIndex(({ metadata }) => metadata.ownerReferences?.map(({ uid }) => uid) ?? []);
  readonly #byNode = new KeyIndex((object) =>
    isOf(kinds.Pod, object) && object.spec.nodeName !== undefined ? [object.spec.nodeName] : [],
  );
  readonly #byUid = new KeyIndex(({ metadata }) => (metadata.uid === undefined ? [] : [metadata.uid]));

  constructor(cluster: Cluster, checkers: readonly Checker[]) {
    this.cluster = cluster;
    this.checkers = checkers;
    this.lastChangeMs = cluster.now;
    this.#knowledge = {
      controllers: new Knowledge(cluster, 'controllers'),
      scheduler: new Knowledge(cluster, 'scheduler'),
    };
    cluster.observed.onCommit((operation) => this.#onCommit(operation));
    this.#listen();
  }

  #listen(): void {
    const [askers, hearers] = [
      this.checkers.filter(({ onRequest }) => onRequest !== undefined),
      this.checkers.filter(({ onFailure }) => onFailure !== undefined),
    ];
    if (askers.length + hearers.length === 0) return;
    for (const part of parts) {
      const network = this.cluster.networks[part];
      const send = network.send.bind(network);
      network.send = async (request) => {
        for (const checker of askers) checker.onRequest?.(part, request, this);
        try {
          return await send(request);
        } catch (error) {
          for (const checker of hearers) checker.onFailure?.(part, request, error, this);
          throw error;
        }
      };
    }
  }

  /** Objects of a kind. */
  *of<T extends KubeObject>(kind: KindRef<T>): Iterable<T> {
    for (const object of this.ofPath(pathOf(kind))) if (isOf(kind, object)) yield object;
  }
  /** Objects of whatever kind, by its path in the store: `pods`, `apps/replicasets`. */
  ofPath(path: string): Iterable<KubeObject> {
    return (this.#paths.get(path) ?? noObjects).values();
  }
  get<T extends KubeObject>(kind: KindRef<T>, name: string, namespace?: string): T | undefined {
    const object = this.objects.get(storeKeyOf(kind, name, namespace));
    return object !== undefined && isOf(kind, object) ? object : undefined;
  }
  /** Whether what is in a Namespace goes with it. */
  isNamespaceLeaving(name: string | undefined): boolean {
    return name !== undefined && this.get(kinds.Namespace, name)?.metadata.deletionTimestamp !== undefined;
  }
  /** Objects that name this UID among their owners. */
  ownedBy(uid: string): KubeObject[] {
    return this.#at(this.#byOwner.of(uid));
  }
  /** Those of one kind. */
  ownedOf<T extends KubeObject>(kind: KindRef<T>, uid: string): T[] {
    return this.ownedBy(uid).filter((object) => isOf(kind, object));
  }
  podsOn(node: string): Pod[] {
    return this.#at(this.#byNode.of(node)).filter((object) => isOf(kinds.Pod, object));
  }
  /** The object of this UID, if it is of the kind. */
  byUid<T extends KubeObject>(kind: KindRef<T>, uid: string): T | undefined {
    const object = this.anyByUid(uid);
    return object !== undefined && isOf(kind, object) ? object : undefined;
  }
  anyByUid(uid: string): KubeObject | undefined {
    for (const key of this.#byUid.of(uid)) return this.objects.get(key);
    return undefined;
  }

  #at(keys: Iterable<string>): KubeObject[] {
    return [...keys].flatMap((key) => this.objects.get(key) ?? []);
  }

  report(checker: string, message: string): void {
    const id = `${checker}: ${message}`;
    if (this.#reported.has(id) || this.violations.length >= violationsMax) return;
    this.#reported.add(id);
    this.violations.push({ checker, message, atMs: this.cluster.now, revision: this.revision });
  }

  /** Takes in what a fork found: as if it had always been so. */
  async adopt(): Promise<void> {
    const { values } = await this.cluster.store.list('/registry/');
    for (const { key, value, modRevision } of values) {
      const object = objectIn(value);
      if (object !== undefined) this.#set(key, object, this.objects.get(key), modRevision);
    }
    this.revision = this.cluster.store.currentRevision();
  }

  #onCommit({ revision, key, value }: CommittedOperation): void {
    if (!key.startsWith('/registry/')) return;
    const previous = this.objects.get(key);
    const object = value === undefined ? undefined : objectIn(bytesOf(value));
    this.#set(key, object, previous, revision);
    const commit: Commit = {
      revision,
      key,
      atMs: this.cluster.now,
      object,
      previous,
      last: object ?? previous,
    };
    for (const checker of this.checkers) {
      // The commit has happened: an error here must not reach the one who made it.
      try {
        checker.onCommit?.(commit, this);
      } catch (error) {
        this.report(checker.name, `failed: ${stackOf(error)}`);
      }
    }
    this.revision = Math.max(this.revision, revision);
    if (!key.startsWith('/registry/coordination.k8s.io/') && !key.startsWith('/registry/events'))
      this.lastChangeMs = this.cluster.now;
  }

  #set(key: string, object: KubeObject | undefined, previous: KubeObject | undefined, revision: number): void {
    const known = object ?? previous;
    if (known === undefined) return;
    const path = pathIn(key, known);
    let held = this.#paths.get(path);
    if (held === undefined) this.#paths.set(path, (held = new Map()));
    for (const map of [this.objects, held]) {
      if (object === undefined) map.delete(key);
      else map.set(key, object);
    }
    if (object === undefined) this.revisions.delete(key);
    else this.revisions.set(key, revision);
    for (const index of [this.#byOwner, this.#byNode, this.#byUid]) index.change(key, object, previous);
  }

  /** Everything committed up to this time that part has certainly seen; later things perhaps. */
  knownMs(part: Knowing): number {
    return this.#knowledge[part].untilMs;
  }
  /**
   * Since when a part has been in touch without a break, so that what it does rests on what is; Infinity while it is
   * not.
   */
  inTouchSinceMs(part: Knowing): number {
    return this.#knowledge[part].sinceMs;
  }
  isInTouch(part: Knowing): boolean {
    return this.#knowledge[part].sinceMs <= this.cluster.now;
  }

  #noteKnowledge(): void {
    const { now, controllers } = this.cluster;
    // New ones read everything anew.
    const started = controllers !== undefined && controllers !== this.#control;
    if (started) this.controlStarts++;
    for (const knowledge of Object.values(this.#knowledge))
      knowledge.note(now, controllers !== undefined, started ? this.#tickMs : undefined);
    this.#control = controllers;
    this.#tickMs = now;
  }

  async tick(): Promise<void> {
    this.#noteKnowledge();
    for (const checker of this.checkers) await checker.onTick?.(this);
  }

  async rest(): Promise<void> {
    // All look at the same moment: with time the next timer comes, a Job's next attempt say.
    await Promise.all(this.checkers.map(async (checker) => checker.atRest?.(this)));
  }
}
