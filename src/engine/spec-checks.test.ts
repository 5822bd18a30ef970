import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerSpec, Resources } from './engine.ts';
import { checkResources, checkSpecTexts, parseCpuset } from './spec-checks.ts';

const spec: ContainerSpec = {
  name: 'n',
  owner: 'docker',
  image: 'i',
  imageId: 'i',
  env: [],
  tty: false,
  openStdin: false,
  stdinOnce: false,
  labels: {},
  mounts: [],
  resources: {},
  security: {},
  network: { type: 'none' },
};

test('a NUL is refused in every text that the kernel would cut', () => {
  const mount = { type: 'bind' as const, source: '/a', target: '/b', readOnly: false };
  const bad: Partial<ContainerSpec>[] = [
    { env: ['A=b\0c'] },
    { command: ['a\0'] },
    { entrypoint: ['\0'] },
    { workingDir: '/\0' },
    { user: 'a\0' },
    { groupAdd: ['\0'] },
    { hostname: 'a\0b' },
    { domainname: '\0' },
    { extraHosts: ['a\0:1.2.3.4'] },
    { sysctls: { 'net.x': '\0' } },
    { mounts: [{ ...mount, source: '/a\0' }] },
    { mounts: [{ ...mount, target: '/b\0' }] },
    { resources: { devices: [{ hostPath: '/dev/a\0', containerPath: '/dev/a', permissions: '' }] } },
    { cgroupParent: '/\0' },
    { dns: { servers: [], search: ['\0'], options: [] } },
  ];
  for (const more of bad)
    assert.throws(() => checkSpecTexts({ ...spec, ...more }), /it contains a NUL/, JSON.stringify(more));
  checkSpecTexts({ ...spec, labels: { a: 'b\0c' }, env: ['A=b'], mounts: [mount] });
});

test('limits that contradict each other are refused', () => {
  const bad: [Resources, RegExp][] = [
    [{ memoryLimitBytes: 1 }, /Minimum memory limit/],
    [{ memoryLimitBytes: -5 }, /Minimum memory limit/],
    [{ memorySwapBytes: 1 }, /always set the Memory limit/],
    [{ cpuPeriodUs: -1 }, /CFS|cfs/],
    [{ oomScoreAdj: 1001 }, /\[-1000, 1000\]/],
    [{ cpusetCpus: '0-x' }, /cpuset cpus/],
    [{ cpusetMems: '3-1' }, /cpuset mems/],
    [{ ulimits: [{ name: 'nofile', soft: 2, hard: 1 }] }, /2 > 1/],
    [{ cpuShares: -1 }, /CPU shares/],
  ];
  for (const [resources, pattern] of bad) assert.throws(() => checkResources(resources), pattern);
  checkResources({
    memoryLimitBytes: 64 * 1024 * 1024,
    memorySwapBytes: -1,
    cpuQuotaUs: -1,
    cpusetCpus: '0-2,4',
    ulimits: [{ name: 'core', soft: -1, hard: -1 }],
  });
  assert.deepEqual(parseCpuset('0-2,4'), [
    { from: 0, to: 2 },
    { from: 4, to: 4 },
  ]);
});
