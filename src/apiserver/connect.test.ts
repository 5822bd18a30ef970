import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { connectionOf } from './connect.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi({ advertise: { address: '10.0.0.1', port: 6443 } });
  await run(t);
};

/** Where a request is led to, or what refuses it. */
async function led(t: TestApi, path: string): Promise<string> {
  const answer = await t.raw('GET', path);
  const target = connectionOf(answer);
  if (target !== undefined)
    return `${target.scheme}://${target.host}:${target.port}${target.path} ${target.kubelet ? 'as API server' : 'plain'}`;
  return `${answer.status} ${JSON.parse(Buffer.from(answer.body as Uint8Array).toString()).message}`;
}

async function podAt(t: TestApi, name: string, ip: string, spec: TestJson = {}): Promise<void> {
  await t.make(pods, podBody(name, { spec: { nodeName: 'n1', ...spec } }));
  const answer = await t.call(
    'PATCH',
    `${pods}/${name}/status`,
    { status: { podIP: ip, podIPs: [{ ip }] } },
    { headers: { 'content-type': 'application/merge-patch+json' } },
  );
  assert.equal(answer.status, 200, answer.text);
}

async function node(t: TestApi, name: string, address: string): Promise<void> {
  await t.make('/api/v1/nodes', { metadata: { name } });
  await t.call(
    'PATCH',
    `/api/v1/nodes/${name}/status`,
    {
      status: { addresses: [{ type: 'InternalIP', address }], daemonEndpoints: { kubeletEndpoint: { Port: 10_250 } } },
    },
    { headers: { 'content-type': 'application/merge-patch+json' } },
  );
}

describe('proxies', () => {
  it(
    'lead to the address of a Pod and to no other',
    withApi(async (t) => {
      await node(t, 'n1', '10.0.0.5');
      await podAt(t, 'good', '10.244.0.7');
      assert.equal(await led(t, `${pods}/good:8080/proxy/a?b=c`), 'http://10.244.0.7:8080/a?b=c plain');
      assert.equal(await led(t, `${pods}/https:good:8443/proxy/`), 'https://10.244.0.7:8443/ plain');
      const wrong: [string, string][] = [
        ['loop', '127.0.0.1'],
        ['loop6', '::1'],
        ['link', '169.254.169.254'],
        ['link6', 'fe80::1'],
        ['any', '0.0.0.0'],
        ['multi', '224.0.0.1'],
      ];
      for (const [name, ip] of wrong) {
        await podAt(t, name, ip);
        assert.match(await led(t, `${pods}/${name}:80/proxy/`), /^400 address not allowed/, ip);
      }
      // What hides one in another form is no address of a Pod at all.
      await assert.rejects(podAt(t, 'mapped', '::ffff:127.0.0.1'), /must not be an IPv4-mapped IPv6 address/);
      await podAt(t, 'server', '10.0.0.1');
      await podAt(t, 'host', '10.0.0.5');
      assert.match(
        await led(t, `${pods}/server:6443/proxy/`),
        /^400 address not allowed: 10.0.0.1 is an address of a node or of the API server/,
      );
      assert.match(await led(t, `${pods}/host:10250/proxy/`), /^400 address not allowed/);
      for (const name of ['ftp:good:80', 'a:b:c:d', 'http::80'])
        assert.match(await led(t, `${pods}/${name}/proxy/`), /^400 invalid pod request/, name);
      assert.match(await led(t, `${pods}/good:0/proxy/`), /^400 invalid port/);
    }),
  );

  it(
    "lead to a node's address for a Pod in the node's network, whatever its status says",
    withApi(async (t) => {
      await node(t, 'n1', '10.0.0.5');
      await podAt(t, 'own', '10.0.0.5', { hostNetwork: true });
      await podAt(t, 'lies', '10.0.0.1', { hostNetwork: true });
      assert.equal(await led(t, `${pods}/own:9100/proxy/metrics`), 'http://10.0.0.5:9100/metrics plain');
      assert.match(await led(t, `${pods}/lies:6443/proxy/`), /^400 address not allowed/);
    }),
  );

  it(
    'lead to those endpoints of a Service that are Pods',
    withApi(async (t) => {
      await node(t, 'n1', '10.0.0.5');
      await podAt(t, 'good', '10.244.0.7');
      const services = '/api/v1/namespaces/default/services';
      await t.make(services, { metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } });
      const slice = (name: string, endpoints: TestJson[]) =>
        t.make('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
          metadata: { name, labels: { 'kubernetes.io/service-name': 'web' } },
          addressType: 'IPv4',
          ports: [{ name: '', port: 8080 }],
          endpoints,
        });
      await slice('hand', [
        { addresses: ['10.0.0.1'] },
        { addresses: ['10.0.0.1'], targetRef: { kind: 'Pod', name: 'good' } },
        { addresses: ['10.0.0.1'], targetRef: { kind: 'Pod', name: 'none' } },
      ]);
      assert.match(await led(t, `${services}/web/proxy/`), /^503 no endpoints available for service "web"/);
      await slice('true', [
        { addresses: ['10.244.0.7'], targetRef: { kind: 'Pod', name: 'good', namespace: 'default' } },
      ]);
      assert.equal(await led(t, `${services}/web:80/proxy/x`), 'http://10.244.0.7:8080/x plain');
    }),
  );

  it(
    "lead to a kubelet with the API server's certificate, to other ports of a node without",
    withApi(async (t) => {
      await node(t, 'n1', '10.0.0.5');
      await node(t, 'local', '127.0.0.1');
      assert.equal(await led(t, '/api/v1/nodes/n1/proxy/healthz'), 'https://10.0.0.5:10250/healthz as API server');
      assert.equal(
        await led(t, '/api/v1/nodes/n1:10250/proxy/healthz'),
        'https://10.0.0.5:10250/healthz as API server',
      );
      assert.equal(await led(t, '/api/v1/nodes/n1:9100/proxy/metrics'), 'http://10.0.0.5:9100/metrics plain');
      assert.match(await led(t, '/api/v1/nodes/local:6443/proxy/'), /^400 address not allowed/);
    }),
  );
});
