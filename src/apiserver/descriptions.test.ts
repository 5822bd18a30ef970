import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fieldOf, textOf } from '#base/unknown.ts';
import { builtInKinds } from '#schema/kinds.ts';
import { openApiV3 } from '#schema/openapi.ts';
import { openDescriptions } from './descriptions.ts';

test('types and fields are described as the package has it, comments of several lines too', () => {
  const describe = openDescriptions();
  const meta = describe('meta.v1/ObjectMeta');
  assert.match(meta?.text ?? '', /^ObjectMeta is metadata that all persisted resources must have/);
  const created = meta?.fields.get('creationTimestamp') ?? '';
  assert.match(created, /^CreationTimestamp is a timestamp .*\n\nPopulated by the system/);
  assert.doesNotMatch(created, /\*/);
  assert.match(describe('core.v1/Pod')?.text ?? '', /containers that can run on a host/);
  // Known in an older version of its group alone.
  assert.ok((describe('resource.v1/ResourceClaim')?.text ?? '') !== '');
  assert.equal(describe('core.v1/NoSuchType'), undefined);
  assert.equal(describe('../v1/Pod'), undefined);
});

test('documents have them, where a field is a reference as well', () => {
  const pods = builtInKinds.filter(({ kind }) => kind === 'Pod');
  const schemas = fieldOf(openApiV3(pods, 'v1', openDescriptions()), 'components', 'schemas');
  const pod = fieldOf(schemas, 'io.k8s.api.core.v1.Pod');
  assert.match(textOf(pod, 'description') ?? '', /containers/);
  assert.match(textOf(pod, 'properties', 'spec', 'description') ?? '', /desired behavior/);
  assert.deepEqual(fieldOf(pod, 'properties', 'spec', 'allOf'), [
    { $ref: '#/components/schemas/io.k8s.api.core.v1.PodSpec' },
  ]);
  const plain = fieldOf(openApiV3(pods, 'v1'), 'components', 'schemas', 'io.k8s.api.core.v1.Pod');
  assert.equal(textOf(plain, 'description'), undefined);
});
