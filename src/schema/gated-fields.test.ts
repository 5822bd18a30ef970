import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { dropGatedFields } from './gated-fields.ts';
import { typeOf } from './types.ts';

describe('fields of features that are off', () => {
  const pod = (mount: object, more: object = {}): TestJson => ({
    spec: { containers: [{ name: 'c', volumeMounts: [{ name: 'v', mountPath: '/v', ...mount }] }], ...more },
  });
  const kept = (object: TestJson, old?: TestJson): TestJson => {
    dropGatedFields(object, old, typeOf('core.v1/Pod'));
    return object;
  };

  it('are not kept, wherever they are', () => {
    assert.deepEqual(kept(pod({ bindMountOptions: ['noexec'] }, { schedulingGroup: { podGroupName: 'g' } })), pod({}));
    const template = { spec: { template: pod({ bindMountOptions: ['noexec'] }) } };
    dropGatedFields(template, undefined, typeOf('apps.v1/Deployment'));
    assert.deepEqual(template, { spec: { template: pod({}) } });
  });

  it('are kept where the stored object uses the feature, by any of its fields', () => {
    const used = { bindMountOptions: ['nodev'] };
    assert.deepEqual(
      kept(pod({ bindMountOptions: ['noexec'] }, { schedulingGroup: { podGroupName: 'g' } }), pod(used)),
      pod({ bindMountOptions: ['noexec'] }),
    );
  });

  it('are found in the values of maps', () => {
    const slice = (attribute: object): TestJson => ({
      spec: { devices: [{ name: 'd', attributes: { a: attribute } }] },
    });
    const object = slice({ string: 'x', strings: ['y'] });
    dropGatedFields(object, undefined, typeOf('resource.v1/ResourceSlice'));
    assert.deepEqual(object, slice({ string: 'x' }));
  });
});
