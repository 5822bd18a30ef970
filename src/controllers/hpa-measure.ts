/**
 * What the metrics of an autoscaler say: reads usage from metrics.k8s.io and values from the APIs for custom and
 * external metrics, where such are registered, and turns each into a number of replicas.
 */
import type { Scale } from '#api/autoscaling.v1.ts';
import type {
  CrossVersionObjectReference,
  ExternalMetricSource,
  HorizontalPodAutoscaler,
  MetricIdentifier,
  MetricSpec,
  MetricStatus,
  MetricTarget,
  ObjectMetricSource,
  PodsMetricSource,
} from '#api/autoscaling.v2.ts';
import type { Pod } from '#api/core.v1.ts';
import { isQuantity, milliOf, wholeOf } from '#base/quantity.ts';
import { formatLabelSelector, selectorOf } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, itemsOf } from '#base/unknown.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import { resolveKind } from './discovery.ts';
import { averageReplicas, planResourceMetric, planValueMetric, type PodUsage } from './hpa-metrics.ts';

interface MetricFailure {
  reason: string;
  message: string;
}

type Measured = { replicas: number; current: MetricStatus; error?: undefined } | { error: MetricFailure };

/** What an autoscaler's metrics are asked about. */
export interface Subject {
  hpa: HorizontalPodAutoscaler;
  scale: Scale;
  /** Pods that the scale's selector meets. */
  pods: readonly Pod[];
  currentReplicas: number;
  nowMs: number;
}

export interface Recommendation {
  /** Absent where no metric could be read. */
  replicas?: number;
  metrics: MetricStatus[];
  /** The metric that asks for most, in words. */
  source: string;
  /** The first that could not be read. */
  error?: MetricFailure;
}

const cpuDefault: MetricSpec = {
  type: 'Resource',
  resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } },
};

export class MetricReader {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** The largest number that any metric asks for. */
  async recommend(subject: Subject): Promise<Recommendation> {
    const out: Recommendation = { metrics: [], source: '' };
    const usages = this.#usagesOnce(subject);
    for (const spec of subject.hpa.spec.metrics ?? [cpuDefault]) {
      const outcome = await this.#measure(subject, spec, usages).catch((caught: unknown): Measured => ({
        error: {
          reason: `FailedGet${spec.type}Metric`,
          message: `the HPA was unable to compute the replica count: ${messageOf(caught)}`,
        },
      }));
      if (outcome.error !== undefined) {
        out.error ??= outcome.error;
        continue;
      }
      out.metrics.push(outcome.current);
      if (out.replicas === undefined || outcome.replicas > out.replicas) {
        out.replicas = outcome.replicas;
        out.source = describeSpec(spec);
      }
    }
    return out;
  }

  async #measure(subject: Subject, spec: MetricSpec, usages: UsageReader): Promise<Measured> {
    const { resource, containerResource, external, pods, object } = spec;
    if (resource !== undefined || containerResource !== undefined)
      return measureResource(subject, spec, await usages());
    if (external !== undefined) return this.#measureExternal(subject, external);
    if (pods !== undefined) return this.#measurePods(subject, pods);
    if (object === undefined) throw new Error(`a metric of type ${spec.type} has no source`);
    return this.#measureObject(subject, object);
  }

  async #measureExternal(subject: Subject, { metric, target }: ExternalMetricSource): Promise<Measured> {
    const { hpa, currentReplicas } = subject;
    const { namespace } = hpa.metadata;
    const path = `/apis/external.metrics.k8s.io/v1beta1/namespaces/${namespace}/${metric.name}`;
    const total = await this.#total(withQuery(path, { labelSelector: selectorText(metric) }));
    return {
      replicas: replicasFor(target, total, currentReplicas),
      current: {
        type: 'External',
        external: {
          metric,
          current:
            target.type === 'AverageValue'
              ? { averageValue: `${Math.round(total / Math.max(1, currentReplicas))}m` }
              : { value: `${total}m` },
        },
      },
    };
  }

  async #measurePods({ hpa, scale }: Subject, { metric, target }: PodsMetricSource): Promise<Measured> {
    const path = `${customMetrics(hpa)}/pods/*/${metric.name}`;
    const query = { labelSelector: scale.status?.selector ?? '', metricLabelSelector: selectorText(metric) };
    const values = await this.#values(withQuery(path, query));
    const total = sum(values);
    const count = Math.max(1, values.length);
    return {
      replicas: averageReplicas(total, milliOf(target.averageValue ?? '0'), count),
      current: { type: 'Pods', pods: { metric, current: { averageValue: `${Math.round(total / count)}m` } } },
    };
  }

  async #measureObject(subject: Subject, { metric, target, describedObject }: ObjectMetricSource): Promise<Measured> {
    const path = `${customMetrics(subject.hpa)}/${await this.#pathOf(describedObject)}/${metric.name}`;
    const total = await this.#total(withQuery(path, { metricLabelSelector: selectorText(metric) }));
    return {
      replicas: replicasFor(target, total, subject.currentReplicas),
      current: { type: 'Object', object: { metric, describedObject, current: { value: `${total}m` } } },
    };
  }

  /** An object within its namespace, as APIs for custom metrics name it; a namespace is the autoscaler's own. */
  async #pathOf(object: CrossVersionObjectReference): Promise<string> {
    const { group, resource } = await resolveKind(this.#client, object);
    if (group === '' && resource === 'namespaces') return 'metrics';
    return `${group === '' ? resource : `${resource}.${group}`}/${object.name}`;
  }

  /** Usage is read once for all metrics that need it, and not at all for others. */
  #usagesOnce({ hpa, scale }: Subject): UsageReader {
    let usages: Promise<Map<string, PodUsage>> | undefined;
    return () => (usages ??= this.#podUsages(hpa.metadata.namespace, scale.status?.selector ?? ''));
  }

  async #podUsages(namespace: string, selector: string): Promise<Map<string, PodUsage>> {
    const { items } = await this.#client.list(kinds.PodMetrics, { namespace, labelSelector: selector });
    const usages = new Map<string, PodUsage>();
    for (const item of items) {
      const containers: PodUsage['containers'] = {};
      for (const { name, usage } of item.containers)
        containers[name] = Object.fromEntries(
          Object.entries(usage).map(([resource, amount]) => [
            resource,
            resource === 'cpu' ? milliOf(amount) : wholeOf(amount) * 1000,
          ]),
        );
      usages.set(item.metadata.name ?? '', { timestampMs: Date.parse(item.timestamp ?? ''), containers });
    }
    return usages;
  }

  async #total(path: string): Promise<number> {
    return sum(await this.#values(path));
  }

  /** What a metrics API lists (ExternalMetricValueList, MetricValueList), in thousandths. */
  async #values(path: string): Promise<number[]> {
    const list: unknown = await this.#client.raw('GET', path);
    return itemsOf(fieldOf(list, 'items')).map((item) => {
      const value = fieldOf(item, 'value');
      return isQuantity(value) ? milliOf(value) : 0;
    });
  }
}

