/** Owners and modes of what a Pod's volumes hold: chown(2) needs root. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { stored } from './stored.testing.ts';
import { mountVolumes } from './volumes.ts';

const skip = process.getuid?.() !== 0 && 'needs root';
const volumes = [
  {
    name: 'token',
    projected: {
      defaultMode: 0o644,
      sources: [
        { serviceAccountToken: { path: 'token' } },
        { configMap: { name: 'c', items: [{ key: 'a', path: 'sub/a' }] } },
      ],
    },
  },
  { name: 'config', configMap: { name: 'c', defaultMode: 0o400 } },
  { name: 'secret', secret: { secretName: 's' } },
  { name: 'down', downwardAPI: { items: [{ path: 'name', fieldRef: { fieldPath: 'metadata.name' }, mode: 0o600 }] } },
];

/** `owner:group mode` of each file. */
async function modesOf(spec: TestJson): Promise<Record<string, string>> {
  const directory = mkdtempSync('/tmp/tiphys-volumes-');
  try {
    const metadata = { ...stored, name: 'o' };
    const data = { a: 'MQ==' };
    const mounted = await mountVolumes(
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { ...stored, name: 'p' },
        spec: { ...spec, volumes },
      },
      {
        paths: {
          podsDir: join(directory, 'pods'),
          secretsDir: join(directory, 'secrets'),
          logsDir: join(directory, 'logs'),
        },
        downward: { nodeAllocatable: { cpu: 1, memory: 1, ephemeralStorage: 1 }, podIp: '', hostIp: '' },
        nowMs: 1_700_000_000_000,
        sources: {
          configMap: async () => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata, data }),
          secret: async () => ({ apiVersion: 'v1', kind: 'Secret', metadata, data }),
          claim: async () => undefined,
          persistentVolume: async () => undefined,
          token: async () => ({ token: 't', expiresAtMs: 1_700_003_600_000 }),
          trustAnchors: async () => 'anchors\n',
          certificate: async () => ({ keyPem: 'key\n', chainPem: 'chain\n' }),
          mountTmpfs: async () => {},
          unmount: async () => {},
          isMounted: async () => false,
        },
      },
    );
    const show = (name: string, path: string): [string, string] => {
      const stat = statSync(join(mounted.get(name)!.path, path));
      return [`${name}/${path}`, `${stat.uid}:${stat.gid} ${(stat.mode & 0o7777).toString(8)}`];
    };
    return Object.fromEntries([
      show('token', 'token'),
      show('token', 'sub/a'),
      show('token', 'sub'),
      show('config', 'a'),
      show('secret', 'a'),
      show('down', 'name'),
    ]);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
const container = (runAsUser?: number): TestJson => ({
  name: 'c',
  ...(runAsUser === undefined ? {} : { securityContext: { runAsUser } }),
});

test('the token belongs to the one user of all containers, and to nobody else', { skip }, async () => {
  const plain = {
    'token/sub/a': '0:0 644',
    'token/sub': '0:0 755',
    'config/a': '0:0 400',
    'secret/a': '0:0 644',
    'down/name': '0:0 600',
  };
  assert.deepEqual(await modesOf({ containers: [container()] }), { 'token/token': '0:0 644', ...plain });
  for (const spec of [
    { securityContext: { runAsUser: 1000 }, containers: [container(), container()] },
    { containers: [container(1000)], initContainers: [container(1000)] },
  ]) {
    assert.deepEqual(await modesOf(spec), { 'token/token': '1000:0 600', ...plain });
  }
  for (const spec of [
    { containers: [container(1000), container(1001)] },
    { containers: [container(1000)], initContainers: [container()] },
  ])
    assert.equal((await modesOf(spec))['token/token'], '0:0 644');
});

test('a group of the Pod reads what is projected and cannot write it', { skip }, async () => {
  const grouped = {
    'token/sub/a': '0:2000 644',
    'token/sub': '0:2000 2755',
    'config/a': '0:2000 440',
    'secret/a': '0:2000 644',
    'down/name': '0:2000 640',
  };
  assert.deepEqual(await modesOf({ securityContext: { fsGroup: 2000 }, containers: [container()] }), {
    'token/token': '0:2000 640',
    ...grouped,
  });
  assert.deepEqual(await modesOf({ securityContext: { fsGroup: 2000, runAsUser: 1000 }, containers: [container()] }), {
    'token/token': '1000:2000 640',
    ...grouped,
  });
});
