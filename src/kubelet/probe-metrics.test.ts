import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exposeMetrics } from '#observe/exposition.ts';
import type { ActionTarget, Prober, ProbeListener } from './doors.ts';
import { ProbeMetrics } from './probe-metrics.ts';

test('each look of a probe counts by its result, and goes with the probe', async () => {
  const listeners: ProbeListener[] = [];
  const prober: Prober = {
    isAsked: () => true,
    act: async () => ({ ok: true, message: '' }),
    start: (_kind, _target, _startedAtMs, listener) => {
      listeners.push(listener);
      return { cancel: () => {} };
    },
  };
  const measured = new ProbeMetrics();
  const target = {
    container: { name: 'c' },
    pod: { metadata: { name: 'p', namespace: 'n', uid: 'u' } },
  } as unknown as ActionTarget;
  const told: string[] = [];
  const probe = measured
    .measure(prober)
    .start('Liveness', target, 0, { failed: (message) => told.push(message), decided: (ok) => told.push(String(ok)) });
  const [listener] = listeners;
  listener?.looked?.('successful', 20);
  listener?.looked?.('failed', 40);
  listener?.failed('refused');
  listener?.decided(false);
  assert.deepEqual(told, ['refused', 'false'], 'who listens is told as before');
  const { body } = await exposeMetrics(measured.metrics);
  const of = 'container="c",pod="p",namespace="n"';
  assert.ok(body.includes(`prober_probe_total{probe_type="Liveness",result="failed",${of},pod_uid="u"} 1`), body);
  assert.ok(body.includes(`prober_probe_duration_seconds_sum{probe_type="Liveness",${of}} 0.06`), body);
  probe.cancel();
  assert.doesNotMatch((await exposeMetrics(measured.metrics)).body, /Liveness/);
});
