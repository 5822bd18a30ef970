import assert from 'node:assert/strict';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { SubjectAccessReview } from '#api/authorization.v1.ts';
import type { TokenReview } from '#api/authentication.v1.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { ContainerStats } from '#engine/engine.ts';
import { labelContainerName, labelPodName, labelPodNamespace, labelPodUid } from './pod-labels.ts';
import { startKubeletServer } from './server.ts';

/** What each was asked for, and the answers: Prometheus' token is known, and it may read metrics. */
const asked: object[] = [];
const client = {
  create: async (_kind: unknown, review: TokenReview | SubjectAccessReview) => {
    asked.push(review.spec);
    if (review.kind === 'TokenReview')
      return review.spec.token === 'of-prometheus'
        ? { ...review, status: { authenticated: true, user: { username: 'prometheus', groups: ['monitors'] } } }
        : { ...review, status: { authenticated: false } };
    const { user, resourceAttributes } = review.spec;
    const allowed = user === 'prometheus' && resourceAttributes?.subresource === 'metrics';
    return { ...review, status: { allowed } };
  },
} as unknown as Client;

const stats: ContainerStats = {
  cpuNanoseconds: 2_500_000_000,
  cpuUserNanoseconds: 2_000_000_000,
  cpuSystemNanoseconds: 500_000_000,
  cpuPeriods: 10,
  cpuThrottledPeriods: 3,
  cpuThrottledNanoseconds: 1_000_000_000,
  memoryUsageBytes: 4096,
  memoryWorkingSetBytes: 2048,
  memoryMaxUsageBytes: 8192,
  memoryLimitBytes: Number.MAX_SAFE_INTEGER,
  memoryRssBytes: 1024,
  memoryCacheBytes: 512,
  memorySwapBytes: 0,
  pids: 2,
  readAtMs: 5_000,
  links: [
    {
      name: 'eth0',
      rxBytes: 7,
      rxPackets: 1,
      rxErrors: 0,
      rxDropped: 0,
      txBytes: 9,
      txPackets: 1,
      txErrors: 0,
      txDropped: 0,
    },
  ],
  blockReadBytes: 0,
  blockWriteBytes: 0,
  blockReads: 0,
  blockWrites: 0,
};

function running(name: string): object {
  const labels = {
    [labelContainerName]: name,
    [labelPodName]: 'web',
    [labelPodNamespace]: 'shop',
    [labelPodUid]: 'u1',
  };
  return {
    id: `id-${name}`,
    name: `k8s_${name}`,
    image: 'busybox',
    state: 'running',
    startedAtMs: 1_000,
    labels,
    resources: {},
  };
}

const stack = new AsyncDisposableStack();
const authority = createCertificateAuthority('test', realRandom, realClock);
const issue = (commonName: string, organizations: string[] = []): KeyPair =>
  issueCertificate(
    { commonName, organizations, ipAddresses: ['127.0.0.1'], server: true, client: true },
    authority,
    realRandom,
    realClock,
  );
let port = 0;

before(async () => {
  const server = await startKubeletServer(
    {
      kubelet: { pods: () => [], podByName: () => undefined },
      engine: {
        containers: {
          list: () => [running('app'), running('helper')],
          stats: async () => stats,
        },
        sandboxes: {},
      } as never,
      clock: realClock,
      log: silentLogger,
      nodeName: 'n1',
      allowed: { commonNames: ['kube-apiserver-kubelet-client'], organizations: [] },
      client,
      nodeUsage: async () => ({
        cpuNanoseconds: 0,
        memoryWorkingSetBytes: 0,
        memoryAvailableBytes: 0,
        memoryBytes: 1_000,
        cores: 2,
        readAtMs: 0,
        bootedAtMs: 0,
      }),
      metrics: async () => ({ contentType: 'text/plain', body: 'measured\n' }),
      probeMetrics: async () => ({ contentType: 'text/plain', body: '' }),
    },
    '127.0.0.1',
    0,
  );
  const { certificatePem, keyPem } = issue('system:node:n1');
  server.setSecureContext({ cert: certificatePem, key: keyPem, ca: authority.certificatePem });
  port = (server.address() as AddressInfo).port;
  stack.defer(() => {
    server.close();
    server.closeAllConnections();
  });
});
after(() => stack.disposeAsync());

