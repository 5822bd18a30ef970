import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import type { TestApi } from './fixture.ts';
import { createTestApi, pods } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

describe('custom resources', () => {
  const definition: TestJson = {
    metadata: { name: 'crontabs.stable.example.com' },
    spec: {
      group: 'stable.example.com',
      scope: 'Namespaced',
      names: { plural: 'crontabs', kind: 'CronTab', shortNames: ['ct'] },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: [{ name: 'Image', type: 'string', jsonPath: '.spec.image' }],
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: {
                  type: 'object',
                  required: ['image'],
                  properties: {
                    image: { type: 'string', maxLength: 5 },
                    replicas: { type: 'integer', minimum: 1, default: 3 },
                    free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
                  },
                },
                status: { type: 'object', properties: { ok: { type: 'boolean' } } },
              },
            },
          },
        },
      ],
    },
  };
  const path = '/apis/stable.example.com/v1/namespaces/default/crontabs';
  const established = async (t: TestApi): Promise<void> => {
    await t.make('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition);
    for (let i = 0; i < 100 && t.api.server.kinds.find('stable.example.com', 'v1', 'crontabs') === undefined; i++)
      await new Promise((resolve) => setImmediate(resolve));
  };

  it(
    'keep integers of 64 bits to the digit, however they are written and read',
    withApi(async (t) => {
      await established(t);
      const text = (value: string, name = 'a'): Uint8Array =>
        Buffer.from(
          `{"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"${name}"},` +
            `"spec":{"image":"x","free":{"least":-9007199254740993,"most":${value},"text":"1234567890123456789"}}}`,
        );
      const send = async (
        method: string,
        where: string,
        body?: Uint8Array,
        type = 'application/json',
      ): Promise<string> => {
        const answer = await t.api.handle({
          method,
          path: where,
          query: new URLSearchParams(),
          headers: { 'content-type': type, accept: 'application/json' },
          user: { name: 'admin', groups: ['system:masters'] },
          signal: new AbortController().signal,
          ...(body === undefined ? {} : { body }),
        });
        return answer.body instanceof Uint8Array ? Buffer.from(answer.body).toString() : '';
      };
      const exact = /"free":\{"least":-9007199254740993,"most":9223372036854775807,"text":"1234567890123456789"\}/;
      assert.match(await send('POST', path, text('9223372036854775807')), exact);
      assert.match(await send('GET', `${path}/a`), exact);
      const patch = Buffer.from('{"spec":{"free":{"added":9007199254740995}}}');
      assert.match(await send('PATCH', `${path}/a`, patch, 'application/merge-patch+json'), /"added":9007199254740995/);
      assert.match(await send('GET', path), /"most":9223372036854775807/);
      await assert.rejects(async () => {
        const answer = await send('POST', path, text('9223372036854775809', 'b'));
        throw new Error(answer);
      }, /cannot be kept exactly/);
    }),
  );

  it(
    'are served with their schema: defaults, pruning, validation, columns, status',
    withApi(async (t) => {
      await established(t);
      const made = await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a' },
        spec: { image: 'x', bogus: 1, free: { any: 'thing' } },
        status: { ok: true },
      });
      assert.deepEqual([made.spec, made.status], [{ image: 'x', replicas: 3, free: { any: 'thing' } }, undefined]);
      const bad = await t.call('POST', path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'b' },
        spec: { image: 'toolong', replicas: 0 },
      });
      assert.deepEqual(
        bad.body.details.causes.map((c: TestJson) => c.field),
        ['spec.image', 'spec.replicas'],
      );
      const table = (
        await t.call('GET', path, undefined, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } })
      ).body;
      assert.deepEqual(table.rows[0].cells, ['a', 'x']);
      assert.ok(
        (await t.call('GET', '/apis/stable.example.com/v1')).body.resources.some(
          (r: TestJson) => r.name === 'crontabs/status',
        ),
      );
    }),
  );

  it(
    'are refused where their schema is not structural',
    withApi(async (t) => {
      const schema = (properties: TestJson, logic: TestJson = {}): TestJson => {
        const openAPIV3Schema = { type: 'object', properties, ...logic };
        const version = { ...definition.spec.versions[0], schema: { openAPIV3Schema } };
        return { ...definition, spec: { ...definition.spec, versions: [version] } };
      };
      const cases: [TestJson, string, RegExp][] = [
        [
          { a: {} },
          'spec.validation.openAPIV3Schema.properties[a].type',
          /must not be empty for specified object fields/,
        ],
        [
          { a: { type: 'object', properties: { b: {} } } },
          'spec.validation.openAPIV3Schema.properties[a].properties[b].type',
          /must not be empty/,
        ],
        [
          { a: { type: 'array', items: {} } },
          'spec.validation.openAPIV3Schema.properties[a].items.type',
          /specified array items/,
        ],
        [{ a: { type: 'array' } }, 'spec.validation.openAPIV3Schema.properties[a].items', /must be specified/],
        [
          { a: { type: 'string', default: 5 } },
          'spec.validation.openAPIV3Schema.properties[a].default',
          /must be of type string/,
        ],
        [{ a: { type: 'text' } }, 'spec.validation.openAPIV3Schema.properties[a].type', /supported values/],
        [
          { a: { type: 'string', pattern: '(' } },
          'spec.validation.openAPIV3Schema.properties[a].pattern',
          /valid regular expression/,
        ],
        [
          { a: { type: 'string', anyOf: [{ type: 'string' }] } },
          'spec.validation.openAPIV3Schema.properties[a].anyOf[0].type',
          /to be structural/,
        ],
        [
          { a: { type: 'object', additionalProperties: { type: 'string' }, properties: { b: { type: 'string' } } } },
          'spec.validation.openAPIV3Schema.properties[a].additionalProperties',
          /mutual exclusive/,
        ],
        [
          { a: { type: 'array', items: { type: 'object' }, 'x-kubernetes-list-type': 'map' } },
          'spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys',
          /must not be empty/,
        ],
      ];
      for (const [properties, field, words] of cases) {
        const answer = await t.call(
          'POST',
          '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
          schema(properties),
        );
        assert.deepEqual([answer.status, answer.body.details.causes[0].field], [422, field], answer.text);
        assert.match(answer.body.details.causes[0].message, words);
      }
      // Kubernetes asks this of the logic of the whole alone.
      const incomplete = await t.call(
        'POST',
        '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
        schema({ a: { type: 'string' } }, { anyOf: [{ properties: { b: { minLength: 1 } } }] }),
      );
      assert.deepEqual(incomplete.body.details.causes.slice(-1), [
        {
          reason: 'FieldValueRequired',
          message: 'Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].properties[b]',
          field: 'spec.validation.openAPIV3Schema.properties[b]',
        },
      ]);
      const right = {
        a: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }], default: 5 },
        b: { 'x-kubernetes-preserve-unknown-fields': true },
        c: { type: 'string', nullable: true, default: null },
      };
      assert.equal(
        (await t.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', schema(right))).status,
        201,
      );
    }),
  );

  it(
    'go with their definition',
    withApi(async (t) => {
      await established(t);
      await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a' },
        spec: { image: 'x' },
      });
      await t.call('DELETE', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabs.stable.example.com');
      for (let i = 0; i < 100 && t.api.server.kinds.find('stable.example.com', 'v1', 'crontabs') !== undefined; i++)
        await new Promise((resolve) => setImmediate(resolve));
      assert.equal((await t.call('GET', path)).status, 404);
      assert.equal((await t.api.server.store.list('/registry/stable.example.com/')).values.length, 0);
    }),
  );

  it(
    'are not made any more while their definition goes, which says so',
    withApi(async (t) => {
      await established(t);
      await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a', finalizers: ['x.io/hold'] },
        spec: { image: 'x' },
      });
      const definitionPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabs.stable.example.com';
      await t.call('DELETE', definitionPath);
      const another = {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'b' },
        spec: { image: 'x' },
      };
      const refused = await t.call('POST', path, another);
      assert.deepEqual([refused.status, /terminating/.test(refused.body.message)], [405, true]);
      const applied = await t.call('PATCH', `${path}/b?fieldManager=m`, another, {
        headers: { 'content-type': 'application/apply-patch+yaml' },
      });
      assert.equal(applied.status, 405);
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
      const { status } = (await t.call('GET', definitionPath)).body;
      assert.deepEqual(
        status.conditions.filter((c: TestJson) => c.type === 'Terminating').map((c: TestJson) => [c.status, c.reason]),
        [['True', 'InstanceDeletionInProgress']],
      );
      assert.equal(
        (
          await t.call(
            'PATCH',
            `${path}/a`,
            { metadata: { finalizers: null } },
            { headers: { 'content-type': 'application/merge-patch+json' } },
          )
        ).status,
        200,
      );
    }),
  );

  it(
    'keep their metadata when their status is written',
    withApi(async (t) => {
      await established(t);
      const made = await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a', labels: { a: 'b' } },
        spec: { image: 'x' },
      });
      const put = await t.call('PUT', `${path}/a/status`, {
        ...made,
        metadata: { ...made.metadata, labels: { c: 'd' }, annotations: { e: 'f' } },
        status: { ok: true },
      });
      assert.deepEqual(
        [put.status, put.body.metadata.labels, put.body.metadata.annotations, put.body.status],
        [200, { a: 'b' }, undefined, { ok: true }],
      );
      const patched = await t.call(
        'PATCH',
        `${path}/a/status`,
        { metadata: { labels: { g: 'h' } }, status: { ok: false } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.deepEqual([patched.body.metadata.labels, patched.body.status], [{ a: 'b' }, { ok: false }]);
    }),
  );

  it(
    'hold objects that say what they are, and warn of versions that are deprecated',
    withApi(async (t) => {
      const inner = {
        type: 'object',
        'x-kubernetes-embedded-resource': true,
        'x-kubernetes-preserve-unknown-fields': true,
      };
      const version = {
        ...definition.spec.versions[0],
        deprecated: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { inner } } },
      };
      await t.make('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
        ...definition,
        spec: { ...definition.spec, versions: [version] },
      });
      for (let i = 0; i < 100 && t.api.server.kinds.find('stable.example.com', 'v1', 'crontabs') === undefined; i++)
        await new Promise((resolve) => setImmediate(resolve));
      const make = (value: TestJson) =>
        t.call('POST', path, {
          apiVersion: 'stable.example.com/v1',
          kind: 'CronTab',
          metadata: { generateName: 'a-' },
          inner: value,
        });
      const bare = await make({ spec: 1 });
      assert.deepEqual(
        [bare.status, bare.body.details.causes.map((c: TestJson) => [c.reason, c.field])],
        [
          422,
          [
            ['FieldValueRequired', 'inner.apiVersion'],
            ['FieldValueRequired', 'inner.kind'],
          ],
        ],
      );
      assert.equal(
        (await make({ apiVersion: 'v1', kind: 'Pod', metadata: { labels: { a: 'not a label' } } })).status,
        422,
      );
      const good = await make({ apiVersion: 'v1', kind: 'Pod', metadata: { labels: { a: 'b' } }, spec: 1 });
      assert.deepEqual(
        [good.status, good.headers.warning],
        [201, '299 - "stable.example.com/v1 CronTab is deprecated"'],
      );
      assert.equal(
        (await t.call('GET', '/api/v1/namespaces/default/endpoints')).headers.warning,
        '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"',
      );
      assert.match(
        (await t.call('GET', '/api/v1/componentstatuses')).headers.warning!,
        /v1 ComponentStatus is deprecated in v1\.19\+/,
      );
      assert.equal((await t.call('GET', pods)).headers.warning, undefined);
    }),
  );
});
