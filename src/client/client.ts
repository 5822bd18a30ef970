/**
 * The typed client that controllers, scheduler, kubelet and commands use. One interface, two transports:
 * `transport-direct.ts`
 * calls the API server's chain in the same process, `transport-http.ts` speaks HTTP. Objects that come back are shared
 * and frozen:
 * copy (`structuredClone`) before a change. Every failure is an `ApiError`.
 */
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
  subresource?: string;
  fieldManager?: string;
  dryRun?: boolean;
  force?: boolean;
  fieldValidation?: 'Ignore' | 'Warn' | 'Strict';
}
export type PatchType = 'json' | 'merge' | 'strategic' | 'apply';

export interface Client {
  get<T extends KubeObject = KubeObject>(
    kind: KindRef,
    name: string,
    namespace?: string,
    subresource?: string,
  ): Promise<T>;
  list<T extends KubeObject = KubeObject>(kind: KindRef, options?: ListOptions): Promise<KubeList<T>>;
  create<T extends KubeObject = KubeObject>(kind: KindRef, object: T, options?: WriteOptions): Promise<T>;
  /** Replaces; the object's resourceVersion, when set, must be current (409 Conflict otherwise). */
  update<T extends KubeObject = KubeObject>(kind: KindRef, object: T, options?: WriteOptions): Promise<T>;
  patch<T extends KubeObject = KubeObject>(
    kind: KindRef,
    name: string,
    namespace: string | undefined,
    type: PatchType,
    patch: unknown,
    options?: WriteOptions,
  ): Promise<T>;
  delete(kind: KindRef, name: string, namespace?: string, options?: DeleteOptions): Promise<KubeObject>;
  deleteCollection(kind: KindRef, options?: ListOptions & DeleteOptions): Promise<void>;
  watch<T extends KubeObject = KubeObject>(kind: KindRef, options: WatchOptions): AsyncIterable<WatchEvent<T>>;
  /** The same, those that have come together in one go: for whoever would fall behind if each cost a turn. */
  watchBatches<T extends KubeObject = KubeObject>(kind: KindRef, options: WatchOptions): AsyncIterable<WatchEvent<T>[]>;
  /** Any path: tokens, bindings, reviews, discovery. */
  raw(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<KubeObject>;
}
