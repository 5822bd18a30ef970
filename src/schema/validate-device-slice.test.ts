import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { FieldErrors } from './field-errors.ts';
import { validateClaim, validateClaimTemplate, validateDeviceClass } from './validate-device-claim.ts';
import { validateSlice } from './validate-device-slice.ts';

/** Path and reason of each cause, as kube-apiserver 1.37 gives them for the same objects. */
function causesOf(validate: (o: TestJson, errors: FieldErrors, old?: TestJson) => void, o: TestJson, old?: TestJson) {
  const errors = new FieldErrors();
  validate(o, errors, old);
  return errors.causes.map(({ field, reason }) => `${field} ${reason?.replace('FieldValue', '')}`);
}

describe('claims for devices', () => {
  const asked = { deviceClassName: 'gpu', allocationMode: 'ExactCount', count: 1 };
  const claim = (devices: TestJson): TestJson => ({ spec: { devices } });

  it('name what they ask for, one way or another', () => {
    assert.deepEqual(causesOf(validateClaim, claim({ requests: [{ name: 'a', exactly: asked }] })), []);
    assert.deepEqual(causesOf(validateClaim, claim({ requests: [{ name: 'A' }, { name: 'A', exactly: {} }] })), [
      'spec.devices.requests[1] Duplicate',
      'spec.devices.requests[0].name Invalid',
      'spec.devices.requests[0] Required',
      'spec.devices.requests[1].name Invalid',
      'spec.devices.requests[1].exactly.deviceClassName Required',
      'spec.devices.requests[1].exactly.allocationMode NotSupported',
    ]);
  });

  it('constrain requests that they have', () => {
    const requests = [{ name: 'a', firstAvailable: [{ name: 'big', ...asked }] }];
    const constraints = [{ requests: ['a/big', 'a/small'], matchAttribute: 'gpu.example.com/model' }, {}];
    assert.deepEqual(causesOf(validateClaim, claim({ requests, constraints })), [
      'spec.devices.constraints[0].requests[1] Invalid',
      'spec.devices.constraints[1] Required',
    ]);
  });

  it('stay as they are, and templates take labels and annotations only', () => {
    const old = claim({ requests: [{ name: 'a', exactly: asked }] });
    assert.deepEqual(causesOf(validateClaim, claim({ requests: [] }), old), ['spec Invalid']);
    const template = { spec: { metadata: { labels: { '%': 'a' }, uid: 'u' }, spec: { devices: {} } } };
    assert.deepEqual(causesOf(validateClaimTemplate, template), [
      'spec.metadata.uID Forbidden',
      'spec.metadata.labels Invalid',
    ]);
  });

  it('select by expressions about a device', () => {
    const byExpression = (expression: string): TestJson => ({ spec: { selectors: [{ cel: { expression } }] } });
    for (const right of [
      'device.driver == "gpu.example.com"',
      'device.attributes["gpu.example.com"].model == "a"',
      'device.capacity["gpu.example.com"].memory.compareTo(quantity("1Gi")) >= 0',
    ])
      assert.deepEqual(causesOf(validateDeviceClass, byExpression(right)), [], right);
    for (const wrong of ['', 'device.colour', 'device.driver', 'object.spec'])
      assert.deepEqual(
        causesOf(validateDeviceClass, byExpression(wrong)),
        ['spec.selectors[0].cel.expression Invalid'],
        wrong,
      );
  });
});

describe('slices of devices', () => {
  const spec = {
    driver: 'gpu.example.com',
    pool: { name: 'p', generation: 1, resourceSliceCount: 1 },
    nodeName: 'worker-1',
  };

  it('say on which nodes they are, once', () => {
    assert.deepEqual(causesOf(validateSlice, { spec }), []);
    assert.deepEqual(causesOf(validateSlice, { spec: { ...spec, allNodes: true } }), ['spec Invalid']);
    assert.deepEqual(causesOf(validateSlice, { spec: { ...spec, nodeName: undefined } }), ['spec Required']);
  });

  it('describe devices by one value an attribute', () => {
    const device = {
      name: 'd',
      attributes: { ok: { bool: true }, v: { version: '1.2' }, two: { int: 1, string: 'a' } },
    };
    assert.deepEqual(causesOf(validateSlice, { spec: { ...spec, devices: [device] } }), [
      'spec.devices[0].attributes[v].version Invalid',
      'spec.devices[0].attributes[two] Invalid',
    ]);
  });
});
