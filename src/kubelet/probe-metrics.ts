/**
 * `/metrics/probes`: what came of each look of a probe, with the kubelet's names (Kubernetes documentation, "Kubernetes
 * Metrics Reference"). Series go with their probe.
 */
import { Metrics } from '#observe/metrics.ts';
import type { ProbeKind, Prober } from './doors.ts';

const container = ['container', 'pod', 'namespace'];

export class ProbeMetrics {
  readonly metrics = new Metrics();
  readonly #total = this.metrics.counter({
    name: 'prober_probe_total',
    help: 'Cumulative number of a liveness, readiness or startup probe for a container by result.',
    labels: ['probe_type', 'result', ...container, 'pod_uid'],
  });
  readonly #seconds = this.metrics.histogram({
    name: 'prober_probe_duration_seconds',
    help: 'Duration in seconds for a probe response.',
    labels: ['probe_type', ...container],
  });

  measure(prober: Prober): Prober {
    return {
      isAsked: (kind, target) => prober.isAsked(kind, target),
      act: (action, target, timeoutMs, signal) => prober.act(action, target, timeoutMs, signal),
      start: (kind: ProbeKind, target, startedAtMs, listener) => {
        const { name, namespace, uid } = target.pod.metadata;
        const labels = [target.container.name, name, namespace];
        const results = new Set<string>();
        const probe = prober.start(kind, target, startedAtMs, {
          failed: (message) => listener.failed(message),
          decided: (ok) => listener.decided(ok),
          looked: (result, tookMs) => {
            results.add(result);
            this.#total.of(kind, result, ...labels, uid).add();
            this.#seconds.of(kind, ...labels).observe(tookMs / 1000);
          },
        });
        return {
          cancel: () => {
            probe.cancel();
            for (const result of results) this.#total.delete(kind, result, ...labels, uid);
            this.#seconds.delete(kind, ...labels);
          },
        };
      },
    };
  }
}
