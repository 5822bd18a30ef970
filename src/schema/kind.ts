/**
 * What the API server knows of a kind, as one declarative record. Each file in `groups/` lists the records of one API
 * group; custom resources become records at run time (`apiserver/crd.ts`). Everything else - discovery, OpenAPI,
 * tables, decoding, pruning, defaulting, validation, patches, apply - is derived from a record, so that adding a kind
 * touches one file.
 */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { fieldOf, isObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import type { RuleRun } from './run-rules.ts';
import { typeOf } from './types.ts';
import type { ObjectNode } from './types.ts';

export interface Column<T extends KubeObject = KubeObject> {
  name: string;
  type: 'string' | 'integer' | 'date' | 'number' | 'boolean';
  format?: string;
  /** 0: shown always; 1: with `-o wide`. */
  priority?: number;
  value(object: T, now: number): string | number | boolean | null | undefined;
}

export interface SubresourceRecord {
  verbs: readonly string[];
  /** What it answers with, where that is another kind. */
  kind?: string;
  group?: string;
  version?: string;
  type?: string;
}

/** A reader of a field's value as text. (A method's type: a record of one kind is a record of any.) */
type FieldText<T> = { read(object: T): string }['read'];
type StatusOf<T> = T extends { status?: infer S } ? Draft<NonNullable<S>> : unknown;

/** `T` is what the kind's objects are when they are stored; before that they are drafts of it. */
export interface KindRecord<T extends KubeObject = KubeObject> {
  group: string;
  version: string;
  kind: string;
  resource: string;
  singular: string;
  namespaced: boolean;
  verbs: readonly string[];
  shortNames: readonly string[];
  categories: readonly string[];
  subresources: Readonly<Record<string, SubresourceRecord>>;
  columns: readonly Column<T>[];
  listKind: string;
  /** The structure; read at first use. */
  readonly type: ObjectNode;
  /** Where objects are kept: shared by versions and groups that serve the same objects. */
  storage: { group: string; resource: string; version: string; kind: string };
  /** To and from the stored version, where this is another one or what was stored may lack what it has by now. */
  fromStored?(object: KubeObject): KubeObject;
  toStored?(object: KubeObject): KubeObject;
  /** Of kinds whose versions a webhook converts: instead of the two. */
  conversion?: KindConversion;
  /** Fields beyond `metadata.name` and `metadata.namespace` that a field selector may name, as paths or functions. */
  selectableFields: Readonly<Record<string, FieldText<T>>>;
  /** `spec` changes increment `metadata.generation`. */
  hasGeneration: boolean;
  /** `status` is written through the status subresource only. */
  hasStatus: boolean;
  defaults?(object: Draft<T>): void;
  /** What `defaults` does within `status`, for writes that change nothing else. */
  defaultStatus?(status: StatusOf<T>, object: Draft<T>): void;
  /**
   * Labels that an object gets that has none of its own: those of its template, also where nothing but its status is
   * written.
   */
  templateLabels?(object: Draft<T>): Record<string, string> | undefined;
  /** Runs after defaulting of a new object: drops what clients may not set. */
  prepareCreate?(object: Draft<T>, now: number, warn: (text: string) => void): void;
  prepareUpdate?(object: Draft<T>, old: T, now: number): void;
  /** As `prepareUpdate`, of the status subresource. */
  prepareStatus?(object: Draft<T>, old: T, now: number): void;
  validate?(object: Draft<T>, errors: FieldErrors, old: T | undefined): void;
  validateUpdate?(object: Draft<T>, old: T, errors: FieldErrors): void;
  /** Of a kind that is kept as another: what it asks of that one's object beyond what that one does. */
  validateKept?(object: KubeObject, errors: FieldErrors, old: KubeObject | undefined): void;
  /** The metadata of a new object is looked at once all else is right (upstream's validation does not look at it). */
  metadataLast: boolean;
  validateStatus?(object: Draft<T>, old: T, errors: FieldErrors): void;
  /** Of what has passed validation: what the client should know of it. */
  warn?(object: Draft<T>, old: T | undefined, warn: (text: string) => void): void;
  /** What takes its time: rules that are expressions. Other work of the process has its turns meanwhile. */
  validateRules?(object: Draft<T>, old: T | undefined, run: RuleRun): Promise<void>;
  /** Names: a DNS subdomain unless said otherwise. */
  /** Fields that a write keeps as they are, and nobody manages. */
  unmanaged: readonly string[];
  /** A write to the status is answered by the object, also where a table is asked for. */
  statusIsPlain: boolean;
  /** Metadata that a write to the status leaves as it is. */
  statusKeeps: readonly MetadataField[];
  /** What holds a deleted object up until the server has done its part. */
  deletionFinalizer?: string;
  /** An update must say which version it changes. */
  needsVersion: boolean;
  /** An update of what is not there makes it. */
  createsOnUpdate: boolean;
  nameForm: 'subdomain' | 'label' | 'label1035' | 'path' | 'ip' | 'any';
  scale?: { specPath: string; statusPath: string; selectorPath: string };
  custom?: boolean;
  /** Of a custom kind: the schema as its definition published it. */
  publishedSchema?: JSONSchemaProps | undefined;
  /** What clients are warned of with each answer. */
  deprecation?: string;
}

/** Metadata that its owner writes. */
export const metadataFields = ['labels', 'annotations', 'finalizers', 'ownerReferences'] as const;
type MetadataField = (typeof metadataFields)[number];

export interface KindConversion {
  /** Answers objects of one's own, in the order given. */
  convert(objects: readonly KubeObject[], apiVersion: string): Promise<KubeObject[]>;
}

export const allVerbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'] as const;
const subresourceVerbs = ['get', 'patch', 'update'] as const;
export const statusSubresource: SubresourceRecord = { verbs: subresourceVerbs };
export const scaleSubresource: SubresourceRecord = {
  verbs: subresourceVerbs,
  kind: 'Scale',
  group: 'autoscaling',
  version: 'v1',
  type: 'autoscaling.v1/Scale',
};

/** A subresource that connects to a container, a node or a Service; `kind` is that of its options. */
export const connectSubresource = (kind: string, verbs: readonly string[]): SubresourceRecord => ({ verbs, kind });
/** What `proxy` passes on. */
export const proxyVerbs: readonly string[] = ['create', 'delete', 'get', 'patch', 'update'];

/** A field that is selectable as it is named. */
export const selectablePath = (path: string): { [path: string]: (object: KubeObject) => string } => ({
  [path]: pathText(path),
});

export type KindOptions<T extends KubeObject = KubeObject> = Partial<Omit<KindRecord<T>, 'type'>> & {
  type?: string;
};

export const ageColumn: Column = {
  name: 'Age',
  type: 'string',
  value: (o, now) => ageOf(o.metadata.creationTimestamp, now),
};
const nameColumn: Column = { name: 'Name', type: 'string', format: 'name', value: (o) => o.metadata.name };
/** What a kind without columns of its own shows. */
const plainColumns: readonly Column[] = [
  nameColumn,
  { name: 'Created At', type: 'date', value: (o) => o.metadata.creationTimestamp },
];

/** Name, the narrow columns, Age, the wide ones; where Age is among the narrow ones it stays there. */
export function columns<T extends KubeObject>(...middle: Column<T>[]): Column<T>[] {
  const plain = middle.filter((c) => (c.priority ?? 0) === 0);
  const wide = middle.filter((c) => (c.priority ?? 0) > 0);
  return [nameColumn, ...plain, ...(plain.includes(ageColumn) ? [] : [ageColumn]), ...wide];
}

/** The same without Age. */
export function agelessColumns<T extends KubeObject>(...middle: Column<T>[]): Column<T>[] {
  return [nameColumn, ...middle];
}

export function column<T extends KubeObject>(
  name: string,
  value: Column<T>['value'],
  options: { wide?: boolean; type?: Column['type'] } = {},
): Column<T> {
  return { name, type: options.type ?? 'string', priority: options.wide === true ? 1 : 0, value };
}

/** Fills what follows from the kind and the conventions. */
export function defineKind<T extends KubeObject>(
  { group, version, kind, resource, namespaced }: KindRef<T>,
  options: KindOptions<NoInfer<T>> = {},
): KindRecord {
  const typeName = options.type ?? `${packageOf(group, version)}/${kind}`;
  const { type: _type, ...rest } = options;
  const subresources = options.subresources ?? {};
  const record = {
    group,
    version,
    kind,
    resource,
    singular: kind.toLowerCase(),
    namespaced,
    verbs: allVerbs,
    shortNames: [],
    categories: [],
    columns: plainColumns,
    listKind: `${kind}List`,
    selectableFields: {},
    hasGeneration: false,
    hasStatus: 'status' in subresources,
    statusKeeps: [],
    statusIsPlain: false,
    unmanaged: [],
    needsVersion: false,
    metadataLast: false,
    createsOnUpdate: false,
    nameForm: 'subdomain' as const,
    storage: { group, resource, version, kind },
    ...rest,
    subresources,
    defaults(object: Draft<T>): void {
      fillSpec(object, typeOf(typeName));
      options.defaults?.(object);
    },
  };
  Object.defineProperty(record, 'type', { get: () => typeOf(typeName), enumerable: true });
  return record as unknown as KindRecord;
}

/** A `spec` that is no pointer is always there: Go writes `{}` where nothing is given. */
function fillSpec(object: object, type: ObjectNode): void {
  const spec = type.fields.get('spec');
  if (spec?.type.kind === 'object' && !spec.pointer && isObject(object)) object.spec ??= {};
}

/** `networking.k8s.io` v1 → `networking.v1`. */
function packageOf(group: string, version: string): string {
  if (group === '') return `core.${version}`;
  return `${group.split('.')[0]}.${version}`;
}

/** A duration as tables show it: `5s`, `3m20s`, `4h`, `2d3h`, `40d`, `2y35d`. */
export function shortDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 0) return '0s';
  if (seconds < 120) return `${seconds}s`;
  const pair = (big: number, bigUnit: string, small: number, smallUnit: string): string =>
    small === 0 ? `${big}${bigUnit}` : `${big}${bigUnit}${small}${smallUnit}`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return pair(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return pair(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (hours < 192) return pair(days, 'd', hours % 24, 'h');
  if (days < 730) return `${days}d`;
  return days < 2920 ? pair(Math.floor(days / 365), 'y', days % 365, 'd') : `${Math.floor(days / 365)}y`;
}

export function ageOf(timestamp: string | null | undefined, now: number): string {
  return timestamp === undefined || timestamp === null ? '<unknown>' : shortDuration(now - Date.parse(timestamp));
}

export const orNone = (text: string | undefined | null): string =>
  text === undefined || text === null || text === '' ? '<none>' : text;

/** A reader of a dotted path as text. */
export function pathText(path: string): (object: KubeObject) => string {
  const parts = path.split('.');
  return (object) => String(fieldOf(object, ...parts) ?? '');
}

/** Requirements in the order of their keys. */
export function formatSelector(selector: LabelSelector | undefined): string {
  if (selector === undefined) return '<none>';
  const parts: [key: string, text: string][] = Object.entries(selector.matchLabels ?? {}).map(([k, v]) => [
    k,
    `${k}=${v}`,
  ]);
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    if (operator === 'Exists') parts.push([key, key]);
    else if (operator === 'DoesNotExist') parts.push([key, `!${key}`]);
    else parts.push([key, `${key} ${operator === 'In' ? 'in' : 'notin'} (${[...values].sort().join(',')})`]);
  }
  const sorted = parts.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return orNone(sorted.map(([, text]) => text).join(','));
}

export const formatMap = (map: Record<string, string> | undefined): string =>
  orNone(
    Object.entries(map ?? {})
      .map(([k, v]) => `${k}=${v}`)
      .sort()
      .join(','),
  );