interface By {
  token?: string;
  certificate?: KeyPair;
  method?: string;
  headers?: Record<string, string>;
}

function ask(path: string, { token, certificate, method = 'GET', headers }: By = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const out = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method,
        agent: false,
        ca: authority.certificatePem,
        headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...headers },
        ...(certificate === undefined ? {} : { cert: certificate.certificatePem, key: certificate.keyPem }),
      },
      (answer) => {
        let body = '';
        answer.setEncoding('utf8').on('data', (part: string) => (body += part));
        answer.on('end', () => resolve(`${answer.statusCode} ${body}`));
      },
    );
    out.on('error', reject).end();
  });
}

test('a bearer token that the API server knows may do what it may do, and is asked about once', async () => {
  asked.length = 0;
  assert.equal(await ask('/metrics', { token: 'of-prometheus' }), '200 measured\n');
  assert.equal(await ask('/metrics', { token: 'of-prometheus' }), '200 measured\n');
  assert.deepEqual(asked, [
    { token: 'of-prometheus' },
    {
      user: 'prometheus',
      groups: ['monitors'],
      resourceAttributes: {
        verb: 'get',
        group: '',
        version: 'v1',
        resource: 'nodes',
        subresource: 'metrics',
        name: 'n1',
      },
    },
  ]);
});

test('what is not allowed is forbidden in the words of the kubelet, also where a connection is to be upgraded', async () => {
  const words = 'Forbidden (user=prometheus, verb=get, resource=nodes, subresource(s)=[pods proxy])';
  assert.equal(await ask('/pods', { token: 'of-prometheus' }), `403 ${words}\n`);
  assert.match(
    await ask('/exec/shop/web/app?command=id&output=1', {
      token: 'of-prometheus',
      method: 'POST',
      headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1' },
    }),
    /^403 Forbidden \(user=prometheus, verb=create, resource=nodes, subresource\(s\)=\[proxy\]\)/,
  );
});

test('an unknown token and nobody at all are refused', async () => {
  assert.equal(await ask('/metrics', { token: 'of-nobody' }), '401 Unauthorized\n');
  assert.equal(await ask('/metrics'), '401 Unauthorized\n');
});

test('a certificate of the authority says who asks; the API server may do everything without being asked about', async () => {
  asked.length = 0;
  assert.match(await ask('/metrics', { certificate: issue('jane', ['readers']) }), /^403 Forbidden \(user=jane, /);
  const [{ user, groups } = {}] = asked as { user?: string; groups?: string[] }[];
  assert.deepEqual([user, groups], ['jane', ['readers', 'system:authenticated']]);
  assert.equal(await ask('/metrics', { certificate: issue('kube-apiserver-kubelet-client') }), '200 measured\n');
  assert.equal(asked.length, 1);
});

test("containers and Pods are measured with cAdvisor's names", async () => {
  const text = await ask('/metrics/cadvisor', { token: 'of-prometheus' });
  const of = 'id="/kubepods/podu1/id-app",image="busybox",name="k8s_app",namespace="shop",pod="web"';
  for (const line of [
    `container_cpu_usage_seconds_total{container="app",${of},cpu="total"} 2.5`,
    `container_memory_working_set_bytes{container="app",${of}} 2048`,
    `container_spec_memory_limit_bytes{container="app",${of}} 0`,
    `container_cpu_cfs_throttled_periods_total{container="app",${of}} 3`,
    'container_memory_rss{container="",id="/kubepods/podu1",image="",name="",namespace="shop",pod="web"} 2048',
    'container_network_transmit_bytes_total{container="",id="/kubepods/podu1",image="",name="",namespace="shop",pod="web",interface="eth0"} 9',
    'machine_cpu_cores 2',
  ])
    assert.ok(text.includes(`\n${line}\n`), `${line} in ${text}`);
  assert.ok(text.includes('# TYPE container_cpu_usage_seconds_total counter'));
});
