import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi, podBody, pods, type TestApi } from '../fixture.ts';

const policies = '/apis/admissionregistration.k8s.io/v1';
const scalers = '/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers';
const scaler = (name: string): TestJson => ({
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  metadata: { name },
  spec: {
    scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
    maxReplicas: 5,
    metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } } }],
  },
});
const rules = (group: string, version: string, resource: string): TestJson[] => [
  { operations: ['CREATE'], apiGroups: [group], apiVersions: [version], resources: [resource] },
];
const hook = (name: string, extra: TestJson): TestJson => ({
  name,
  sideEffects: 'None',
  admissionReviewVersions: ['v1'],
  clientConfig: { url: `https://${name}/` },
  ...extra,
});
const answer = (uid: string, operations: TestJson[] = []): TestJson => ({
  response: {
    uid,
    allowed: true,
    ...(operations.length === 0
      ? {}
      : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(operations)).toString('base64') }),
  },
});

async function configure(t: TestApi, kind: string, webhooks: TestJson[]): Promise<void> {
  await t.make(`${policies}/${kind}`, { metadata: { name: 'w' }, webhooks });
}

test('a webhook sees a request for another version as one for its own, and changes it there', async () => {
  await using t = await createTestApi();
  const v1 = rules('autoscaling', 'v1', 'horizontalpodautoscalers');
  await configure(t, 'mutatingwebhookconfigurations', [
    hook('any.example.com', { rules: v1 }),
    hook('exact.example.com', { rules: v1, matchPolicy: 'Exact' }),
  ]);
  const asked: TestJson[] = [];
  t.api.server.callWebhook = async ({ url }, { request }: TestJson) => {
    asked.push({ url, ...request });
    return answer(request.uid, [{ op: 'replace', path: '/spec/targetCPUUtilizationPercentage', value: 70 }]);
  };
  const made = await t.make(scalers, scaler('a'));
  assert.equal(made['spec'].metrics[0].resource.target.averageUtilization, 70);
  assert.deepEqual(
    asked.map(({ url, kind, requestKind, resource, requestResource, object }) => [
      url,
      kind.version,
      requestKind.version,
      resource.version,
      requestResource.version,
      object.apiVersion,
      object.spec.targetCPUUtilizationPercentage,
    ]),
    [['https://any.example.com/', 'v1', 'v2', 'v1', 'v2', 'autoscaling/v1', 50]],
  );
});

test('a policy judges a request for another version as one for its own, unless it is to match exactly', async () => {
  await using t = await createTestApi();
  const policy = async (name: string, matchPolicy: string): Promise<void> => {
    await t.make(`${policies}/validatingadmissionpolicies`, {
      metadata: { name },
      spec: {
        matchConstraints: { matchPolicy, resourceRules: rules('autoscaling', 'v1', 'horizontalpodautoscalers') },
        validations: [
          {
            expression: 'object.spec.targetCPUUtilizationPercentage < 40 && request.requestKind.version == "v2"',
            message: `too much by ${name}`,
          },
        ],
      },
    });
    await t.make(`${policies}/validatingadmissionpolicybindings`, {
      metadata: { name },
      spec: { policyName: name, validationActions: ['Deny'] },
    });
  };
  await policy('exact', 'Exact');
  assert.equal((await t.call('POST', scalers, scaler('a'))).status, 201);
  await policy('equivalent', 'Equivalent');
  const refused = await t.call('POST', scalers, scaler('b'));
  assert.deepEqual([refused.status, refused.body.message.endsWith('too much by equivalent')], [422, true]);
});

test('a webhook that may be invoked again is, once, where another one has changed the object since', async () => {
  await using t = await createTestApi();
  const pod = rules('', 'v1', 'pods');
  await configure(t, 'mutatingwebhookconfigurations', [
    hook('again.example.com', { rules: pod, reinvocationPolicy: 'IfNeeded' }),
    hook('never.example.com', { rules: pod }),
    hook('last.example.com', { rules: pod, reinvocationPolicy: 'IfNeeded' }),
  ]);
  const asked: string[] = [];
  let isChanging = true;
  t.api.server.callWebhook = async ({ url = '' }, { request }: TestJson) => {
    asked.push(url.slice('https://'.length, url.indexOf('.')));
    const value = String(asked.length);
    return answer(request.uid, isChanging ? [{ op: 'add', path: '/metadata/labels/by', value }] : []);
  };
  const made = await t.make(pods, podBody('a', { metadata: { labels: { app: 'a' } } }));
  assert.deepEqual([asked, made.metadata.labels?.['by']], [['again', 'never', 'last', 'again', 'last'], '5']);
  asked.length = 0;
  isChanging = false;
  await t.make(pods, podBody('b', { metadata: { labels: { app: 'a' } } }));
  assert.deepEqual(asked, ['again', 'never', 'last']);
});
