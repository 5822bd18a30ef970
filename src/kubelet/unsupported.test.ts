import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { podHostname } from './container-spec.ts';
import { podResources, qosClassOf } from './qos.ts';
import { checkRuntimeClass } from './runtime-class.ts';
import { ignoredFields, unsupportedPart } from './unsupported.ts';
import { stored } from './stored.testing.ts';

const pod = (spec: TestJson): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'web', namespace: 'ns', uid: 'u' },
  spec: { containers: [{ name: 'c' }], ...spec },
});

test('a Pod that would run otherwise than it asks is refused', () => {
  const reasonOf = (spec: TestJson): string => unsupportedPart(pod(spec))?.reason ?? 'none';
  assert.deepEqual([{}, { os: { name: 'linux' } }, { hostUsers: true }].map(reasonOf), ['none', 'none', 'none']);
  assert.equal(reasonOf({ os: { name: 'windows' } }), 'PodOSNotSupported');
  for (const spec of [
    { hostUsers: false },
    { resourceClaims: [{ name: 'gpu' }] },
    { containers: [{ name: 'c', resources: { claims: [{ name: 'gpu' }] } }] },
    { containers: [{ name: 'c', volumeDevices: [{ name: 'v', devicePath: '/dev/x' }] }] },
  ])
    assert.equal(reasonOf(spec), 'UnexpectedAdmissionError');
});

test('a field without effect is told, once for each place', () => {
  assert.deepEqual(ignoredFields(pod({ securityContext: { fsGroup: 1 } })), []);
  const told = ignoredFields(
    pod({
      securityContext: { seLinuxOptions: { level: 's0' } },
      containers: [{ name: 'c', securityContext: { windowsOptions: {} } }],
      volumes: [{ name: 'v', secret: { defaultUser: 5 } }],
    }),
  );
  assert.deepEqual(
    told.map((text) => text.split(' has no')[0]),
    ['seLinuxOptions of spec', 'windowsOptions of container "c"', 'defaultUser of volume "v"'],
  );
});

test('the hostname is the override, the full name where it is asked for and fits, or the short one', () => {
  assert.equal(podHostname(pod({}), 'd'), 'web');
  assert.equal(podHostname(pod({ setHostnameAsFQDN: true }), 'd'), 'web');
  assert.equal(
    podHostname(pod({ setHostnameAsFQDN: true, subdomain: 'sub', hostname: 'h' }), 'cluster.local'),
    'h.sub.ns.svc.cluster.local',
  );
  assert.equal(podHostname(pod({ hostnameOverride: 'other.example', hostname: 'h' }), 'd'), 'other.example');
  assert.throws(
    () => podHostname(pod({ setHostnameAsFQDN: true, subdomain: 's'.repeat(60) }), 'd'),
    /FQDN .* is too long \(64 characters is the max/,
  );
});

test('a runtime that the node does not have is asked for in vain', async () => {
  const client = {
    get: async () => ({
      apiVersion: 'node.k8s.io/v1',
      kind: 'RuntimeClass',
      metadata: { ...stored, name: 'x' },
      handler: 'kata',
    }),
  } as never;
  await checkRuntimeClass(pod({}), client);
  await assert.rejects(
    checkRuntimeClass(pod({ runtimeClassName: 'x' }), client),
    /no runtime for "kata" is configured/,
  );
  await checkRuntimeClass(pod({ runtimeClassName: 'x' }), {
    get: async () => ({ metadata: { ...stored, name: 'c' }, handler: 'runc' }),
  } as never);
});

test('what the Pod says of itself as a whole goes before the sum of its containers', () => {
  const subject = pod({
    resources: { limits: { cpu: '2', memory: '1Gi' }, requests: { cpu: '2', memory: '1Gi' } },
    containers: [{ name: 'a', resources: { limits: { memory: '64Mi' } } }, { name: 'b' }],
  });
  assert.deepEqual(podResources(subject), {
    cpuShares: 2048,
    cpuPeriodUs: 100_000,
    cpuQuotaUs: 200_000,
    memoryLimitBytes: 1 << 30,
  });
  assert.equal(qosClassOf(subject), 'Guaranteed');
  const heavy = pod({
    overhead: { cpu: '500m', memory: '1Mi' },
    containers: [{ name: 'a', resources: { limits: { cpu: '1', memory: '1Mi' } } }],
  });
  assert.deepEqual(podResources(heavy), {
    cpuShares: 1536,
    cpuPeriodUs: 100_000,
    cpuQuotaUs: 150_000,
    memoryLimitBytes: 2 << 20,
  });
});