type UsageReader = () => Promise<ReadonlyMap<string, PodUsage>>;

/** Which values of a metric are meant; '' where all are. */
const selectorText = ({ selector }: MetricIdentifier): string => formatLabelSelector(selectorOf(selector) ?? []);

function withQuery(path: string, query: Record<string, string>): string {
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ''));
  return words.size === 0 ? path : `${path}?${words.toString()}`;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function customMetrics({ metadata }: HorizontalPodAutoscaler): string {
  return `/apis/custom.metrics.k8s.io/v1beta2/namespaces/${metadata.namespace}`;
}

function replicasFor(target: MetricTarget, total: number, current: number): number {
  return target.type === 'AverageValue'
    ? averageReplicas(total, milliOf(target.averageValue ?? '0'), current)
    : planValueMetric(total, milliOf(target.value ?? '0'), current);
}

function measureResource(
  { pods, currentReplicas, nowMs }: Subject,
  { resource, containerResource }: MetricSpec,
  usages: ReadonlyMap<string, PodUsage>,
): Measured {
  const source = resource ?? containerResource!;
  const container = containerResource?.container;
  const outcome = planResourceMetric({
    pods,
    usages,
    resource: source.name,
    ...(container === undefined ? {} : { container }),
    target: source.target,
    currentReplicas,
    nowMs,
  });
  if (outcome.error !== undefined) return outcome;
  const { replicas, current } = outcome;
  return {
    replicas,
    current:
      container === undefined
        ? { type: 'Resource', resource: { name: source.name, current } }
        : { type: 'ContainerResource', containerResource: { name: source.name, container, current } },
  };
}

/** A metric as events and conditions name it. */
export function describeSpec({ resource, containerResource, external, pods, object }: MetricSpec): string {
  const ofRequest = ({ type }: MetricTarget): string =>
    type === 'Utilization' ? ' utilization (percentage of request)' : '';
  if (resource !== undefined) return `${resource.name} resource${ofRequest(resource.target)}`;
  if (containerResource !== undefined)
    return `${containerResource.name} container resource${ofRequest(containerResource.target)}`;
  if (external !== undefined)
    return `external metric ${external.metric.name}(${JSON.stringify(external.metric.selector ?? null)})`;
  return pods !== undefined
    ? `pods metric ${pods.metric.name}`
    : `${object?.describedObject.kind} metric ${object?.metric.name}`;
}
