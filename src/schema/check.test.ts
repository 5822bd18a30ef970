import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { checkObject } from './check.ts';
import { typeOf } from './types.ts';

describe('decoding', () => {
  const check = (value: TestJson) => ({ value, ...checkObject(value, typeOf('core.v1/Pod')) });

  it('prunes what is unknown and says where', () => {
    const { unknown, value } = check({
      metadata: { name: 'a', colour: 'red' },
      spec: { containers: [{ name: 'c', zzz: 1 }], volumes: [{ name: 'v', emptyDir: null }] },
    });
    assert.deepEqual(
      [unknown, value],
      [
        ['metadata.colour', 'spec.containers[0].zzz'],
        { metadata: { name: 'a' }, spec: { containers: [{ name: 'c' }], volumes: [{ name: 'v' }] } },
      ],
    );
  });

  it('brings times and quantities into their form', () => {
    const { value, error } = check({
      metadata: { deletionTimestamp: '2030-01-01T01:00:00.5+01:00' },
      spec: { containers: [{ resources: { limits: { cpu: 1 } } }] },
    });
    assert.deepEqual(
      [error, value.metadata.deletionTimestamp, value.spec.containers[0].resources.limits.cpu],
      [undefined, '2030-01-01T00:00:00Z', '1'],
    );
  });

  it('drops a null time that is a pointer, and keeps one that is none', () => {
    const { value } = check({
      metadata: { creationTimestamp: null, deletionTimestamp: null },
      status: { startTime: null },
    });
    assert.deepEqual(value, { metadata: { creationTimestamp: null }, status: {} });
  });

  it('names the field of a wrong type', () => {
    assert.match(
      check({ spec: { containers: 'x' } }).error!,
      /cannot unmarshal string into Go struct field PodSpec\.spec\.containers of type \[\]core\.v1\.Container/,
    );
    assert.match(check({ spec: { activeDeadlineSeconds: 1.5 } }).formError!, /cannot unmarshal number 1.5/);
  });
});
