/**
 * metrics.k8s.io/v1beta1: usage, read through and never stored. Its data file is written by hand from the published
 * protobuf definition.
 */
import type { NodeMetrics, PodMetrics } from '#api/metrics.v1beta1.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';

const verbs = ['get', 'list'];
const total = (o: NodeMetrics | PodMetrics, name: string): string | undefined =>
  'containers' in o ? (o.containers ?? []).map((c) => c.usage[name]).join('+') : o.usage?.[name];
const usageColumns = columns<NodeMetrics | PodMetrics>(
  column('CPU', (o) => total(o, 'cpu')),
  column('Memory', (o) => total(o, 'memory')),
  column('Window', (o) => o.window),
);

export const metricsKinds: readonly KindRecord[] = [
  defineKind(kinds.NodeMetrics, {
    singular: '',
    verbs,
    columns: usageColumns,
  }),
  defineKind(kinds.PodMetrics, {
    singular: '',
    verbs,
    columns: usageColumns,
  }),
];
