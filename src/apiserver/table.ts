/** Tables: what `kubectl get` prints (meta.k8s.io/v1 Table), from a kind's columns. */
import type { KubeList, KubeObject } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';

export type IncludeObject = 'None' | 'Metadata' | 'Object';

function columnDefinitions(kind: KindRecord): object[] {
  return kind.columns.map((c) => ({
    name: c.name,
    type: c.type,
    format: c.format ?? '',
    description: '',
    priority: c.priority ?? 0,
  }));
}

export function tableRow(kind: KindRecord, object: KubeObject, include: IncludeObject, now: number): object {
  const cells = kind.columns.map((c) => {
    let value: unknown;
    try {
      value = c.value(object, now);
    } catch {
      value = undefined;
    } // what is stored may lack what a column reads
    return value === undefined ? (c.type === 'string' ? '' : null) : value;
  });
  const shown = include === 'None' ? undefined : include === 'Object' ? object : partialMetadata(object);
  return { cells, ...(shown === undefined ? {} : { object: shown }) };
}

/** How a table is made. */
export interface TableOptions {
  /** Of the list; nothing is said where it is left out. */
  metadata?: { resourceVersion?: string };
  include: IncludeObject;
  now: number;
  /** Of `meta.k8s.io`; `v1` where it is left out. */
  version?: string;
  /** Left out in the later frames of a watch. */
  withColumns?: boolean;
}

interface Table {
  kind: 'Table';
  apiVersion: string;
  metadata: object;
  columnDefinitions: object[];
  rows: object[];
}

export function makeTable(
  kind: KindRecord,
  objects: readonly KubeObject[],
  { metadata = {}, include, now, version = 'v1', withColumns = true }: TableOptions,
): Table {
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${version}`,
    metadata,
    columnDefinitions: withColumns ? columnDefinitions(kind) : [],
    rows: objects.map((o) => tableRow(kind, o, include, now)),
  };
}

export function partialMetadata(object: KubeObject | KubeList, version = 'v1'): KubeObject {
  return { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata };
}
