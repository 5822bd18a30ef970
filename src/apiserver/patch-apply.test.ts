import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const path = '/apis/apps/v1/namespaces/default/deployments';
const deployment = (extra: TestJson = {}): TestJson => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', labels: { a: 'b' } },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'x' } },
    template: {
      metadata: { labels: { app: 'x' } },
      spec: {
        containers: [
          {
            name: 'c',
            image: 'one',
            ports: [{ containerPort: 80 }],
            env: [
              { name: 'A', value: '1' },
              { name: 'B', value: '2' },
            ],
          },
          { name: 'side', image: 'two' },
        ],
      },
    },
    ...extra,
  },
});
const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const patch = (t: TestApi, kind: string, body: TestJson, suffix = '') =>
  t.call('PATCH', `${path}/web${suffix}`, body, { headers: { 'content-type': `application/${kind}+json` } });
const apply = (t: TestApi, manager: string, body: TestJson, query = '') =>
  t.call('PATCH', `${path}/web?fieldManager=${manager}${query}`, JSON.stringify(body), {
    headers: { 'content-type': 'application/apply-patch+yaml' },
  });
const containers = (body: TestJson): TestJson[] => body.spec.template.spec.containers;

describe('patch', () => {
  it(
    'merges lists by their keys in a strategic merge patch',
    withApi(async (t) => {
      await t.make(path, deployment());
      const done = await patch(t, 'strategic-merge-patch', {
        spec: {
          template: {
            spec: {
              containers: [
                { name: 'side', image: 'three' },
                { name: 'new', image: 'four' },
              ],
              $setElementOrder: undefined,
            },
          },
        },
      });
      assert.deepEqual(
        containers(done.body).map((c) => [c.name, c.image]),
        [
          ['c', 'one'],
          ['side', 'three'],
          ['new', 'four'],
        ],
      );
      const less = await patch(t, 'strategic-merge-patch', {
        spec: {
          template: {
            spec: {
              containers: [{ name: 'side', $patch: 'delete' }],
              '$setElementOrder/containers': [{ name: 'new' }, { name: 'c' }],
            },
          },
        },
      });
      assert.deepEqual(
        containers(less.body).map((c) => c.name),
        ['new', 'c'],
      );
    }),
  );

  it(
    'replaces a strategy with retainKeys',
    withApi(async (t) => {
      await t.make(path, deployment());
      const done = await patch(t, 'strategic-merge-patch', {
        spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } },
      });
      assert.deepEqual(done.body.spec.strategy, { type: 'Recreate' });
    }),
  );

  it(
    'replaces lists and removes nulls in a merge patch',
    withApi(async (t) => {
      await t.make(path, deployment());
      const done = await patch(t, 'merge-patch', {
        metadata: { labels: { a: null, c: 'd' } },
        spec: { template: { spec: { containers: [{ name: 'only', image: 'i' }] } } },
      });
      assert.deepEqual([done.body.metadata.labels, containers(done.body).map((c) => c.name)], [{ c: 'd' }, ['only']]);
    }),
  );

  it(
    'applies a JSON patch whole or not at all',
    withApi(async (t) => {
      const made = await t.make(path, deployment());
      const failed = await patch(t, 'json-patch', [
        { op: 'replace', path: '/spec/replicas', value: 7 },
        { op: 'remove', path: '/metadata/labels/none' },
      ]);
      assert.equal(failed.status, 422);
      assert.equal((await t.call('GET', `${path}/web`)).body.metadata.resourceVersion, made.metadata.resourceVersion);
      const done = await patch(t, 'json-patch', [
        { op: 'test', path: '/spec/replicas', value: 2 },
        { op: 'replace', path: '/spec/replicas', value: 7 },
        { op: 'add', path: '/metadata/labels/x~1y', value: 'z' },
      ]);
      assert.deepEqual(
        [done.body.spec.replicas, done.body.metadata.labels['x/y'], done.body.metadata.generation],
        [7, 'z', 2],
      );
    }),
  );

  it(
    'refuses a patch that would pollute a prototype',
    withApi(async (t) => {
      await t.make(path, deployment());
      assert.equal((await patch(t, 'json-patch', [{ op: 'add', path: '/__proto__/x', value: 1 }])).status, 400);
      await t.call('PATCH', `${path}/web`, '{"metadata":{"labels":{"__proto__":{"polluted":"yes"}}}}', {
        headers: { 'content-type': 'application/merge-patch+json' },
      });
      assert.equal(({} as TestJson).polluted, undefined);
    }),
  );

  it(
    'keeps what may not change',
    withApi(async (t) => {
      await t.make(path, deployment());
      const answer = await patch(t, 'merge-patch', {
        spec: { selector: { matchLabels: { app: 'y' } }, template: { metadata: { labels: { app: 'y' } } } },
      });
      assert.deepEqual(
        [answer.status, answer.body.details.causes[0].field, /field is immutable/.test(answer.body.message)],
        [422, 'spec.selector', true],
      );
    }),
  );

  it(
    'retries under concurrent writers so that none is lost',
    withApi(async (t) => {
      await t.make(path, deployment());
      const answers = await Promise.all(
        Array.from({ length: 30 }, (_, i) => patch(t, 'merge-patch', { metadata: { labels: { [`k${i}`]: 'v' } } })),
      );
      assert.ok(answers.every((a) => a.status === 200));
      assert.equal(Object.keys((await t.call('GET', `${path}/web`)).body.metadata.labels).length, 31);
    }),
  );

  it(
    'scales through the subresource',
    withApi(async (t) => {
      await t.make(path, deployment());
      assert.deepEqual((await t.call('GET', `${path}/web/scale`)).body.status, { replicas: 0, selector: 'app=x' });
      const scaled = await patch(t, 'merge-patch', { spec: { replicas: 5 } }, '/scale');
      assert.deepEqual(
        [scaled.body.kind, scaled.body.spec.replicas, (await t.call('GET', `${path}/web`)).body.spec.replicas],
        ['Scale', 5, 5],
      );
      assert.equal((await patch(t, 'merge-patch', { spec: { replicas: -1 } }, '/scale')).status, 422);
    }),
  );
});

