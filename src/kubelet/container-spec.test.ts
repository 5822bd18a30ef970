import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import type { ContainerSpec, ImageSummary } from '#engine/engine.ts';
import { hostsText, prepareContainerFiles } from './container-files.ts';
import { makeContainerSpec } from './container-spec.ts';
import { seccompDir, type KubeletPaths } from './pod-paths.ts';
import { stored } from './stored.testing.ts';

const image: ImageSummary = {
  id: 'i',
  names: [],
  digests: [],
  sizeBytes: 1,
  createdAtMs: 0,
  isCollectable: false,
  config: {
    user: '',
    env: [],
    entrypoint: [],
    command: ['sh'],
    workingDir: '',
    volumes: [],
    exposedPorts: [],
    stopSignal: '',
    labels: {},
  },
};

async function specOf(
  spec: TestJson,
  container: TestJson,
  prepare: (paths: KubeletPaths) => void = () => {},
  look: (made: ContainerSpec) => void = () => {},
): Promise<ContainerSpec & { hostsFile: string }> {
  const home = mkdtempSync('/tmp/tiphys-spec-');
  const paths: KubeletPaths = {
    podsDir: join(home, 'pods'),
    secretsDir: join(home, 'secrets'),
    logsDir: join(home, 'logs'),
  };
  try {
    prepare(paths);
    const subject: Pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...stored, name: 'p', namespace: 'default', uid: 'u' },
      spec: { containers: [container], ...spec },
    };
    const dns = { clusterDns: '10.96.0.10', clusterDomain: 'example.test', hostResolvConf: '' };
    const common = { pod: subject, container, restartCount: 0, environment: new Map<string, string>(), dns };
    const made = makeContainerSpec({
      ...common,
      init: false,
      image,
      files: await prepareContainerFiles({ ...common, volumes: new Map(), paths, podIp: '10.0.0.2' }),
      sandboxId: 'u',
      nodeMemoryBytes: 1 << 30,
      cgroupRoot: '/x',
    });
    look(made);
    return { ...made, hostsFile: readFileSync(made.etcFiles!.hosts!, 'utf8') };
  } finally {
    rmSync(home, { recursive: true });
  }
}

test('a seccomp profile of the node is read from its file, for a container before its Pod', async () => {
  const write = (paths: KubeletPaths): void => {
    mkdirSync(join(seccompDir(paths), 'sub'), { recursive: true });
    writeFileSync(join(seccompDir(paths), 'sub/own.json'), '{"defaultAction":"SCMP_ACT_ALLOW"}');
  };
  const own = { type: 'Localhost', localhostProfile: 'sub/own.json' };
  assert.equal(
    (await specOf({}, { name: 'c', securityContext: { seccompProfile: own } }, write)).security.seccomp,
    '{"defaultAction":"SCMP_ACT_ALLOW"}',
  );
  assert.equal(
    (
      await specOf(
        { securityContext: { seccompProfile: own } },
        { name: 'c', securityContext: { seccompProfile: { type: 'RuntimeDefault' } } },
        write,
      )
    ).security.seccomp,
    'default',
  );
});

test('a seccomp profile that is not there or leads out is refused, never replaced by the default', async () => {
  await assert.rejects(
    specOf(
      { securityContext: { seccompProfile: { type: 'Localhost', localhostProfile: 'gone.json' } } },
      { name: 'c' },
    ),
    /cannot load seccomp profile ".*seccomp\/gone\.json"/,
  );
  await assert.rejects(
    specOf(
      { securityContext: { seccompProfile: { type: 'Localhost', localhostProfile: '../x.json' } } },
      { name: 'c' },
    ),
    /invalid localhost seccomp profile/,
  );
  await assert.rejects(
    specOf({ securityContext: { seccompProfile: { type: 'Localhost' } } }, { name: 'c' }),
    /invalid localhost seccomp profile/,
  );
});

test("the cluster's own domain is in the hosts file", async () => {
  assert.match(
    (await specOf({ subdomain: 'sub' }, { name: 'c' })).hostsFile,
    /10\.0\.0\.2\tp\.sub\.default\.svc\.example\.test\tp\n/,
  );
  assert.doesNotMatch(
    hostsText(
      { apiVersion: 'v1', kind: 'Pod', metadata: { ...stored, name: 'p', namespace: 'n' }, spec: { containers: [] } },
      '10.0.0.2',
      'example.test',
    ),
    /example/,
  );
});

test('a volume that is an image is mounted as one, read-only, and whoever runs may write the termination message', async () => {
  const umask = process.umask(0o077);
  try {
    const modes: number[] = [];
    const made = await specOf(
      { volumes: [{ name: 'v', image: { reference: 'tools:1' } }] },
      {
        name: 'c',
        volumeMounts: [
          { name: 'v', mountPath: '/all' },
          { name: 'v', mountPath: '/part', subPath: 'etc' },
        ],
      },
      () => {},
      ({ mounts }) => modes.push(statSync(mounts.at(-1)!.source).mode & 0o777),
    );
    assert.deepEqual(made.mounts.slice(0, 2), [
      { type: 'image', source: 'tools:1', target: '/all', readOnly: true },
      { type: 'image', source: 'tools:1', target: '/part', readOnly: true, subPath: 'etc' },
    ]);
    assert.equal(made.mounts[2]?.target, '/dev/termination-log');
    assert.deepEqual(modes, [0o666]);
  } finally {
    process.umask(umask);
  }
});
