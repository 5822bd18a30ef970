import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import type { TestApi } from '../fixture.ts';
import { createTestApi, podBody, pods } from '../fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

describe('webhooks', () => {
  const hook = (name: string, extra: TestJson = {}): TestJson => ({
    name,
    sideEffects: 'None',
    admissionReviewVersions: ['v1'],
    clientConfig: { url: 'https://hook.example.com' },
    rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] }],
    ...extra,
  });
  const configure = (t: TestApi, kind: string, webhooks: TestJson[]) =>
    t.make(`/apis/admissionregistration.k8s.io/v1/${kind}`, { metadata: { name: 'w' }, webhooks });

  it(
    'change and refuse what their rules match',
    withApi(async (t) => {
      await configure(t, 'mutatingwebhookconfigurations', [hook('m.example.com')]);
      await configure(t, 'validatingwebhookconfigurations', [
        hook('v.example.com', { objectSelector: { matchLabels: { checked: 'yes' } } }),
      ]);
      t.api.server.callWebhook = async (_config, review: TestJson) => {
        const { uid, object } = review.request;
        if (object.metadata.labels?.hooked === undefined)
          return {
            response: {
              uid,
              allowed: true,
              patchType: 'JSONPatch',
              patch: Buffer.from(
                JSON.stringify([{ op: 'add', path: '/metadata/labels/hooked', value: 'yes' }]),
              ).toString('base64'),
            },
          };
        return { response: { uid, allowed: false, status: { message: 'not today' }, warnings: ['beware'] } };
      };
      assert.equal((await t.make(pods, podBody('a'))).metadata.labels!.hooked, 'yes');
      const refused = await t.call('POST', pods, podBody('b', { metadata: { labels: { checked: 'yes' } } }));
      assert.deepEqual(
        [refused.status, refused.body.message],
        [400, 'admission webhook "v.example.com" denied the request: not today'],
      );
    }),
  );

  it(
    'leave nothing in an object that its kind does not have',
    withApi(async (t) => {
      await configure(t, 'mutatingwebhookconfigurations', [hook('m.example.com')]);
      let patch: TestJson[] = [
        { op: 'add', path: '/spec/colour', value: 'red' },
        { op: 'add', path: '/metadata/labels/hooked', value: 'yes' },
      ];
      t.api.server.callWebhook = async (_config, review: TestJson) => ({
        response: {
          uid: review.request.uid,
          allowed: true,
          patchType: 'JSONPatch',
          patch: Buffer.from(JSON.stringify(patch)).toString('base64'),
        },
      });
      const { spec, metadata } = await t.make(pods, podBody('a'));
      assert.deepEqual([spec.colour, metadata.labels.hooked], [undefined, 'yes']);
      patch = [{ op: 'add', path: '/spec/nodeName', value: 7 }];
      const refused = await t.call('POST', pods, podBody('b'));
      assert.equal(refused.status, 500);
      assert.match(refused.body.message, /failed calling webhook "m.example.com".*cannot unmarshal number/);
    }),
  );

  it(
    'that deny with the code of a success still deny, and their details go on where they are such',
    withApi(async (t) => {
      await configure(t, 'validatingwebhookconfigurations', [hook('v.example.com')]);
      const status = { code: 200, reason: 'NotHere', details: { causes: [{ field: 'spec' }, 7], kind: 3, name: 'a' } };
      t.api.server.callWebhook = async (_config, review: TestJson) => ({
        response: { uid: review.request.uid, allowed: false, status },
      });
      const { code, reason, message, details } = (await t.call('POST', pods, podBody('a'))).body;
      assert.deepEqual(
        [code, reason, message, details],
        [
          400,
          'NotHere',
          'admission webhook "v.example.com" denied the request: NotHere',
          { name: 'a', causes: [{ field: 'spec' }, {}] },
        ],
      );
    }),
  );

  it(
    'that cannot be reached are fatal or ignored as their policy says',
    withApi(async (t) => {
      t.api.server.callWebhook = async () => {
        throw new Error('connection refused');
      };
      await configure(t, 'validatingwebhookconfigurations', [hook('v.example.com', { failurePolicy: 'Ignore' })]);
      assert.equal((await t.call('POST', pods, podBody('a'))).status, 201);
      await t.call(
        'PATCH',
        '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w',
        [{ op: 'replace', path: '/webhooks/0/failurePolicy', value: 'Fail' }],
        { headers: { 'content-type': 'application/json-patch+json' } },
      );
      const failed = await t.call('POST', pods, podBody('b'));
      assert.deepEqual(
        [failed.status, failed.body.message],
        [
          500,
          'Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: connection refused',
        ],
      );
    }),
  );
});