describe('server-side apply', () => {
  it(
    'creates, owns what it set, and removes what it no longer sets',
    withApi(async (t) => {
      const made = await apply(t, 'me', deployment());
      assert.equal(made.status, 201);
      const entry = made.body.metadata.managedFields[0];
      assert.deepEqual(
        [
          entry.manager,
          entry.operation,
          entry.fieldsV1['f:spec']['f:replicas'],
          entry.fieldsV1['f:spec']['f:strategy'],
        ],
        ['me', 'Apply', {}, undefined],
      );
      const second = deployment();
      second.metadata.labels = { c: 'd' };
      second.spec.template.spec.containers = [{ name: 'c', image: 'one', env: [{ name: 'A', value: '1' }] }];
      const done = (await apply(t, 'me', second)).body;
      assert.deepEqual(
        [done.metadata.labels, containers(done).map((c) => [c.name, c.env, c.ports])],
        [{ c: 'd' }, [['c', [{ name: 'A', value: '1' }], undefined]]],
      );
    }),
  );

  it(
    'tells of conflicts by field and manager, and takes over when forced',
    withApi(async (t) => {
      await apply(t, 'me', deployment());
      await t.call(
        'PATCH',
        `${path}/web?fieldManager=other`,
        { spec: { replicas: 5 } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      const conflict = await apply(t, 'me', deployment());
      assert.deepEqual(
        [conflict.status, conflict.body.message, conflict.body.details.causes],
        [
          409,
          'Apply failed with 1 conflict: conflict with "other" using apps/v1: .spec.replicas',
          [{ reason: 'FieldManagerConflict', message: 'conflict with "other" using apps/v1', field: '.spec.replicas' }],
        ],
      );
      const forced = await apply(t, 'me', deployment(), '&force=true');
      assert.deepEqual(
        [forced.body.spec.replicas, forced.body.metadata.managedFields.map((m: TestJson) => m.manager)],
        [2, ['me']],
      );
    }),
  );

  it(
    'never fails since the object came or went meanwhile',
    withApi(async (t) => {
      const statuses: number[] = [];
      let left = 8;
      const applier = async (id: number): Promise<void> => {
        for (let round = 0; round < 15; round++)
          statuses.push(
            (
              await apply(
                t,
                `m${id}`,
                { ...deployment(), metadata: { name: 'web', annotations: { [`a${id}`]: String(round) } } },
                '&force=true',
              )
            ).status,
          );
        left--;
      };
      const deleter = async (): Promise<void> => {
        while (left > 0) {
          await t.call('DELETE', `${path}/web`);
          await new Promise<void>((resolve) => {
            setImmediate(resolve);
          });
        }
      };
      await Promise.all([...Array.from({ length: 8 }, (_unused, id) => applier(id)), deleter()]);
      assert.deepEqual(new Set(statuses), new Set([200, 201]));
    }),
  );

  it(
    'shares a field that two managers set to the same value',
    withApi(async (t) => {
      await apply(t, 'me', deployment());
      const shared = await apply(t, 'you', {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web' },
        spec: { replicas: 2 },
      });
      assert.equal(shared.status, 200);
      const without = deployment();
      delete without.spec.replicas;
      assert.equal((await apply(t, 'me', without)).body.spec.replicas, 2);
    }),
  );

  it(
    'writes nothing when the same configuration is applied again',
    withApi(async (t) => {
      const first = await apply(t, 'me', deployment());
      t.clock.advance(10_000);
      assert.equal(
        (await apply(t, 'me', deployment())).body.metadata.resourceVersion,
        first.body.metadata.resourceVersion,
      );
    }),
  );

  it(
    'wants a manager, a declared schema and no managedFields',
    withApi(async (t) => {
      const headers = { 'content-type': 'application/apply-patch+yaml' };
      assert.equal((await t.call('PATCH', `${path}/web`, deployment(), { headers })).status, 422);
      assert.match(
        (await apply(t, 'me', deployment({ bogus: 1 }))).body.message,
        /\.spec\.bogus: field not declared in schema/,
      );
      assert.equal(
        (await apply(t, 'me', { ...deployment(), metadata: { name: 'web', managedFields: [] } })).status,
        400,
      );
    }),
  );

  it(
    'leaves alone what an updater owns after the updater changed it',
    withApi(async (t) => {
      await t.make(`${path}?fieldManager=creator`, deployment());
      const done = await apply(t, 'me', {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web', labels: { mine: 'yes' } },
      });
      assert.deepEqual(done.body.metadata.labels, { a: 'b', mine: 'yes' });
      const gone = await apply(t, 'me', { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web' } });
      assert.deepEqual(gone.body.metadata.labels, { a: 'b' });
    }),
  );
});
