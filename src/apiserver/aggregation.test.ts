/** An API server that is aggregated: found, asked with who asks, told of in discovery, and missed when it is gone. */
import assert from 'node:assert/strict';
import { createServer, type Server as HttpsServer } from 'node:https';
import { validateHeaderName, validateHeaderValue, type IncomingMessage } from 'node:http';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { identityHeaders } from './aggregation.ts';
import { createRemoteCaller } from './aggregation-client.ts';
import { connectionOf } from './connect.ts';
import { createTestApi } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const authority = createCertificateAuthority('remote-ca', realRandom, realClock);
const frontProxyCa = createCertificateAuthority('front-proxy-ca', realRandom, realClock);
const issue = (commonName: string, ca: KeyPair, dnsNames: string[] = []): KeyPair =>
  issueCertificate({ commonName, dnsNames, server: true, client: true }, ca, realRandom, realClock);

/** An extension server that knows the front proxy by its certificate, on loopback. */
class Remote implements AsyncDisposable {
  readonly asked: { path: string; user: string; groups: string; proxy: string }[] = [];
  /** Of each request, a line's value each. */
  readonly groups: string[][] = [];
  status = 200;
  readonly #server: HttpsServer;

  constructor() {
    const own = issue('remote', authority, ['remote.default.svc']);
    this.#server = createServer(
      { cert: own.certificatePem, key: own.keyPem, ca: frontProxyCa.certificatePem, requestCert: true },
      (request, response) => {
        this.#note(request);
        response.writeHead(this.status, { 'content-type': 'application/json' });
        const resources = [
          { name: 'flunders', singularName: 'flunder', namespaced: true, kind: 'Flunder', verbs: ['get', 'list'] },
          { name: 'flunders/status', singularName: '', namespaced: true, kind: 'Flunder', verbs: ['get'] },
        ];
        response.end(JSON.stringify({ kind: 'APIResourceList', groupVersion: 'wardle.example.com/v1', resources }));
      },
    );
  }

  #note({ url = '', headers, headersDistinct, socket }: IncomingMessage): void {
    this.groups.push(headersDistinct['x-remote-group'] ?? []);
    const proxy = 'getPeerCertificate' in socket ? String(Object(Object(socket).getPeerCertificate()).subject?.CN) : '';
    this.asked.push({
      path: url,
      user: String(headers['x-remote-user']),
      groups: String(headers['x-remote-group']),
      proxy,
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const services = '/apis/apiregistration.k8s.io/v1/apiservices';
const apiService = (extra: TestJson = {}): TestJson => ({
  metadata: { name: 'v1.wardle.example.com' },
  spec: {
    group: 'wardle.example.com',
    version: 'v1',
    groupPriorityMinimum: 2000,
    versionPriority: 200,
    service: { name: 'remote', namespace: 'default', port: 443 },
    caBundle: Buffer.from(authority.certificatePem).toString('base64'),
    ...extra,
  },
});

async function serviceOf(t: TestApi, port: number): Promise<void> {
  await t.make('/api/v1/namespaces/default/services', {
    metadata: { name: 'remote' },
    spec: { ports: [{ name: 'https', port: 443, targetPort: port }] },
  });
  await t.make('/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
    metadata: { name: 'remote-1', labels: { 'kubernetes.io/service-name': 'remote' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.0.0.9'], conditions: { ready: true } }],
    ports: [{ name: 'https', port }],
  });
}

/** The APIService's condition, once it has the reason. */
async function condition(t: TestApi, reason: string): Promise<TestJson> {
  for (;;) {
    const { status } = (await t.call('GET', `${services}/v1.wardle.example.com`)).body;
    const found = status?.conditions?.[0];
    if (found?.reason === reason) return found;
    t.clock.advance(1_000);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Cluster addresses lead nowhere here: what would go to the Service goes to the server itself. */
function reach(t: TestApi, port: number): void {
  const ask = createRemoteCaller(() => issue('front-proxy-client', frontProxyCa));
  t.api.server.callRemote = (target, request) => ask({ ...target, host: '127.0.0.1', port }, request);
}

describe('an aggregated API server', () => {
  it('is found, told who asks, and listed with its resources', async () => {
    await using t = await createTestApi();
    await using remote = new Remote();
    const port = await remote.listen();
    reach(t, port);
    await serviceOf(t, port);
    await t.make(services, apiService());
    assert.equal((await condition(t, 'Passed')).status, 'True');
    assert.deepEqual(remote.asked[0], {
      path: '/apis/wardle.example.com/v1',
      user: 'system:kube-aggregator',
      groups: 'system:masters',
      proxy: 'front-proxy-client',
    });
    const groups = (await t.call('GET', '/apis')).body.groups.map((group: TestJson) => group.name);
    assert.ok(groups.includes('wardle.example.com'));
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
    const discovered = await t.call('GET', '/apis', undefined, { headers: { accept } });
    const [version] = discovered.body.items.find(
      (each: TestJson) => each.metadata.name === 'wardle.example.com',
    ).versions;
    assert.equal(version.freshness, 'Current');
    assert.deepEqual(
      version.resources.map((each: TestJson) => [each.resource, each.scope, each.subresources[0].subresource]),
      [['flunders', 'Namespaced', 'status']],
    );
    const index = (await t.call('GET', '/openapi/v3')).body.paths;
    assert.ok('apis/wardle.example.com/v1' in index);
    const path = '/apis/wardle.example.com/v1/namespaces/default/flunders?limit=5';
    const answer = await t.api.handle({
      method: 'GET',
      path: path.split('?')[0]!,
      query: new URLSearchParams('limit=5'),
      headers: {},
      user: { name: 'jane', groups: ['system:masters', 'dev'], extra: { 'example.com/a': ['x'] } },
      signal: new AbortController().signal,
    });
    const connection = connectionOf(answer);
    assert.equal(connection?.path, path);
    assert.deepEqual(connection?.remote?.headers, {
      'x-remote-user': 'jane',
      'x-remote-group': ['system:masters', 'dev', 'system:authenticated'],
      'x-remote-extra-example.com%2fa': ['x'],
    });
  });

  it('that is not there is told of with the reason, and refused', async () => {
    await using t = await createTestApi();
    await using remote = new Remote();
    const port = await remote.listen();
    reach(t, port);
    await t.make(services, apiService());
    assert.match((await condition(t, 'ServiceNotFound')).message, /service\/remote in "default" is not present/);
    const refused = await t.call('GET', '/apis/wardle.example.com/v1/flunders');
    assert.equal(refused.status, 503);
    assert.equal(refused.body.message, 'service unavailable');
    await serviceOf(t, port);
    await condition(t, 'Passed');
    remote.status = 500;
    t.clock.advance(30_000);
    assert.match((await condition(t, 'FailedDiscoveryCheck')).message, /bad status from .*: 500$/);
    const measured = (await t.call('GET', '/metrics')).text;
    assert.match(measured, /aggregator_unavailable_apiservice\{name="v1.wardle.example.com"\} 1/);
    assert.match(measured, /apiservice_total\{name="v1.wardle.example.com",reason="FailedDiscoveryCheck"\} 1/);
    remote.status = 200;
    await condition(t, 'Passed');
    assert.match((await t.call('GET', '/metrics')).text, /unavailable_apiservice\{name="v1.wardle.example.com"\} 0/);
    await t.call('DELETE', `${services}/v1.wardle.example.com`);
    assert.equal((await t.call('GET', '/apis/wardle.example.com/v1/flunders')).status, 404);
  });

  it('is asked only where the caller may ask, and must be who it says', async () => {
    await using t = await createTestApi();
    await using remote = new Remote();
    const port = await remote.listen();
    reach(t, port);
    await serviceOf(t, port);
    await t.make(services, apiService({ caBundle: Buffer.from(frontProxyCa.certificatePem).toString('base64') }));
    assert.match((await condition(t, 'FailedDiscoveryCheck')).message, /failing or missing response from https:/);
    assert.equal(remote.asked.length, 0);
    const joe = { user: { name: 'joe', groups: ['system:authenticated'] } };
    assert.equal((await t.call('GET', '/apis/wardle.example.com/v1/flunders', undefined, joe)).status, 403);
  });

  it('that claims the group of APIServices, or one of this server, can be removed again', async () => {
    await using t = await createTestApi();
    const claims = ['apiregistration.k8s.io', 'rbac.authorization.k8s.io', 'apps'];
    for (const group of claims) {
      const { spec } = apiService();
      const claimed = await t.call('GET', `${services}/v1.${group}`);
      const body = { ...claimed.body, spec: { ...spec, group } };
      assert.equal((await t.call('PUT', `${services}/v1.${group}`, body)).status, 200);
    }
    assert.equal((await t.call('GET', '/apis/apps/v1/deployments')).status, 503);
    for (const group of claims) assert.equal((await t.call('DELETE', `${services}/v1.${group}`)).status, 200);
    assert.equal((await t.call('GET', '/apis/apps/v1/deployments')).status, 200);
  });

  it('is told names as they are, each on a line of its own, or is not asked', () => {
    const groups = ['a,b', 'ж'];
    const headers = identityHeaders({ name: 'é', groups, extra: { 'Über(x)': ['1'] } });
    assert.deepEqual(headers, {
      'x-remote-user': Buffer.from('é').toString('latin1'),
      'x-remote-group': ['a,b', Buffer.from('ж').toString('latin1')],
      'x-remote-extra-%c3%9cber%28x%29': ['1'],
    });
    for (const [name, value] of Object.entries(headers)) {
      validateHeaderName(name);
      for (const each of [value].flat()) validateHeaderValue(name, each);
    }
    assert.throws(() => identityHeaders({ name: 'a\r\nx-remote-group: system:masters', groups: [] }), /invalid header/);
  });

  it('learns of each group of a caller of this process', async () => {
    await using t = await createTestApi();
    await using remote = new Remote();
    const port = await remote.listen();
    reach(t, port);
    await serviceOf(t, port);
    await t.make(services, apiService());
    await condition(t, 'Passed');
    await t.api.handle({
      method: 'GET',
      path: '/apis/wardle.example.com/v1',
      query: new URLSearchParams(),
      headers: {},
      user: { name: 'jane', groups: ['system:masters', 'dev'] },
      wantsObject: true,
      signal: new AbortController().signal,
    });
    assert.deepEqual(remote.groups.at(-1), ['system:masters', 'dev', 'system:authenticated']);
  });
});
