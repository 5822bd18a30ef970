import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi } from './fixture.ts';
import type { Answer, TestApi } from './fixture.ts';

const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const gadgets = '/apis/example.com/v1/namespaces/default/gadgets';

const definition = (spec: TestJson, version: TestJson = {}): TestJson => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'gadgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'gadgets', singular: 'gadget', kind: 'Gadget', listKind: 'GadgetList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: {
          status: {},
          scale: { specReplicasPath: '.spec.replicas', statusReplicasPath: '.status.replicas' },
        },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec,
              status: {
                type: 'object',
                properties: { replicas: { type: 'integer' } },
                'x-kubernetes-validations': [{ rule: 'self.replicas >= 0', message: 'too few' }],
              },
            },
          },
        },
        ...version,
      },
    ],
  },
});

const spec: TestJson = {
  type: 'object',
  properties: {
    replicas: { type: 'integer' },
    max: { type: 'integer' },
    color: { type: 'string', maxLength: 10 },
    name: {
      type: 'string',
      maxLength: 10,
      'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'is immutable' }],
    },
  },
  'x-kubernetes-validations': [
    { rule: 'self.replicas <= self.max', messageExpression: "'too many: ' + self.color", fieldPath: '.replicas' },
  ],
};

const gadget = (name: string, given: TestJson): TestJson => ({
  apiVersion: 'example.com/v1',
  kind: 'Gadget',
  metadata: { name },
  spec: given,
});

const merge = { headers: { 'content-type': 'application/merge-patch+json' } };

async function serve(t: TestApi, object: TestJson): Promise<void> {
  await t.make(definitions, object);
  for (let i = 0; i < 100 && t.api.server.kinds.find('example.com', 'v1', 'gadgets') === undefined; i++)
    await new Promise((resolve) => setImmediate(resolve));
}

describe('rules of custom resources', () => {
  it('are kept by creates, updates, status and scale', async () => {
    await using t = await createTestApi();
    await serve(t, definition(spec));
    const refused = await t.call('POST', gadgets, gadget('a', { replicas: 3, max: 2, color: 'red' }));
    assert.equal(refused.status, 422);
    assert.deepEqual(refused.body.details.causes, [
      { reason: 'FieldValueInvalid', message: 'Invalid value: too many: red', field: 'spec.replicas' },
    ]);
    await t.make(gadgets, gadget('a', { replicas: 1, max: 2, name: 'x', color: 'red' }));
    const renamed = await t.call('PATCH', `${gadgets}/a`, { spec: { name: 'y' } }, merge);
    assert.match(renamed.body.message, /spec\.name: Invalid value: "y": is immutable$/);
    const status = await t.call('PATCH', `${gadgets}/a/status`, { status: { replicas: -1 } }, merge);
    assert.match(status.body.message, /status: Invalid value: too few$/);
    const scaled = await t.call('PATCH', `${gadgets}/a/scale`, { spec: { replicas: 5 } }, merge);
    assert.match(scaled.body.message, /spec\.replicas: Invalid value: too many: red$/);
    assert.equal((await t.call('PATCH', `${gadgets}/a/scale`, { spec: { replicas: 2 } }, merge)).status, 200);
  });

  it('warn of what was not changed, and wait for a valid object', async () => {
    await using t = await createTestApi();
    await serve(t, definition({ ...spec, 'x-kubernetes-validations': [] }));
    await t.make(gadgets, gadget('a', { replicas: 3, max: 2, color: 'red' }));
    const { body } = await t.call('GET', `${definitions}/gadgets.example.com`);
    body.spec.versions[0].schema.openAPIV3Schema.properties.spec = spec;
    assert.equal((await t.call('PATCH', `${definitions}/gadgets.example.com`, { spec: body.spec }, merge)).status, 200);
    const { generation } = (await t.call('GET', `${definitions}/gadgets.example.com`)).body.metadata;
    assert.equal(generation, 2);
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
    const kept = await t.call('PATCH', `${gadgets}/a`, { metadata: { labels: { a: 'b' } } }, merge);
    assert.equal(kept.status, 200, kept.text);
    assert.match(kept.headers.warning ?? '', /spec\.replicas: Invalid value: too many: red/);
    const changed = await t.call('PATCH', `${gadgets}/a`, { spec: { name: 'blue' } }, merge);
    assert.equal(changed.status, 422);
    const wrong = await t.call('POST', gadgets, gadget('b', { replicas: 3, max: 'x' }));
    assert.match(wrong.body.message, /some validation rules were not checked because the object was invalid/);
  });

  it('are refused with their definition where they do not compile or cost too much', async () => {
    await using t = await createTestApi();
    const causesOf = async (rules: TestJson): Promise<string[]> => {
      const answer = await t.call('POST', definitions, definition({ ...spec, 'x-kubernetes-validations': rules }));
      return (answer.body.details?.causes ?? []).map((cause: TestJson) => `${cause.field}: ${cause.message}`);
    };
    const at = 'spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule';
    assert.deepEqual(await causesOf([{ rule: '' }]), [`${at}: Required value: rule is not specified`]);
    const [problem = ''] = await causesOf([{ rule: 'self.missing > 1' }]);
    assert.match(problem, /compilation failed: ERROR: <input>:1:5: undefined field 'missing'/);
    const long = { type: 'array', items: { type: 'string' } };
    const costly = {
      ...spec,
      properties: { long },
      'x-kubernetes-validations': [{ rule: 'self.long.all(x, self.long.all(y, x == y))' }],
    };
    const answer = await t.call('POST', definitions, definition(costly));
    assert.match(answer.body.message, /estimated rule cost exceeds budget by factor of more than 100x/);
  });
});

