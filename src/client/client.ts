/**
 * The typed client that controllers, scheduler, kubelet and commands use. One interface, two transports:
 * `transport-direct.ts`
 * calls the API server's chain in the same process, `transport-http.ts` speaks HTTP. Objects that come back are shared
 * and frozen:
 * copy (`structuredClone`) before a change. Every failure is an `ApiError`.
 */
import type { Scale } from '#api/autoscaling.v1.ts';
import type { TokenRequest } from '#api/authentication.v1.ts';
import type { Binding } from '#api/core.v1.ts';
import type { Manifest, StatusManifest } from '#api/manifest.ts';
import type { Eviction } from '#api/policy.v1.ts';
import type { KindRef, KubeList, KubeObject, WatchEvent } from '#base/objects.ts';

export interface ListOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
  resourceVersion?: string;
  resourceVersionMatch?: string;
  signal?: AbortSignal;
}
export interface WatchOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  resourceVersion?: string;
  allowBookmarks?: boolean;
  timeoutSeconds?: number;
  signal?: AbortSignal;
}
export interface DeleteOptions {
  gracePeriodSeconds?: number;
  propagationPolicy?: 'Orphan' | 'Background' | 'Foreground';
  preconditions?: { uid?: string; resourceVersion?: string };
  dryRun?: boolean;
}
export interface WriteOptions {
  fieldManager?: string;
  dryRun?: boolean;
  force?: boolean;
  fieldValidation?: 'Ignore' | 'Warn' | 'Strict';
}
export interface UpdateOptions extends WriteOptions {
  /** A part of the object that is written by itself: `status`, `finalize`. */
  subresource?: string;
}

/** Which object of a kind. */
export interface ObjectName {
  name: string;
  /** Lacks where objects of the kind have none. */
  namespace?: string | undefined;
}

interface PatchBodies {
  /** Operations of RFC 6902, in order. */
  json: readonly object[];
  /** RFC 7396: null removes a field, a list replaces a list. */
  merge: object;
  /** As `merge`, but lists merge by the keys that the kind's schema names. */
  strategic: object;
  /** Server-side apply: the whole intent of a field manager. */
  apply: object;
}
/** Exactly one of the forms that a patch can have (Kubernetes API concepts, "Updates to existing resources"). */
export type Patch = {
  [Form in keyof PatchBodies]: Pick<PatchBodies, Form> & { [Other in Exclude<keyof PatchBodies, Form>]?: never };
}[keyof PatchBodies];

/** What subresources take and give that are kinds of their own. */
export interface Subresources {
  binding: Binding;
  eviction: Eviction;
  scale: Scale;
  token: TokenRequest;
}

export interface Client {
  get<T extends KubeObject>(kind: KindRef<T>, name: string, namespace?: string): Promise<T>;
  list<T extends KubeObject>(kind: KindRef<T>, options?: ListOptions): Promise<KubeList<T>>;
  create<T extends KubeObject>(
    kind: KindRef<T>,
    object: KubeObject & (Manifest<NoInfer<T>> | NoInfer<T>),
    options?: WriteOptions,
  ): Promise<T>;
  /** Of an object to be written through `status`, nothing else need be said. */
  update<T extends KubeObject>(
    kind: KindRef<T>,
    object: KubeObject & StatusManifest<NoInfer<T>>,
    options: UpdateOptions & { subresource: 'status' },
  ): Promise<T>;
  /** Replaces; the object's resourceVersion, when set, must be current (409 Conflict otherwise). */
  update<T extends KubeObject>(
    kind: KindRef<T>,
    object: KubeObject & (Manifest<NoInfer<T>> | NoInfer<T>),
    options?: UpdateOptions,
  ): Promise<T>;
  patch<T extends KubeObject>(kind: KindRef<T>, object: ObjectName, patch: Patch, options?: UpdateOptions): Promise<T>;
  delete(kind: KindRef, name: string, namespace?: string, options?: DeleteOptions): Promise<KubeObject>;
  deleteCollection(kind: KindRef, options?: ListOptions & DeleteOptions): Promise<void>;
  watch<T extends KubeObject>(kind: KindRef<T>, options: WatchOptions): AsyncIterable<WatchEvent<T>>;
  /** The same, those that have come together in one go: for whoever would fall behind if each cost a turn. */
  watchBatches<T extends KubeObject>(kind: KindRef<T>, options: WatchOptions): AsyncIterable<WatchEvent<T>[]>;
  getSubresource<S extends keyof Subresources>(
    kind: KindRef,
    subresource: S,
    name: string,
    namespace?: string,
  ): Promise<Subresources[S]>;
  updateSubresource<S extends keyof Subresources>(
    kind: KindRef,
    subresource: S,
    body: Manifest<Subresources[S]>,
    options?: WriteOptions,
  ): Promise<Subresources[S]>;
  /** The body names the object of `kind`. Answers what the server answers: the body, or a Status. */
  createSubresource<S extends keyof Subresources>(
    kind: KindRef,
    subresource: S,
    body: Manifest<Subresources[S]>,
    options?: WriteOptions,
  ): Promise<KubeObject>;
  /** Any path: reviews, discovery, metrics. `T` is what the server answers there. */
  raw<T extends object = object>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<T>;
}
