/**
 * What clients and work queues measure, with Kubernetes' names (documentation, "Kubernetes Metrics Reference";
 * client-go's and the workqueue's). Families are made once for a process; each queue and each client takes its series.
 */
import { ApiError } from '#base/errors.ts';
import type { Counter, Gauge, Histogram, Metrics } from '#observe/metrics.ts';
import type { Clock } from '#os/clock.ts';
import type { Transport } from './transport.ts';

export interface WorkQueueMetrics {
  depth: Gauge;
  adds: Counter;
  retries: Counter;
  queueSeconds: Histogram;
  workSeconds: Histogram;
}

/** Answers what makes the series of a queue. */
export function createWorkQueueMetrics(metrics: Metrics): (name: string) => WorkQueueMetrics {
  const labels = ['name'];
  const depth = metrics.gauge({ name: 'workqueue_depth', help: 'Current depth of workqueue', labels });
  const adds = metrics.counter({
    name: 'workqueue_adds_total',
    help: 'Total number of adds handled by workqueue',
    labels,
  });
  const retries = metrics.counter({
    name: 'workqueue_retries_total',
    help: 'Total number of retries handled by workqueue',
    labels,
  });
  const queueSeconds = metrics.histogram({
    name: 'workqueue_queue_duration_seconds',
    help: 'How long in seconds an item stays in workqueue before being requested.',
    labels,
  });
  const workSeconds = metrics.histogram({
    name: 'workqueue_work_duration_seconds',
    help: 'How long in seconds processing an item from workqueue takes.',
    labels,
  });
  return (name) => ({
    depth: depth.of(name),
    adds: adds.of(name),
    retries: retries.of(name),
    queueSeconds: queueSeconds.of(name),
    workSeconds: workSeconds.of(name),
  });
}

/** Answers what measures the requests of a transport to a host. */
export function createRestClientMetrics(
  metrics: Metrics,
  clock: Clock,
): <T extends Transport>(transport: T, host: string) => T {
  const total = metrics.counter({
    name: 'rest_client_requests_total',
    help: 'Number of HTTP requests, partitioned by status code, method, and host.',
    labels: ['code', 'method', 'host'],
  });
  const seconds = metrics.histogram({
    name: 'rest_client_request_duration_seconds',
    help: 'Request latency in seconds. Broken down by verb, and host.',
    labels: ['verb', 'host'],
  });
  return (transport, host) => {
    const send = transport.send.bind(transport);
    transport.send = async (request) => {
      const begunMs = clock.monotonic();
      let code = '200';
      try {
        return await send(request);
      } catch (error) {
        code = error instanceof ApiError ? String(error.code) : '<error>';
        throw error;
      } finally {
        total.of(code, request.method, host).add();
        seconds.of(request.method, host).observe((clock.monotonic() - begunMs) / 1000);
      }
    };
    return transport;
  };
}
