/** What of a Pod may change once it is there: its tolerations, and by `resize` its resources. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import type { TestApi } from './fixture.ts';
import { createTestApi, podBody, pods } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const sized = (resources: TestJson): TestJson =>
  podBody('p', { spec: { containers: [{ name: 'c', image: 'i', resources }] } });

describe('updates of Pods', () => {
  it(
    'a list of tolerations that takes the place of the old one need not name those that every Pod has',
    withApi(async (t) => {
      const pod = await t.make(pods, podBody('p'));
      const added = { key: 'foo', operator: 'Equal', value: 'bar', effect: 'NoSchedule' };
      const changed = await t.call('PUT', `${pods}/p`, { ...pod, spec: { ...pod.spec, tolerations: [added] } });
      assert.equal(changed.status, 200, JSON.stringify(changed.body));
      assert.deepEqual(
        changed.body.spec.tolerations.map(({ key }: TestJson) => key),
        ['foo', 'node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'],
      );
      const [kept, ...others] = changed.body.spec.tolerations;
      const sooner = others.map((each: TestJson) => ({ ...each, tolerationSeconds: 5 }));
      const timed = { ...changed.body, spec: { ...changed.body.spec, tolerations: [kept, ...sooner] } };
      assert.equal((await t.call('PUT', `${pods}/p`, timed)).status, 200);
      const without = await t.call('PUT', `${pods}/p`, { ...pod, metadata: { name: 'p' } });
      assert.equal(without.status, 422);
      assert.match(without.body.message, /existing toleration can not be modified except its tolerationSeconds/);
    }),
  );

  it(
    'a resize changes processor and memory, takes nothing away and leaves the class of the Pod',
    withApi(async (t) => {
      const resources = { requests: { cpu: '1', memory: '1Gi' }, limits: { cpu: '2' } };
      const pod = await t.make(pods, sized(resources));
      const resize = (other: TestJson) =>
        t.call('PUT', `${pods}/p/resize`, {
          ...pod,
          metadata: { name: 'p' },
          spec: { ...pod.spec, containers: [{ ...pod.spec.containers[0], resources: other, image: 'not this' }] },
        });
      for (const [other, message] of [
        [{ requests: { cpu: '1' }, limits: { cpu: '2' } }, /resource requests cannot be removed/],
        [{ requests: resources.requests }, /resource limits cannot be removed/],
        [{ ...resources, limits: { cpu: '2', 'example.com/d': '1' } }, /only cpu and memory resources are mutable/],
        [
          { requests: resources.requests, limits: resources.requests },
          /Pod QOS Class may not change as a result of resizing/,
        ],
      ] as const) {
        const refused = await resize(other);
        assert.equal(refused.status, 422, String(message));
        assert.match(refused.body.message, message);
      }
      const larger = { requests: { cpu: '1500m', memory: '2Gi' }, limits: { cpu: '2', memory: '4Gi' } };
      const resized = await resize(larger);
      assert.equal(resized.status, 200, JSON.stringify(resized.body));
      assert.deepEqual(resized.body.spec.containers[0].resources, larger);
      assert.equal(resized.body.spec.containers[0].image, 'i');
      assert.equal(resized.body.metadata.generation, pod.metadata.generation + 1);
    }),
  );

  it(
    'an ephemeral container gets the defaults of containers, however it is written',
    withApi(async (t) => {
      await t.make(pods, podBody('p'));
      const path = `${pods}/p/ephemeralcontainers`;
      const body = (name: string): TestJson => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'p' },
        spec: { ephemeralContainers: [{ name, image: 'i:1' }] },
      });
      const headers = (type: string): TestJson => ({ headers: { 'content-type': `application/${type}` } });
      const patched = await t.call('PATCH', path, body('x'), headers('strategic-merge-patch+json'));
      assert.equal(patched.status, 200, JSON.stringify(patched.body));
      const applied = await t.call('PATCH', `${path}?fieldManager=m`, body('y'), headers('apply-patch+yaml'));
      assert.equal(applied.status, 200, JSON.stringify(applied.body));
      const { spec } = applied.body;
      const put = {
        ...body('z'),
        spec: { ephemeralContainers: [...spec.ephemeralContainers, { name: 'z', image: 'i' }] },
      };
      const written = await t.call('PUT', path, put);
      assert.equal(written.status, 200, JSON.stringify(written.body));
      assert.deepEqual(
        written.body.spec.ephemeralContainers.map((each: TestJson) => [each.name, each.imagePullPolicy]),
        [
          ['x', 'IfNotPresent'],
          ['y', 'IfNotPresent'],
          ['z', 'Always'],
        ],
      );
    }),
  );
});
