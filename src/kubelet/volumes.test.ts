import type { Pod, Volume } from '#api/core.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtemp, readFile, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { VolumeContext } from './volume-sources.ts';
import { mountVolumes } from './volumes.ts';
import { stored } from './stored.testing.ts';

async function inDirectory(
  run: (directory: string, context: (data: Record<string, string>) => VolumeContext) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'volumes-'));
  const context = (data: Record<string, string>): VolumeContext => ({
    paths: {
      podsDir: join(directory, 'pods'),
      secretsDir: join(directory, 'secrets'),
      logsDir: join(directory, 'logs'),
    },
    downward: { nodeAllocatable: { cpu: 1, memory: 1, ephemeralStorage: 1 }, podIp: '10.244.0.2', hostIp: '10.0.0.1' },
    nowMs: 1_700_000_000_000,
    sources: {
      configMap: async () => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...stored, name: 'c' }, data }),
      secret: async () => undefined,
      claim: async () => undefined,
      persistentVolume: async () => undefined,
      token: async () => ({ token: 't', expiresAtMs: 1_700_003_600_000 }),
      trustAnchors: async () => 'anchors\n',
      certificate: async () => ({ keyPem: 'key\n', chainPem: 'chain\n' }),
      mountTmpfs: async () => {},
      unmount: async () => {},
      isMounted: async () => false,
    },
  });
  try {
    await run(directory, context);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
const pod = (volumes: Volume[]): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'p', namespace: 'default', uid: 'u' },
  spec: { containers: [], volumes },
});

test('a changed ConfigMap appears whole, by one swapped link', async () => {
  await inDirectory(async (_directory, context) => {
    const subject = pod([{ name: 'config', configMap: { name: 'c' } }]);
    const path = (await mountVolumes(subject, context({ a: '1', b: '1' }))).get('config')!.path;
    const first = await readlink(join(path, '..data'));
    await mountVolumes(subject, context({ a: '1', b: '1' }));
    assert.equal(await readlink(join(path, '..data')), first, 'the same content is not written again');
    await mountVolumes(subject, context({ a: '2', c: '2' }));
    assert.notEqual(await readlink(join(path, '..data')), first);
    assert.equal(await readFile(join(path, 'a'), 'utf8'), '2');
    await assert.rejects(stat(join(path, 'b')), 'a key that went takes its file with it');
    await assert.rejects(stat(join(path, first)), 'the old directory is removed');
  });
});

test('items choose keys, paths and modes, and no path leads out', async () => {
  await inDirectory(async (_directory, context) => {
    const path = (
      await mountVolumes(
        pod([{ name: 'v', configMap: { name: 'c', items: [{ key: 'a', path: 'sub/x', mode: 0o400 }] } }]),
        context({ a: '1' }),
      )
    ).get('v')!.path;
    assert.equal((await stat(join(path, 'sub/x'))).mode & 0o777, 0o400);
    await assert.rejects(
      mountVolumes(
        pod([{ name: 'v', configMap: { name: 'c', items: [{ key: 'a', path: '../../x' }] } }]),
        context({ a: '1' }),
      ),
      /MountVolume.SetUp failed for volume "v".*invalid path/,
    );
  });
});

test('a missing Secret is named, and an optional one is an empty volume', async () => {
  await inDirectory(async (_directory, context) => {
    await assert.rejects(
      mountVolumes(pod([{ name: 'v', secret: { secretName: 'gone' } }]), context({})),
      /secret "gone" not found/,
    );
    await mountVolumes(pod([{ name: 'v', secret: { secretName: 'gone', optional: true } }]), context({}));
  });
});

test('a generic ephemeral volume is the claim that was made for this very Pod', async () => {
  await inDirectory(async (directory, context) => {
    const sources = (owner: string): VolumeContext => {
      const base = context({});
      return {
        ...base,
        sources: {
          ...base.sources,
          claim: async (_namespace, name) =>
            name === 'p-scratch'
              ? {
                  apiVersion: 'v1',
                  kind: 'PersistentVolumeClaim',
                  metadata: {
                    ...stored,
                    name,
                    ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: owner, controller: true }],
                  },
                  spec: { volumeName: 'pv' },
                  status: { phase: 'Bound' },
                }
              : undefined,
          persistentVolume: async () => ({
            apiVersion: 'v1',
            kind: 'PersistentVolume',
            metadata: { ...stored, name: 'pv' },
            spec: { local: { path: directory } },
          }),
        },
      };
    };
    const subject = pod([{ name: 'scratch', ephemeral: { volumeClaimTemplate: { spec: {} } } }]);
    assert.deepEqual((await mountVolumes(subject, sources('u'))).get('scratch'), { path: directory, readOnly: false });
    await assert.rejects(
      mountVolumes(subject, sources('other')),
      /was not created for pod default\/p \(pod is not owner\)/,
    );
  });
});

test('what a volume asks for and this node has not is refused', async () => {
  await inDirectory(async (_directory, context) => {
    await assert.rejects(
      mountVolumes(pod([{ name: 'v', emptyDir: { medium: 'HugePages-2Mi' } }]), context({})),
      /medium "HugePages-2Mi" of an emptyDir is not supported/,
    );
    await assert.rejects(
      mountVolumes(pod([{ name: 'v', projected: { sources: [{}] } }]), context({})),
      /projected sources of this kind are not supported by this node: none/,
    );
  });
});

test('a certificate of its own and trust anchors are files like any other, for the Pod alone', async () => {
  await inDirectory(async (_directory, context) => {
    const subject = pod([
      {
        name: 'v',
        projected: {
          sources: [
            { clusterTrustBundle: { name: 'roots', path: 'roots.pem' } },
            {
              podCertificate: {
                signerName: 'example.com/pods',
                keyType: 'ED25519',
                credentialBundlePath: 'bundle.pem',
                certificateChainPath: 'own/chain.pem',
              },
            },
          ],
        },
      },
    ]);
    subject.spec.containers = [{ name: 'c', securityContext: { runAsUser: process.getuid?.() ?? 0 } }];
    const path = (await mountVolumes(subject, context({}))).get('v')!.path;
    assert.equal(await readFile(join(path, 'roots.pem'), 'utf8'), 'anchors\n');
    assert.equal(await readFile(join(path, 'bundle.pem'), 'utf8'), 'key\nchain\n');
    assert.equal(await readFile(join(path, 'own/chain.pem'), 'utf8'), 'chain\n');
    assert.equal((await stat(join(path, 'bundle.pem'))).mode & 0o777, 0o600);
  });
});
