/** Authorizers of a configuration: which are asked, when, and what their failures mean. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { createTestApi, type TestApi } from '../fixture.ts';
import { configPollMs } from '../limits.ts';
import { ServerFlags } from '../server-flags.ts';
import { authorizersOfFlags, parseAuthorizationConfig } from './authorizers.ts';

const directory = mkdtempSync(join(tmpdir(), 'tiphys-authz-'));
after(() => rmSync(directory, { recursive: true }));
const write = (name: string, content: object): string => {
  const path = join(directory, name);
  writeFileSync(path, JSON.stringify(content));
  return path;
};

interface Spec {
  user: string;
  groups: string[];
  resourceAttributes?: { verb: string; resource: string; namespace?: string };
  nonResourceAttributes?: { path: string };
}
const asked: Spec[] = [];
let answer: (spec: Spec) => object | number = () => ({ allowed: false });
const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8').on('data', (part: string) => (body += part));
  request.on('end', () => {
    const { apiVersion, kind, spec } = JSON.parse(body);
    asked.push(spec);
    const status = answer(spec);
    if (typeof status === 'number') response.writeHead(status).end();
    else response.end(JSON.stringify({ apiVersion, kind, status }));
  });
});
let kubeconfig = '';
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  kubeconfig = write('kubeconfig', {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'c', user: '' } }],
    clusters: [
      {
        name: 'c',
        cluster: { server: `http://127.0.0.1:${address !== null && typeof address === 'object' ? address.port : 0}` },
      },
    ],
  });
});
after(() => {
  server.closeAllConnections();
  server.close();
});
afterEach(() => {
  asked.length = 0;
});

const webhook = (more: object = {}): object => ({
  type: 'Webhook',
  name: 'w',
  webhook: {
    timeout: '3s',
    subjectAccessReviewVersion: 'v1',
    matchConditionSubjectAccessReviewVersion: 'v1',
    failurePolicy: 'Deny',
    connectionInfo: { type: 'KubeConfigFile', kubeConfigFile: kubeconfig },
    ...more,
  },
});
const config = (...authorizers: object[]): object => ({
  apiVersion: 'apiserver.config.k8s.io/v1',
  kind: 'AuthorizationConfiguration',
  authorizers,
});
const rbac = { type: 'RBAC', name: 'rbac' };
const withConfig = (...authorizers: object[]): Promise<TestApi> =>
  createTestApi({ flags: new ServerFlags([`authorization-config=${write('authz.json', config(...authorizers))}`]) });

const jane = { name: 'jane', groups: ['system:authenticated'] };
const secrets = '/api/v1/namespaces/default/secrets';
const status = async (api: TestApi, path = secrets, user = jane): Promise<[number, string]> => {
  const { status: code, body } = await api.call('GET', path, undefined, { user });
  return [code, body.message ?? ''];
};

describe('an authorization webhook', () => {
  it('allows, denies before others are asked, or has no opinion; its answers are remembered', async () => {
    await using api = await withConfig(webhook(), rbac);
    answer = ({ user }) => (user === 'jane' ? { allowed: true } : user === 'joe' ? { denied: true, reason: 'no' } : {});
    assert.equal((await status(api))[0], 200);
    assert.equal((await status(api))[0], 200);
    assert.equal(asked.length, 1);
    assert.deepEqual(asked[0], {
      resourceAttributes: { namespace: 'default', verb: 'list', version: 'v1', resource: 'secrets' },
      user: 'jane',
      groups: ['system:authenticated'],
    });
    await api.make('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: 'all' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      subjects: ['joe', 'ann'].map((name) => ({ kind: 'User', name, apiGroup: 'rbac.authorization.k8s.io' })),
    });
    const [code, message] = await status(api, secrets, { ...jane, name: 'joe' });
    assert.equal(code, 403);
    assert.match(message, /: no$/);
    assert.equal((await status(api, secrets, { ...jane, name: 'ann' }))[0], 200, 'RBAC is asked next');
    const { length } = asked;
    assert.equal((await api.call('GET', secrets)).status, 200);
    assert.equal(asked.length, length, 'system:masters is not asked about');
    api.clock.advance(5 * 60_000);
    await status(api);
    assert.equal(asked.length, length + 1, 'and not remembered for ever');
    const path = '/apis/authorization.k8s.io/v1/subjectaccessreviews';
    const spec = { user: 'joe', resourceAttributes: { verb: 'get', resource: 'pods' } };
    assert.deepEqual((await api.call('POST', path, { spec })).body.status, {
      allowed: false,
      denied: true,
      reason: 'no',
    });
  });

  it('is asked only where its conditions match, and its failure means what its policy says', async () => {
    const matchConditions = [
      { expression: 'has(request.resourceAttributes)' },
      { expression: "request.resourceAttributes.namespace == 'default'" },
    ];
    {
      await using api = await withConfig(webhook({ matchConditions }), rbac);
      answer = () => 400;
      assert.equal((await status(api, '/api/v1/namespaces/other/secrets'))[0], 403);
      assert.equal((await status(api, '/version'))[0], 200, 'as RBAC allows');
      assert.equal(asked.length, 0);
      assert.match((await status(api))[1], /authorization webhook "w" failed/);
      const cluster = await status(api, '/api/v1/nodes');
      assert.match(cluster[1], /failed/, 'an expression that has no value fails as well');
      assert.equal(asked.length, 1);
    }
    await using api = await withConfig(webhook({ failurePolicy: 'NoOpinion', matchConditions }), {
      type: 'AlwaysAllow',
      name: 'all',
    });
    assert.equal((await status(api))[0], 200);
  });

  it('is taken up when the file changes; others may not change, and a file that is wrong changes nothing', async () => {
    await using api = await withConfig(webhook({ cacheAuthorizedRequests: false }), rbac);
    answer = () => ({ allowed: true });
    assert.equal((await status(api))[0], 200);
    write('authz.json', config(rbac, { type: 'AlwaysAllow', name: 'all' }));
    api.clock.advance(configPollMs);
    asked.length = 0;
    assert.equal((await status(api))[0], 200);
    assert.equal(asked.length, 1, 'the webhook is still asked');
    write('authz.json', config(rbac));
    api.clock.advance(configPollMs);
    assert.equal((await status(api))[0], 403);
  });

  it('by flags has no conditions, and speaks v1beta1', async () => {
    const flags = new ServerFlags(['authorization-mode=Webhook', `authorization-webhook-config-file=${kubeconfig}`]);
    await using api = await createTestApi({ flags });
    answer = (spec) => ({ allowed: JSON.stringify(spec).includes('"group":["system:authenticated"]') });
    assert.equal((await status(api))[0], 200);
  });
});

it('an authorization configuration is refused with all that is wrong with it', () => {
  const wrong = config(
    { type: 'RBAC', name: 'a' },
    { type: 'RBAC', name: 'a', webhook: {} },
    { type: 'Magic', name: 'b' },
    webhook({
      timeout: '31s',
      failurePolicy: 'Maybe',
      matchConditions: [{ expression: 'request.' }, { expression: '"text"' }],
    }),
  );
  assert.throws(
    () => parseAuthorizationConfig(JSON.stringify(wrong), 'z.yaml'),
    ({ message }: Error) => {
      for (const part of [
        'authorizers[1].type: Duplicate value: "RBAC"',
        'authorizers[1].name: Duplicate value: "a"',
        'authorizers[1].webhook: Invalid value: "non-null": may only be specified when type=Webhook',
        'authorizers[2].type: Unsupported value: "Magic"',
        'authorizers[3].webhook.timeout: Invalid value: "31s": must be > 0s and <= 30s',
        'authorizers[3].webhook.failurePolicy: Unsupported value: "Maybe"',
        'authorizers[3].webhook.matchConditions[0].expression: Invalid value: "request.": compilation failed',
        'authorizers[3].webhook.matchConditions[1].expression: Invalid value: "\\"text\\"": must evaluate to',
      ])
        assert.ok(message.includes(part), `${part}\n${message}`);
      return true;
    },
  );
  const refused = (words: string[], why: RegExp): void => {
    assert.throws(() => authorizersOfFlags(new ServerFlags(words)), why);
  };
  refused(['authorization-mode=RBAC,RBAC'], /more than once/);
  refused(['authorization-mode=ABAC'], /not a valid mode/);
  refused(['authorization-mode=Webhook'], /config file not passed/);
});
