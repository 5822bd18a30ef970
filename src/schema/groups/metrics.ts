/**
 * metrics.k8s.io/v1beta1: usage, read through and never stored. Its data file is written by hand from the published
 * protobuf definition.
 */
import type { Json } from '#base/objects.ts';
import { column, columns, defineKind } from '../kind.ts';
import type { KindRecord } from '../kind.ts';

const verbs = ['get', 'list'];
const total = (o: Json, name: string): string =>
  o.usage?.[name] ?? (o.containers ?? []).map((c: Json) => c.usage?.[name]).join('+');
const usageColumns = columns(
  column('CPU', (o) => total(o, 'cpu')),
  column('Memory', (o) => total(o, 'memory')),
  column('Window', (o) => o.window),
);

export const metricsKinds: readonly KindRecord[] = [
  defineKind('metrics.k8s.io', 'v1beta1', 'NodeMetrics', 'nodes', {
    scoped: 'Cluster',
    singular: '',
    verbs,
    columns: usageColumns,
  }),
  defineKind('metrics.k8s.io', 'v1beta1', 'PodMetrics', 'pods', { singular: '', verbs, columns: usageColumns }),
];