it('what breaks a schema that came later stays while it is not changed', async () => {
  await using t = await createTestApi();
  const item = (rank: TestJson): TestJson => ({
    type: 'object',
    required: ['key'],
    properties: { key: { type: 'string' }, rank },
  });
  const list = (rank: TestJson): TestJson => ({
    type: 'array',
    items: item(rank),
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['key'],
  });
  const loose: TestJson = {
    type: 'object',
    properties: { color: { type: 'string' }, parts: list({ type: 'integer' }) },
  };
  await serve(t, definition(loose));
  const parts = [
    { key: 'a', rank: 9 },
    { key: 'b', rank: 1 },
  ];
  await t.make(gadgets, gadget('a', { color: 'violet', parts }));
  const { body } = await t.call('GET', `${definitions}/gadgets.example.com`);
  body.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties = {
    color: { type: 'string', maxLength: 3 },
    parts: list({ type: 'integer', maximum: 5 }),
  };
  assert.equal((await t.call('PATCH', `${definitions}/gadgets.example.com`, { spec: body.spec }, merge)).status, 200);
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
  const patch = (given: TestJson): Promise<Answer> => t.call('PATCH', `${gadgets}/a`, given, merge);
  assert.equal((await patch({ metadata: { labels: { a: 'b' } } })).status, 200);
  assert.equal((await patch({ spec: { parts: [parts[1], { ...parts[0] }] } })).status, 200);
  const changed = await patch({ spec: { color: 'purple', parts: [{ key: 'a', rank: 8 }] } });
  assert.deepEqual(
    changed.body.details.causes.map(({ field }: TestJson) => field),
    ['spec.color', 'spec.parts[0].rank'],
  );
  assert.equal((await t.call('POST', gadgets, gadget('b', { color: 'violet' }))).status, 422);
});

describe('selectable fields of custom resources', () => {
  it('select in lists and watches', async () => {
    await using t = await createTestApi();
    const selectableFields = [{ jsonPath: '.spec.color' }, { jsonPath: '.spec.replicas' }];
    await serve(t, definition(spec, { selectableFields }));
    await t.make(gadgets, gadget('a', { replicas: 1, max: 2, color: 'red' }));
    await t.make(gadgets, gadget('b', { replicas: 2, max: 2, color: 'blue' }));
    const namesOf = async (selector: string): Promise<string[]> =>
      (await t.call('GET', `${gadgets}?fieldSelector=${encodeURIComponent(selector)}`)).body.items.map(
        (item: TestJson) => item.metadata.name,
      );
    assert.deepEqual(await namesOf('spec.color=red'), ['a']);
    assert.deepEqual(await namesOf('spec.color!=red'), ['b']);
    assert.deepEqual(await namesOf('spec.color=blue,spec.replicas=2'), ['b']);
    const other = await t.call('GET', `${gadgets}?fieldSelector=spec.max=2`);
    assert.equal(other.status, 400);
    assert.match(other.body.message, /field label not supported: spec\.max/);
  });

  it('are refused where they name no field of a simple type', async () => {
    await using t = await createTestApi();
    const paths = ['.spec.missing', '.metadata.name', '.spec', '.spec.color', '.spec.color', "['spec']", ''];
    const answer = await t.call(
      'POST',
      definitions,
      definition(spec, { selectableFields: paths.map((jsonPath) => ({ jsonPath })) }),
    );
    assert.deepEqual(
      answer.body.details.causes.map((cause: TestJson) => [cause.field, cause.reason]),
      [
        ['spec.selectableFields[0].jsonPath', 'FieldValueInvalid'],
        ['spec.selectableFields[1].jsonPath', 'FieldValueInvalid'],
        ['spec.selectableFields[2].jsonPath', 'FieldValueInvalid'],
        ['spec.selectableFields[4].jsonPath', 'FieldValueDuplicate'],
        ['spec.selectableFields[5].jsonPath', 'FieldValueInvalid'],
        ['spec.selectableFields[6].jsonPath', 'FieldValueRequired'],
      ],
    );
  });
});
