import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CustomResourceDefinition, JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { kindsOfDefinition } from './crd-schema.ts';
import { customSchema } from './openapi-custom.ts';

const open = { 'x-kubernetes-preserve-unknown-fields': true };

/** A schema as a document has it, without what every custom resource has. */
function published(schema: JSONSchemaProps | undefined, version3: boolean, selectable: string[] = []) {
  const definition: CustomResourceDefinition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'a.x.io', uid: 'u', resourceVersion: '1', creationTimestamp: '2030-01-01T00:00:00Z' },
    spec: {
      group: 'x.io',
      scope: 'Cluster',
      names: { plural: 'as', kind: 'A' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          ...(schema === undefined ? {} : { schema: { openAPIV3Schema: schema } }),
          selectableFields: selectable.map((jsonPath) => ({ jsonPath })),
        },
      ],
    },
  };
  const [kind] = kindsOfDefinition(definition);
  assert.ok(kind !== undefined);
  return customSchema(kind, { metadata: { $ref: 'meta' }, version3 });
}

const common = {
  apiVersion: {
    type: 'string',
    description: 'APIVersion defines by which version of its schema the object is written.',
  },
  kind: { type: 'string', description: 'Kind names the type of the object, in CamelCase.' },
  metadata: { $ref: 'meta' },
};

describe('published schemas of custom resources', () => {
  it('list nothing of a root that lets all through, in version 2', () => {
    const schema = { type: 'object', description: 'x', properties: { spec: { type: 'object' } }, ...open };
    assert.deepEqual(published(schema, false), { type: 'object' });
    assert.deepEqual(published(schema, true), { ...schema, properties: { ...schema.properties, ...common } });
    assert.deepEqual(published(undefined, true), { type: 'object' });
  });

  it('say in version 2 what it has words for', () => {
    const schema: JSONSchemaProps = {
      type: 'object',
      required: ['a', 'b'],
      properties: {
        a: { type: 'string', nullable: true },
        b: { type: 'object', properties: { c: { type: 'integer' } }, ...open },
        d: { type: 'array', items: { type: 'object', anyOf: [{ required: ['x'] }] } },
        e: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }] },
        f: { type: 'array', items: { type: 'object' }, ...open },
      },
    };
    assert.deepEqual(published(schema, false), {
      type: 'object',
      required: ['b'],
      properties: {
        a: {},
        b: { ...open },
        d: { type: 'array', items: { type: 'object' } },
        e: { 'x-kubernetes-int-or-string': true },
        f: { ...open },
        ...common,
      },
    });
    assert.deepEqual(published(schema, true), { ...schema, properties: { ...schema.properties, ...common } });
  });

  it('give objects within the object what every object has', () => {
    const embedded = { 'x-kubernetes-embedded-resource': true };
    const schema: JSONSchemaProps = {
      type: 'object',
      properties: {
        spec: { type: 'object', required: ['kind'], properties: { a: { type: 'string' } }, ...embedded },
        open: { type: 'object', ...embedded, ...open },
      },
    };
    const spec = {
      ...schema.properties?.spec,
      required: ['kind', 'apiVersion'],
      properties: { a: { type: 'string' }, ...common },
    };
    assert.deepEqual(published(schema, false).properties, { spec, open: { ...embedded, ...open }, ...common });
    const openObject = { ...schema.properties?.open, required: ['kind', 'apiVersion'], properties: common };
    assert.deepEqual(published(schema, true).properties, { spec, open: openObject, ...common });
  });

  it('name the fields that one may select by', () => {
    assert.deepEqual(published({ type: 'object' }, true, ['.spec.color'])['x-kubernetes-selectable-fields'], [
      { fieldPath: 'spec.color' },
    ]);
  });
});
