import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { typeOf } from './types.ts';
import { fillZeros, zeroObject } from './zeros.ts';

describe('what a typed server writes by itself', () => {
  it('are embedded structs and what has no omitempty, at any depth', () => {
    const template = { spec: { containers: [{ name: 'c' }] } };
    fillZeros(template, typeOf('core.v1/PodTemplateSpec'));
    assert.deepEqual(template, { metadata: {}, spec: { containers: [{ name: 'c', resources: {} }] } });
  });

  it('leaves out pointers and optional fields, and what was said', () => {
    const reference = { resource: 'limits.cpu' };
    fillZeros(reference, typeOf('core.v1/ResourceFieldSelector'));
    assert.deepEqual(reference, { resource: 'limits.cpu', divisor: '0' });
    const condition = { type: 'Ready', status: 'True', lastProbeTime: '2026-01-01T00:00:00Z' };
    fillZeros(condition, typeOf('core.v1/PodCondition'));
    assert.equal(condition.lastProbeTime, '2026-01-01T00:00:00Z');
    assert.deepEqual(zeroObject(typeOf('core.v1/ConfigMap')), { metadata: {} });
  });

  it('does not touch what is frozen: it was stored', () => {
    const frozen = Object.freeze({ spec: {} });
    fillZeros({ template: frozen }, typeOf('core.v1/PodTemplate'));
    assert.deepEqual(frozen, { spec: {} });
  });
});
