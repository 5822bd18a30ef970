import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Draft } from '#api/manifest.ts';
import type { DeviceTaintRule } from '#api/resource.v1.ts';
import { FieldErrors } from './field-errors.ts';
import { builtInKinds } from './kinds.ts';

const kind = builtInKinds.find((each) => each.kind === 'DeviceTaintRule')!;
const rule = (spec: object, more: object = {}): Draft<DeviceTaintRule> => ({
  apiVersion: 'resource.k8s.io/v1',
  kind: 'DeviceTaintRule',
  metadata: { name: 'r' },
  spec: { taint: { key: 'k', effect: 'NoSchedule' }, ...spec },
  ...more,
});
const stored = (taint: object): DeviceTaintRule => rule({ taint }) as DeviceTaintRule;

function named(object: Draft<DeviceTaintRule>): (string | undefined)[] {
  const errors = new FieldErrors();
  kind.validate?.(object, errors, undefined);
  kind.validateStatus?.(object, object as DeviceTaintRule, errors);
  return errors.causes.map(({ field, reason }) => `${field} ${reason}`);
}

test('what a rule taints, and with what, is checked', () => {
  assert.deepEqual(named(rule({ deviceSelector: { driver: 'gpu.example.com', pool: 'a/b', device: 'd-0' } })), []);
  assert.deepEqual(named(rule({ taint: {}, deviceSelector: { driver: '', pool: 'A', device: 'x_y' } })), [
    'spec.deviceSelector.driver FieldValueRequired',
    'spec.deviceSelector.pool FieldValueInvalid',
    'spec.deviceSelector.device FieldValueInvalid',
    ...['spec.taint.key FieldValueInvalid', 'spec.taint.key FieldValueInvalid'],
    'spec.taint.effect FieldValueRequired',
  ]);
  assert.deepEqual(named(rule({ taint: { key: 'k', effect: 'NoRun', value: 'a b' } })), [
    'spec.taint.value FieldValueInvalid',
    'spec.taint.effect FieldValueNotSupported',
  ]);
  const condition = { type: 'T', status: 'True', reason: 'R', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' };
  assert.deepEqual(named(rule({}, { status: { conditions: [condition, condition, { ...condition, type: '' }] } })), [
    'status.conditions[1] FieldValueDuplicate',
    'status.conditions[2].type FieldValueRequired',
  ]);
});

test('the time of an effect is that of its change, unless the client says another', () => {
  const [first, later] = [Date.parse('2026-01-01T00:00:00Z'), Date.parse('2026-01-02T00:00:00Z')];
  const made = rule({});
  kind.prepareCreate?.(made, first, () => undefined);
  assert.equal(made.spec?.taint?.timeAdded, '2026-01-01T00:00:00Z');
  const taint = { key: 'k', effect: 'NoSchedule', timeAdded: '2026-01-01T00:00:00Z' };
  const update = (change: object): string | undefined => {
    const object = rule({ taint: { ...taint, ...change } });
    kind.prepareUpdate?.(object, stored(taint), later);
    return object.spec?.taint?.timeAdded;
  };
  assert.equal(update({ value: 'v' }), '2026-01-01T00:00:00Z');
  assert.equal(update({ effect: 'NoExecute' }), '2026-01-02T00:00:00Z');
  assert.equal(update({ effect: 'NoExecute', timeAdded: '2026-01-01T12:00:00Z' }), '2026-01-01T12:00:00Z');
});
