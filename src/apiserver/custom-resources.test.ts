import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { decodeMessage, unwrapMessage } from '#schema/protobuf-decode.ts';
import { encodeObject } from '#schema/protobuf.ts';
import { typeOf } from '#schema/types.ts';
import { createTestApi } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const gadgets = '/apis/example.com/v1/namespaces/default/gadgets';
const definitionType = typeOf('apiextensions.v1/CustomResourceDefinition');

/** Gadgets, whose root has this schema. */
const definition = (schema: TestJson): TestJson => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'gadgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'gadgets', singular: 'gadget', kind: 'Gadget', listKind: 'GadgetList' },
    versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
  },
});

const gadget = (name: string, spec: TestJson): TestJson => ({
  apiVersion: 'example.com/v1',
  kind: 'Gadget',
  metadata: { name },
  spec,
});

async function established(t: TestApi): Promise<void> {
  for (let i = 0; i < 100 && t.api.server.kinds.find('example.com', 'v1', 'gadgets') === undefined; i++)
    await new Promise((resolve) => setImmediate(resolve));
}

describe('definitions in protobuf', () => {
  it(
    'are taken and given with every schema in them',
    withApi(async (t) => {
      const schema = {
        type: 'object',
        properties: {
          spec: {
            type: 'object',
            default: {},
            properties: {
              size: { type: 'integer', format: 'int32', minimum: 0, default: 3, enum: [1, 2, 3] },
              mode: { type: 'string', nullable: true, enum: ['fast', null], example: 'fast' },
              tags: { type: 'array', items: { type: 'string', maxLength: 2 }, default: ['a'] },
              labels: { type: 'object', additionalProperties: { type: 'string' } },
              open: { type: 'object', additionalProperties: true },
              matrix: { type: 'array', items: { type: 'array', items: { type: 'number' } } },
            },
          },
        },
      };
      const headers = { accept: 'application/vnd.kubernetes.protobuf' };
      const posted = await t.raw('POST', definitions, {
        headers: { ...headers, 'content-type': 'application/vnd.kubernetes.protobuf' },
        body: encodeObject(definitionType, definition(schema)),
      });
      assert.equal(posted.status, 201);
      await established(t);

      const path = `${definitions}/gadgets.example.com`;
      const stored = (await t.call('GET', path)).body;
      assert.deepEqual(stored.spec.versions[0].schema.openAPIV3Schema, schema);
      const { body } = await t.raw('GET', path, { headers });
      assert.ok(body instanceof Uint8Array);
      const { kind, message } = unwrapMessage(body);
      assert.equal(kind, 'CustomResourceDefinition');
      assert.deepEqual(decodeMessage(definitionType, message).spec, stored.spec);

      assert.deepEqual((await t.make(gadgets, gadget('a', { tags: ['x'] }))).spec, { size: 3, tags: ['x'] });
      const refused = await t.call('POST', gadgets, gadget('b', { tags: ['long'], labels: { a: 1 } }));
      assert.deepEqual(
        [refused.status, refused.body.details.causes.map((cause: TestJson) => cause.field)],
        [422, ['spec.tags[0]', 'spec.labels.a']],
      );
    }),
  );
});
