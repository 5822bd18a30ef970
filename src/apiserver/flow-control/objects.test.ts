/** FlowSchemas and PriorityLevelConfigurations as the API has them, and what they do to requests. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createTestApi, type TestApi } from '../fixture.ts';
import { borrowingMs, flowControlKeepMs } from '../limits.ts';

const base = '/apis/flowcontrol.apiserver.k8s.io/v1';
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await holds()) return;
    await settled();
  }
  assert.fail('it did not come about');
}

const schemaFor = (user: string, level: string, name = 'tested'): object => ({
  metadata: { name },
  spec: {
    matchingPrecedence: 1000,
    priorityLevelConfiguration: { name: level },
    rules: [
      {
        subjects: [{ kind: 'User', user: { name: user } }],
        nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
        resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'], clusterScope: true }],
      },
    ],
  },
});
const level = (shares: number): object => ({
  metadata: { name: 'tested' },
  spec: { type: 'Limited', limited: { nominalConcurrencyShares: shares, limitResponse: { type: 'Reject' } } },
});
const jane = { name: 'jane', groups: ['system:authenticated'] };
const dangling = async (api: TestApi, name: string): Promise<string> =>
  (await api.call('GET', `${base}/flowschemas/${name}`)).body.status?.conditions?.find(
    (each: { type: string }) => each.type === 'Dangling',
  )?.status;

describe('the default objects', () => {
  it('are there, say that their levels are, and come back', async () => {
    await using api = await createTestApi();
    const names = async (kind: string): Promise<string[]> =>
      (await api.call('GET', `${base}/${kind}`)).body.items.map(
        (each: { metadata: { name: string } }) => each.metadata.name,
      );
    const schemas = await names('flowschemas');
    assert.deepEqual(schemas, [
      'catch-all',
      'exempt',
      'global-default',
      'kube-controller-manager',
      'kube-scheduler',
      'kube-system-service-accounts',
      'probes',
      'service-accounts',
      'system-leader-election',
      'system-node-high',
      'system-nodes',
    ]);
    for (const name of schemas) assert.equal(await dangling(api, name), 'False', name);
    await api.call('DELETE', `${base}/flowschemas/global-default`);
    await api.call('DELETE', `${base}/prioritylevelconfigurations/exempt`);
    await settled();
    api.clock.advance(flowControlKeepMs);
    await until(async () => (await names('flowschemas')).includes('global-default'));
    await until(async () => (await names('prioritylevelconfigurations')).includes('exempt'));
  });

  it('are put right, unless an administrator has taken them over', async () => {
    await using api = await createTestApi();
    const path = `${base}/prioritylevelconfigurations/workload-low`;
    const type = { headers: { 'content-type': 'application/merge-patch+json' } };
    const change = { spec: { limited: { nominalConcurrencyShares: 7 } } };
    const shares = async (): Promise<number> =>
      (await api.call('GET', path)).body.spec.limited.nominalConcurrencyShares;
    await api.call('PATCH', path, change, type);
    await settled();
    api.clock.advance(flowControlKeepMs);
    await until(async () => (await shares()) === 100);
    const annotations = { 'apf.kubernetes.io/autoupdate-spec': 'false' };
    await api.call('PATCH', path, { ...change, metadata: { annotations } }, type);
    await settled();
    api.clock.advance(flowControlKeepMs);
    for (let i = 0; i < 20; i++) await settled();
    assert.equal(await shares(), 7);
  });
});

describe('a FlowSchema', () => {
  it('holds from the next request on, whose answer names it', async () => {
    await using api = await createTestApi();
    const made = await api.make(`${base}/prioritylevelconfigurations`, level(1));
    const schema = await api.make(`${base}/flowschemas`, schemaFor('jane', 'tested'));
    await until(async () => (await dangling(api, 'tested')) === 'False');
    const answer = await api.call('GET', '/version', undefined, { user: jane });
    assert.deepEqual(
      [answer.headers['x-kubernetes-pf-flowschema-uid'], answer.headers['x-kubernetes-pf-prioritylevel-uid']],
      [schema.metadata.uid, made.metadata.uid],
    );
    const forbidden = await api.call('GET', '/api/v1/secrets', undefined, { user: jane });
    assert.deepEqual(
      [forbidden.status, forbidden.headers['x-kubernetes-pf-flowschema-uid']],
      [403, schema.metadata.uid],
    );
    await api.call('DELETE', `${base}/prioritylevelconfigurations/tested`);
    await until(async () => (await dangling(api, 'tested')) === 'True');
    const other = await api.call('GET', '/version', undefined, { user: jane });
    assert.notEqual(other.headers['x-kubernetes-pf-flowschema-uid'], schema.metadata.uid);
  });

  it('of a level without seats refuses in the words of the real system', async () => {
    await using api = await createTestApi();
    await api.make(`${base}/prioritylevelconfigurations`, level(0));
    await api.make(`${base}/flowschemas`, schemaFor('jane', 'tested'));
    await until(async () => (await dangling(api, 'tested')) === 'False');
    api.clock.advance(borrowingMs);
    api.api.server.flowControl.levels.get('tested')!.currentSeats = 0;
    const answer = await api.call('GET', '/version', undefined, { user: jane });
    assert.deepEqual(
      [answer.status, answer.text, answer.headers['retry-after'], answer.headers['content-type']],
      [429, 'Too many requests, please try again later.\n', '1', 'text/plain; charset=utf-8'],
    );
    assert.match(
      (await api.call('GET', '/metrics')).text,
      /apiserver_flowcontrol_rejected_requests_total\{[^}]*"tested"[^}]*\} 1/,
    );
  });

  it('says what is wrong with it, as upstream does', async () => {
    await using api = await createTestApi();
    const refused = async (kind: string, object: unknown): Promise<string> => {
      const answer = await api.call('POST', `${base}/${kind}`, object);
      assert.equal(answer.status, 422, answer.text);
      return answer.body.details.causes
        .map((each: { field: string; message: string }) => `${each.field}: ${each.message}`)
        .join('\n');
    };
    assert.equal(
      await refused('flowschemas', {
        metadata: { name: 'a' },
        spec: {
          matchingPrecedence: 1,
          priorityLevelConfiguration: { name: '' },
          rules: [
            {
              subjects: [{ kind: 'User', group: { name: 'x' } }],
              nonResourceRules: [{ verbs: ['eat'], nonResourceURLs: ['/a*'] }],
            },
          ],
        },
      }),
      [
        "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        'spec.priorityLevelConfiguration.name: Required value: must reference a priority level',
        "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
        "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
        'spec.rules[0].nonResourceRules[0].verbs: Unsupported value: ["eat"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"',
        'spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "/a*": wildcard can only do suffix matching',
      ].join('\n'),
    );
    const queuing = { queues: 10_000_000, handSize: 4, queueLengthLimit: -1 };
    assert.equal(
      await refused('prioritylevelconfigurations', {
        metadata: { name: 'a' },
        spec: { type: 'Limited', limited: { lendablePercent: 101, limitResponse: { type: 'Queue', queuing } } },
      }),
      [
        'spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive',
        'spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive',
        'spec.limited.limitResponse.queuing.handSize: Invalid value: 4: required entropy bits of deckSize 10000000 and handSize 4 should not be greater than 60',
      ].join('\n'),
    );
    const exempt = (await api.call('GET', `${base}/flowschemas/exempt`)).body;
    exempt.spec.matchingPrecedence = 2;
    assert.match(
      (await api.call('PUT', `${base}/flowschemas/exempt`, exempt)).text,
      /spec of 'exempt' must equal the fixed value/,
    );
  });
});

it('what is queued and under way can be looked at', async () => {
  await using api = await createTestApi();
  const dump = async (name: string): Promise<string> =>
    (await api.call('GET', `/debug/api_priority_and_fairness/${name}`)).text;
  const [head = '', ...rows] = (await dump('dump_priority_levels')).split('\n');
  assert.match(head, /^PriorityLevelName, ActiveQueues, IsIdle, +IsQuiescing, +WaitingRequests,/);
  assert.ok(
    rows.some((row) => /^exempt, +0, +false, +false, +0, +1, /.test(row)),
    rows.join('\n'),
  );
  assert.match(
    await dump('dump_requests?includeRequestDetails=1'),
    /\nexempt, +exempt, +-1, +-1, .* admin, +get, +\/debug/,
  );
  assert.match(await dump('dump_queues'), /^PriorityLevelName, +Index, +PendingRequests,/);
  assert.equal((await api.call('GET', '/debug/api_priority_and_fairness/other')).status, 404);
});
