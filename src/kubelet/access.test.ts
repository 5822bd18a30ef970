import assert from 'node:assert/strict';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { Pod } from '#api/core.v1.ts';
import type { SubjectAccessReview } from '#api/authorization.v1.ts';
import type { TokenReview } from '#api/authentication.v1.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { ContainerStats } from '#engine/engine.ts';
import type { NodeReading } from './doors.ts';
import type { StorageReading } from './local-storage.ts';
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

/** The Pod of these containers, what it has on disk, and what its node has. */
const web: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'web',
    namespace: 'shop',
    uid: 'u1',
    resourceVersion: '1',
    creationTimestamp: '2026-01-01T00:00:00Z',
  },
  spec: {
    containers: [{ name: 'app' }, { name: 'helper' }],
    volumes: [
      { name: 'scratch', emptyDir: {} },
      { name: 'data', persistentVolumeClaim: { claimName: 'data' } },
    ],
  },
};
const disk = { capacityBytes: 1_000, availableBytes: 600, inodes: 100, inodesFree: 60 };
const reading: NodeReading = {
  memoryCapacityBytes: 0,
  memoryAvailableBytes: 0,
  nodefs: disk,
  pidsMax: 100,
  pidsUsed: 10,
};
const stored: StorageReading = {
  atMs: 0,
  roots: new Map([['app', { bytes: 70, inodes: 7 }]]),
  logs: new Map([['app', { bytes: 5, inodes: 1 }]]),
  volumes: new Map([['scratch', { bytes: 20, inodes: 2, isOnDisk: true }]]),
  claims: new Map([['data', { ...disk, availableBytes: 900 }]]),
  others: { bytes: 1, inodes: 1 },
};

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
      kubelet: {
        pods: () => [web],
        podByName: (namespace, name) => (namespace === 'shop' && name === 'web' ? web : undefined),
        reading: async () => reading,
        storage: async () => stored,
      },
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
        memoryRssBytes: 0,
        memoryBytes: 1_000,
        swapUsedBytes: 0,
        swapFreeBytes: 0,
        links: [],
        cores: 2,
        readAtMs: 0,
        bootedAtMs: 0,
      }),
      configuration: { port: 10_250 },
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
  assert.match(await ask('/metrics', { token: 'of-prometheus' }), /^200 measured\n/);
  assert.match(await ask('/metrics', { token: 'of-prometheus' }), /^200 measured\n/);
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
  assert.match(await ask('/metrics', { certificate: issue('kube-apiserver-kubelet-client') }), /^200 measured\n/);
  assert.equal(asked.length, 1);
});

test('figures of claims stand beside what the kubelet measures of itself', async () => {
  const text = await ask('/metrics', { token: 'of-prometheus' });
  for (const line of ['capacity_bytes', 'available_bytes', 'used_bytes'])
    assert.match(
      text,
      new RegExp(`^kubelet_volume_stats_${line}\\{namespace="shop",persistentvolumeclaim="data"\\} \\d+$`, 'm'),
    );
  assert.ok(text.includes('kubelet_volume_stats_inodes_used{namespace="shop",persistentvolumeclaim="data"} 40'));
});

test('resources are told of containers, Pods and the node', async () => {
  const text = await ask('/metrics/resource', { token: 'of-prometheus' });
  for (const line of [
    /^container_cpu_usage_seconds_total\{container="app",namespace="shop",pod="web"\} 2.5 \d+$/m,
    /^pod_memory_working_set_bytes\{namespace="shop",pod="web"\} 4096 \d+$/m,
    /^node_swap_usage_bytes 0 0$/m,
    /^resource_scrape_error 0$/m,
  ])
    assert.match(text, line);
});

test('the summary tells what Pods take of disk, unless only processor and memory are asked for', async () => {
  const certificate = issue('kube-apiserver-kubelet-client');
  const { node, pods } = JSON.parse((await ask('/stats/summary', { certificate })).slice(4));
  assert.equal(node.fs.usedBytes, 400);
  assert.deepEqual([node.rlimit.maxpid, node.rlimit.curproc], [100, 10]);
  const [pod] = pods;
  assert.deepEqual([pods.length, pod.containers.length, pod.process_stats.process_count], [1, 2, 4]);
  assert.equal(pod.containers[0].rootfs.usedBytes, 70);
  assert.equal(pod.containers[0].logs.usedBytes, 5);
  assert.equal(pod['ephemeral-storage'].usedBytes, 70 + 5 + 20 + 1);
  assert.deepEqual(
    pod.volume.map(({ name, usedBytes, pvcRef }: Record<string, unknown>) => [name, usedBytes, pvcRef]),
    [
      ['scratch', 20, undefined],
      ['data', 100, { name: 'data', namespace: 'shop' }],
    ],
  );
  const small = JSON.parse((await ask('/stats/summary?only_cpu_and_memory=true', { certificate })).slice(4));
  assert.deepEqual(
    [small.pods[0].volume, small.pods[0].containers[0].rootfs, small.pods[0].memory.workingSetBytes],
    [undefined, undefined, 4096],
  );
});

test('the configuration is shown, and no container is checkpointed', async () => {
  const certificate = issue('kube-apiserver-kubelet-client');
  assert.equal(await ask('/configz', { certificate }), '200 {"kubeletconfig":{"port":10250}}');
  const checkpoint = (path: string): Promise<string> => ask(`/checkpoint/${path}`, { certificate, method: 'POST' });
  assert.equal(
    await checkpoint('shop/web/app'),
    '500 checkpointing of shop/web/app failed (rpc error: code = Unimplemented desc = method CheckpointContainer not implemented)\n',
  );
  assert.equal(await checkpoint('shop/web/none'), '404 container none does not exist\n');
  assert.equal(await checkpoint('shop/none/app'), '404 pod does not exist\n');
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
