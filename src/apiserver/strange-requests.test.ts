/** Requests that name what JavaScript's own objects have, or send what is no object, are answered as any mistake is. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createTestApi, podBody, pods } from './fixture.ts';

const tokens = '/api/v1/namespaces/default/serviceaccounts/default/token';

describe('a request', () => {
  it('that names what every object inherits names nothing', async () => {
    await using t = await createTestApi();
    await t.make(pods, podBody('a'));
    for (const name of ['constructor', 'toString', 'hasOwnProperty']) {
      const missing = await t.call('GET', `${pods}/a/${name}`);
      assert.deepEqual([missing.status, missing.body.reason], [404, 'NotFound'], name);
      const selected = await t.call('GET', `${pods}?fieldSelector=${name}%3Dx`);
      assert.deepEqual([selected.status, /field label not supported/.test(selected.body.message)], [400, true], name);
      assert.equal((await t.call('GET', pods, undefined, { headers: { accept: name } })).status, 406, name);
      const bound = await t.call('POST', tokens, { spec: { boundObjectRef: { kind: name, name: 'a' } } });
      assert.deepEqual(
        [bound.status, bound.body.message],
        [400, `cannot bind token for serviceaccount to object of type /v1, Kind=${name}`],
      );
    }
  });

  it('with options that are no object is refused, and nothing is deleted', async () => {
    await using t = await createTestApi();
    await t.make(pods, podBody('a'));
    for (const body of ['"x"', '5', '[]']) {
      assert.equal((await t.call('POST', `${pods}/a/eviction`, body)).status, 400, body);
      assert.equal((await t.call('DELETE', `${pods}/a?gracePeriodSeconds=3`, body)).status, 400, body);
    }
    assert.equal((await t.call('GET', `${pods}/a`)).status, 200);
    assert.equal((await t.call('DELETE', `${pods}/a`, 'null')).status, 200);
  });
});

describe('a scale', () => {
  it('of a custom object whose path leads through no object is refused', async () => {
    await using t = await createTestApi();
    await t.make('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      metadata: { name: 'fleets.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural: 'fleets', singular: 'fleet', kind: 'Fleet' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
            subresources: { scale: { specReplicasPath: '.spec.size', statusReplicasPath: '.status.size' } },
          },
        ],
      },
    });
    const fleets = '/apis/example.com/v1/namespaces/default/fleets';
    for (let tries = 0; tries < 20 && (await t.call('GET', fleets)).status !== 200; tries++) await Promise.resolve();
    await t.make(fleets, { apiVersion: 'example.com/v1', kind: 'Fleet', metadata: { name: 'a' }, spec: 'none' });
    const body = { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: { name: 'a' }, spec: { replicas: 2 } };
    const refused = await t.call('PUT', `${fleets}/a/scale`, body);
    assert.deepEqual([refused.status, refused.body.message], [422, '.spec.size cannot be set: spec is no object']);
    await t.make(fleets, { apiVersion: 'example.com/v1', kind: 'Fleet', metadata: { name: 'b' } });
    const made = await t.call('PUT', `${fleets}/b/scale`, { ...body, metadata: { name: 'b' } });
    assert.deepEqual([made.status, made.body.spec], [200, { replicas: 2 }]);
  });
});

describe('a token that is bound to a Pod', () => {
  it('names the UID of its node where the node is there, and nothing else', async () => {
    await using t = await createTestApi();
    for (const name of ['known', 'unknown']) await t.make(pods, podBody(name, { spec: { nodeName: name } }));
    const node = await t.make('/api/v1/nodes', { metadata: { name: 'known' } });
    const extraOf = async (name: string): Promise<Record<string, string[]>> => {
      const made = await t.call('POST', tokens, { spec: { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name } } });
      const review = { spec: { token: made.body.status.token } };
      return (await t.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', review)).body.status.user.extra;
    };
    const field = 'authentication.kubernetes.io/node-';
    const known = await extraOf('known');
    assert.deepEqual([known[`${field}name`], known[`${field}uid`]], [['known'], [node.metadata.uid]]);
    const unknown = await extraOf('unknown');
    assert.deepEqual([unknown[`${field}name`], unknown[`${field}uid`]], [['unknown'], undefined]);
  });
});
