/**
 * Metrics as text in Prometheus' exposition format, by `prom-client`. The library is loaded when somebody first looks:
 * most processes are never asked.
 */
import { Gauge, Histogram, type AnyFamily, type Metrics } from './metrics.ts';

export interface Exposition {
  contentType: string;
  body: string;
}

export async function exposeMetrics(metrics: Metrics): Promise<Exposition> {
  const { AggregatorRegistry } = await import('prom-client');
  const shown = [...metrics.collect()].map(objectOf);
  const registry = AggregatorRegistry.aggregate([shown]);
  return { contentType: registry.contentType, body: await registry.metrics() };
}

/** What `registry.getMetricsAsJSON()` of the library would be. */
function objectOf(family: AnyFamily): object {
  const { name, help } = family.definition;
  let type = 'counter';
  const values: { labels: Record<string, string | number>; value: number; metricName?: string }[] = [];
  for (const { labels, value } of family.series()) {
    if (value instanceof Histogram) {
      type = 'histogram';
      for (const { bound, count } of value.cumulative())
        values.push({ labels: { ...labels, le: bound }, value: count, metricName: `${name}_bucket` });
      values.push({ labels: { ...labels, le: '+Inf' }, value: value.count, metricName: `${name}_bucket` });
      values.push({ labels, value: value.sum, metricName: `${name}_sum` });
      values.push({ labels, value: value.count, metricName: `${name}_count` });
    } else {
      if (value instanceof Gauge) type = 'gauge';
      values.push({ labels, value: value.value });
    }
  }
  return { name, help, type, values, aggregator: 'sum' };
}
