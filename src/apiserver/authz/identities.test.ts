/** What the identities of a node may do, and how soon that follows what the node's objects say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestApi, podBody, pods, type TestApi } from '../fixture.ts';

const kubelet = { name: 'system:node:a', groups: ['system:nodes', 'system:authenticated'] };
const network = { name: 'tiphys:node-network:a', groups: ['tiphys:node-network', 'system:authenticated'] };
const secrets = '/api/v1/namespaces/default/secrets';
const ingresses = '/apis/networking.k8s.io/v1/namespaces/default/ingresses';

const may = async (api: TestApi, user: typeof kubelet, path: string): Promise<boolean> =>
  (await api.call('GET', path, undefined, { user })).status === 200;

test("a node's network part reads the Secrets that Ingresses name, while they name them, and no list of them", async () => {
  await using api = await createTestApi();
  for (const name of ['shop', 'other']) await api.make(secrets, { metadata: { name } });
  assert.equal(await may(api, network, `${secrets}/shop`), false);
  await api.make(ingresses, {
    metadata: { name: 'web' },
    spec: {
      tls: [{ hosts: ['shop'], secretName: 'shop' }],
      defaultBackend: { service: { name: 's', port: { number: 80 } } },
    },
  });
  assert.equal(await may(api, network, `${secrets}/shop`), true);
  assert.equal(await may(api, network, `${secrets}/other`), false);
  assert.equal(await may(api, network, secrets), false);
  assert.equal(await may(api, network, `${secrets}?fieldSelector=metadata.name%3Dshop`), true);
  const headers = { 'content-type': 'application/merge-patch+json' };
  await api.call('PATCH', `${ingresses}/web`, { spec: { tls: null } }, { headers });
  assert.equal(await may(api, network, `${secrets}/shop`), false);
});

test('a kubelet reads what a Pod on its node uses, from when it is bound until it is gone', async () => {
  await using api = await createTestApi();
  await api.make('/api/v1/nodes', { metadata: { name: 'a' } });
  for (const name of ['one', 'two']) await api.make(secrets, { metadata: { name } });
  const uses = (name: string): object => ({ volumes: [{ name: 'v', secret: { secretName: name } }] });
  await api.make(pods, podBody('p', { spec: uses('one') }));
  assert.equal(await may(api, kubelet, `${secrets}/one`), false);
  await api.make(`${pods}/p/binding`, { target: { kind: 'Node', name: 'a' } });
  assert.equal(await may(api, kubelet, `${secrets}/one`), true);
  await api.make(pods, podBody('q', { spec: { nodeName: 'a', ...uses('one') } }));
  await api.call('DELETE', `${pods}/p?gracePeriodSeconds=0`);
  assert.equal(await may(api, kubelet, `${secrets}/one`), true, 'another Pod uses it, too');
  await api.call('DELETE', `${pods}/q?gracePeriodSeconds=0`);
  assert.equal(await may(api, kubelet, `${secrets}/one`), false);
  assert.equal(await may(api, kubelet, `${secrets}/two`), false);
});

test('a kubelet asks for certificates, and has no right to become another node by one', async () => {
  await using api = await createTestApi();
  const allowed = async (subresource: string): Promise<boolean> => {
    const resource = {
      group: 'certificates.k8s.io',
      resource: 'certificatesigningrequests',
      verb: 'create',
      subresource,
    };
    const review = await api.make('/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      spec: { user: kubelet.name, groups: kubelet.groups, resourceAttributes: resource },
    });
    return review.status.allowed === true;
  };
  assert.equal(await allowed(''), true);
  assert.equal(await allowed('nodeclient'), false);
});

test('a node that was taken out is refused with the certificates it had, and let in with later ones', async () => {
  await using api = await createTestApi();
  const status = async (user: typeof kubelet, certifiedAtMs: number): Promise<number> =>
    (await api.raw('GET', '/api/v1/nodes', { user, certifiedAtMs })).status;
  const at = api.clock.now();
  assert.equal(await status(kubelet, at), 200);
  await api.make('/api/v1/namespaces/kube-system/configmaps', {
    metadata: { name: 'tiphys-removed-nodes' },
    data: { a: new Date(at).toISOString() },
  });
  assert.equal(await status(kubelet, at), 401);
  assert.equal(await status(network, at), 401);
  assert.equal(await status(kubelet, at + 2_000), 200);
  assert.equal(await status({ ...kubelet, name: 'system:node:b' }, at), 200);
});

test('a node brings no Pod range that another node has', async () => {
  await using api = await createTestApi();
  await api.make('/api/v1/nodes', { metadata: { name: 'b' }, spec: { podCIDR: '10.244.1.0/24' } });
  const make = (podCIDR: string): Promise<{ status: number; text: string }> =>
    api.call('POST', '/api/v1/nodes', { metadata: { name: 'a' }, spec: { podCIDR } }, { user: kubelet });
  const refused = await make('10.244.0.0/16');
  assert.equal(refused.status, 403);
  assert.match(refused.text, /spec.podCIDR 10.244.0.0\/16 is of node b/);
  assert.equal((await make('10.244.2.0/24')).status, 201);
});

test('a node marks itself by its own labels, and takes no taint away', async () => {
  await using api = await createTestApi();
  const headers = { 'content-type': 'application/merge-patch+json' };
  const say = async (method: string, body: object): Promise<string> => {
    const path = method === 'POST' ? '/api/v1/nodes' : '/api/v1/nodes/a';
    const { status, text } = await api.call(method, path, body, {
      user: kubelet,
      headers: method === 'POST' ? {} : headers,
    });
    return status < 300 ? 'ok' : text;
  };
  const role = { 'node-role.kubernetes.io/control-plane': '' };
  const own = { 'kubernetes.io/hostname': 'a', zone: 'x', 'node.kubernetes.io/instance-type': 'y' };
  assert.match(
    await say('POST', { metadata: { name: 'a', labels: { ...own, ...role } } }),
    /node \\"a\\" is not allowed to set the following labels: node-role.kubernetes.io\/control-plane/,
  );
  const taints = [{ key: 'k', effect: 'NoSchedule' }];
  assert.equal(await say('POST', { metadata: { name: 'a', labels: own }, spec: { taints } }), 'ok');
  assert.match(await say('PATCH', { metadata: { labels: role } }), /is not allowed to modify labels: node-role/);
  assert.match(
    await say('PATCH', { metadata: { labels: { 'x.node-restriction.kubernetes.io/y': '' } } }),
    /modify labels/,
  );
  assert.match(await say('PATCH', { spec: { taints: null } }), /node \\"a\\" is not allowed to modify taints/);
  assert.equal(await say('PATCH', { metadata: { labels: { zone: 'z' } }, spec: { unschedulable: true } }), 'ok');
});
