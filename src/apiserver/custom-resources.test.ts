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

describe('objects of a definition that was changed', () => {
  const properties = (spec: TestJson): TestJson => ({
    type: 'object',
    properties: { spec: { type: 'object', default: {}, properties: spec } },
  });
  const text = { type: 'string' };

  it(
    'are read without what they may no longer have, and with what they lack',
    withApi(async (t) => {
      await t.make(definitions, definition(properties({ old: text, kept: text })));
      await established(t);
      await t.make(gadgets, gadget('a', { old: 'x', kept: 'y' }));
      await t.make(gadgets, { ...gadget('b', {}), spec: undefined });
      const path = '/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties';
      const before = t.api.server.kinds.find('example.com', 'v1', 'gadgets');
      const patched = await t.call(
        'PATCH',
        `${definitions}/gadgets.example.com`,
        [
          { op: 'remove', path: `${path}/old` },
          { op: 'add', path: `${path}/size`, value: { type: 'integer', default: 3 } },
        ],
        { headers: { 'content-type': 'application/json-patch+json' } },
      );
      assert.equal(patched.status, 200, patched.text);
      for (let i = 0; i < 100 && t.api.server.kinds.find('example.com', 'v1', 'gadgets') === before; i++)
        await new Promise((resolve) => setImmediate(resolve));

      const [a, b] = [{ kept: 'y', size: 3 }, { size: 3 }];
      const read = (await t.call('GET', `${gadgets}/a`)).body;
      assert.deepEqual([read.spec, (await t.call('GET', `${gadgets}/b`)).body.spec], [a, b]);
      const list = await t.call('GET', gadgets);
      assert.deepEqual(
        list.body.items.map((item: TestJson) => item.spec),
        [a, b],
      );
      const frames: string[] = [];
      const watch = await t.raw('GET', `${gadgets}?watch=true&resourceVersion=0`);
      assert.ok(watch.body !== undefined && !(watch.body instanceof Uint8Array));
      for await (const piece of watch.body) {
        frames.push(...Buffer.from(piece).toString().trim().split('\n'));
        if (frames.length >= 2) break;
      }
      assert.deepEqual(
        frames.map((frame) => JSON.parse(frame).object.spec),
        [a, b],
      );

      // To write it back as it was read changes nothing that is wanted.
      const written = await t.call('PUT', `${gadgets}/a`, read);
      assert.deepEqual([written.status, written.body.spec, written.body.metadata.generation], [200, a, 1]);
      const changed = await t.call('PUT', `${gadgets}/a`, { ...read, spec: { ...a, size: 4 } });
      assert.deepEqual([changed.body.spec.size, changed.body.metadata.generation], [4, 2]);
      assert.deepEqual((await t.call('GET', `${gadgets}/a`)).body.spec, { kept: 'y', size: 4 });
    }),
  );
});
