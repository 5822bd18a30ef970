/**
 * The shape that every Kubernetes object shares (API conventions, "Metadata"), and references to kinds.
 * What else a kind holds, the interfaces in `src/api` say.
 */
import type { Draft } from '#api/manifest.ts';
import type { ObjectMeta } from '#api/meta.v1.ts';
import { isObject } from './unknown.ts';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** An object of a kind that is not known here: its fields may be anything. */
export interface OpenObject extends KubeObject {
  [field: string]: unknown;
}

export interface KubeList<T = KubeObject> {
  apiVersion: string;
  kind: string;
  metadata: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  items: T[];
}

export interface StatusCause {
  reason?: string;
  message?: string;
  field?: string;
}

export interface KubeStatus extends KubeObject {
  kind: 'Status';
  apiVersion: 'v1';
  /** `continue` where a list was refused that may yet go on. */
  metadata: ObjectMeta & { continue?: string };
  status: 'Success' | 'Failure';
  message?: string;
  reason?: string;
  code?: number;
  details?: {
    name?: string;
    group?: string;
    kind?: string;
    uid?: string;
    causes?: StatusCause[];
    retryAfterSeconds?: number;
  };
}

export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
export interface WatchEvent<T = KubeObject> {
  type: WatchEventType;
  object: T;
}

declare const objectType: unique symbol;

/** A kind as clients name it, and the type of its objects. `group` is empty for the core group. */
export interface KindRef<T extends KubeObject = KubeObject> {
  /** Never there: it carries the type. */
  readonly [objectType]?: T;
  group: string;
  version: string;
  resource: string;
  kind: string;
  namespaced: boolean;
}

/** Whether an object is of a kind. */
export function isOf<T extends KubeObject>(kind: KindRef<T>, object: KubeObject): object is T {
  return object.kind === kind.kind && object.apiVersion === apiVersionOf(kind);
}

/** Whether a value is an object of some kind. */
export function isKubeObject(value: unknown): value is KubeObject {
  return (
    isObject(value) &&
    typeof value.apiVersion === 'string' &&
    typeof value.kind === 'string' &&
    isObject(value.metadata)
  );
}

/** The same of an object that is not validated yet: any field may lack. */
export function isDraftOf<T extends KubeObject>(kind: KindRef<T>, object: KubeObject): object is Draft<T> & KubeObject {
  return isOf(kind, object);
}

/** `apiVersion` of a kind: `v1`, `apps/v1`. */
export function apiVersionOf(kind: { group: string; version: string }): string {
  return kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
}

/** Group and version of an `apiVersion`: the core group is ''. */
export function groupVersionOf(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf('/');
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}

/** A kind's resource as messages and rules name it: `pods`, `deployments.apps`. */
export function resourceNameOf(kind: { group: string; resource: string }): string {
  return kind.group === '' ? kind.resource : `${kind.resource}.${kind.group}`;
}
