/** What is warned of in Pods and templates, and what Events must say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Event, Pod } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { FieldErrors } from './field-errors.ts';
import { validateEvent } from './validate-event.ts';
import { warnOfPod, warnOfTemplate } from './warn-pod.ts';

const warnings = (pod: Draft<Pod>): string[] => {
  const said: string[] = [];
  warnOfPod(pod, undefined, (text) => said.push(text));
  return said;
};
const container = (more: object): Draft<Pod> => ({
  metadata: { name: 'web' },
  spec: { containers: [{ name: 'c', ...more }] },
});

test('a Pod is warned of what hides something else', () => {
  assert.deepEqual(warnings(container({})), []);
  const env = (...values: string[]): string[] =>
    warnings(container({ env: values.map((value) => ({ name: 'A', value })) })).map((text) => text.split(':')[0] ?? '');
  assert.deepEqual(env('1', '2'), ['spec.containers[0].env[1]']);
  assert.deepEqual(env('1', '$(A)2'), []);
  assert.deepEqual(env('1', '$(A)'), ['spec.containers[0].env[1]']);
  const ports = (...list: object[]): string[] =>
    warnings(container({ ports: list.map((port) => ({ containerPort: 80, protocol: 'TCP', ...port })) })).map((text) =>
      text.replace(/^spec\.containers\[0\]\.ports/, ''),
    );
  assert.deepEqual(ports({}, {}), ['[1]: duplicate port definition with spec.containers[0].ports[0]']);
  assert.deepEqual(ports({ hostPort: 1 }, {}), ['[1]: overlapping port definition with spec.containers[0].ports[0]']);
  assert.deepEqual(ports({ hostPort: 1 }, { hostPort: 1, hostIP: '10.0.0.1' }), [
    '[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]',
  ]);
  assert.deepEqual(ports({ hostPort: 1 }, { hostPort: 2 }), []);
});

test('parts of bytes, dots in names and missing selectors are warned of, once a template changes', () => {
  const memory = { resources: { limits: { memory: '100m' }, requests: { memory: '1' } } };
  assert.deepEqual(warnings(container(memory)), [
    'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer',
  ]);
  const said: string[] = [];
  const warn = warnOfTemplate((pod: Draft<Pod>) => ({ spec: pod.spec ?? {} }), { namesPods: true });
  const made = (generation: number): Pod => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a.b', namespace: 'a', uid: 'u', resourceVersion: '1', creationTimestamp: '', generation },
    spec: { containers: [], topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'z', whenUnsatisfiable: 'X' }] },
  });
  const selector =
    'spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod';
  warn(made(1), undefined, (text) => said.push(text));
  assert.match(said[0] ?? '', /^metadata\.name: .*\[must not contain dots\]$/);
  assert.deepEqual(said.slice(1), [selector]);
  warn(made(1), made(1), (text) => said.push(text));
  warn(made(2), made(1), (text) => said.push(text));
  assert.deepEqual(said.slice(2), [selector]);
});

test('an Event is of the namespace of what it is about, and a new one says who reports what', () => {
  const problems = (event: Draft<Event>): string[] => {
    const errors = new FieldErrors();
    validateEvent({ metadata: { name: 'e', namespace: 'a' }, ...event }, errors);
    return errors.causes.map(({ field }) => field ?? '');
  };
  assert.deepEqual(problems({ involvedObject: { namespace: 'a' } }), []);
  assert.deepEqual(problems({ involvedObject: { namespace: 'b' } }), ['involvedObject.namespace']);
  assert.deepEqual(problems({}), ['involvedObject.namespace']);
  const eventTime = '2026-01-01T00:00:00.000000Z';
  const reported = { reportingComponent: 'example.com/c', reportingInstance: 'c-1', action: 'Act', reason: 'Why' };
  assert.deepEqual(problems({ eventTime, involvedObject: { namespace: 'b' }, ...reported }), []);
  assert.deepEqual(problems({ eventTime, involvedObject: { namespace: 'b' }, ...reported, reason: 'x'.repeat(129) }), [
    'reason',
  ]);
});
