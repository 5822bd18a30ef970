/** What clients send of a kind, where it differs from what the server stores and gives. Types alone. */
import type { ObjectMeta } from './meta.v1.ts';

/** A specification that may be left out: none of its fields is required. */
type OptionalSpec<T> = T extends { spec: infer S } ? ({} extends S ? 'spec' : never) : never;

/**
 * An object to be written: name, UID, resourceVersion and the like may still be the server's to fill in, and a
 * specification that requires nothing may be missing.
 */
export type Manifest<T> = {
  [K in keyof T as K extends 'metadata' | OptionalSpec<T> ? never : K]: T[K];
} & { [K in keyof T as K extends OptionalSpec<T> ? K : never]?: T[K] } & { metadata: ObjectMeta };

/** What is written through the status subresource: all else of the object stays as it is. */
export type StatusManifest<T> = {
  [K in keyof T as K extends 'apiVersion' | 'kind' | 'status' ? K : never]: T[K];
} & { metadata: ObjectMeta };

/** An object inside another one, of which objects are made: its kind goes without saying. */
export type Template<T> = Omit<Manifest<T>, 'apiVersion' | 'kind' | 'metadata'> & {
  apiVersion?: string;
  kind?: string;
  metadata?: ObjectMeta;
};

/**
 * What a client sent, before validation: each field that is there has its type (`schema/check.ts` sees to that), and
 * any may be missing.
 */
export type Draft<T> = T extends (infer I)[]
  ? Draft<I>[]
  : T extends object
    ? string extends keyof T
      ? { [K in keyof T]: Draft<T[K]> }
      : { [K in keyof T]?: Draft<T[K]> }
    : T;
