/**
 * Nothing of a Pod is accepted in silence: every field that the API takes in a PodSpec is read by some code that acts
 * on it, or it is on the list below with what becomes of it. The look is by the field's name in the code of the folders
 * that act (validation alone does not count), so a field whose name others have too may hide; one that is on the list
 * and is read by now must leave it.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Pod } from '#api/core.v1.ts';
import { mountVolumes } from '#kubelet/volumes.ts';
import { typeOf } from '#schema/types.ts';
import type { TypeNode } from '#schema/types.ts';
import { parseSource, walk } from './parse.ts';

const root = resolve(fileURLToPath(import.meta.url), '../../..');
const acting = ['kubelet', 'scheduler', 'controllers', 'network', 'apiserver', 'engine'];

/** Fields that nothing acts on, by `Type.field`, and what a user gets instead. The list only shrinks. */
const exceptions: Record<string, string> = {
  ...Object.fromEntries(
    foreignVolumes().map((source) => [
      `Volume.${source}`,
      'the Pod waits with FailedMount: no volume plugin matched (kubelet/volumes.ts)',
    ]),
  ),
};

/** Types whose fields do not matter one by one: the whole is refused where it is used, with the reason. */
const refusedWholly: Record<string, string> = {
  WindowsSecurityContextOptions: 'windowsOptions has no effect: event FieldIgnored (kubelet/unsupported.ts)',
  VolumeDevice: 'a Pod with volumeDevices is refused (kubelet/unsupported.ts)',
  PodResourceClaim: 'a Pod with resourceClaims is refused (kubelet/unsupported.ts)',
  PodSchedulingGroup: 'schedulingGroup has no effect: event FieldIgnored (kubelet/unsupported.ts)',
  ClusterTrustBundleProjection: 'refused with the projection',
  PodCertificateProjection: 'refused with the projection',
  CSIVolumeSource: 'no volume plugin matched',
  EphemeralVolumeSource: 'its template becomes a claim as it is (controllers/ephemeral-volume.ts)',
  ImageVolumeSource: 'no volume plugin matched',
  AWSElasticBlockStoreVolumeSource: 'no volume plugin matched',
  AzureDiskVolumeSource: 'no volume plugin matched',
  AzureFileVolumeSource: 'no volume plugin matched',
  CephFSVolumeSource: 'no volume plugin matched',
  CinderVolumeSource: 'no volume plugin matched',
  FCVolumeSource: 'no volume plugin matched',
  FlexVolumeSource: 'no volume plugin matched',
  FlockerVolumeSource: 'no volume plugin matched',
  GCEPersistentDiskVolumeSource: 'no volume plugin matched',
  ISCSIVolumeSource: 'no volume plugin matched',
  PhotonPersistentDiskVolumeSource: 'no volume plugin matched',
  PortworxVolumeSource: 'no volume plugin matched',
  QuobyteVolumeSource: 'no volume plugin matched',
  RBDVolumeSource: 'no volume plugin matched',
  ScaleIOVolumeSource: 'no volume plugin matched',
  StorageOSVolumeSource: 'no volume plugin matched',
  VsphereVirtualDiskVolumeSource: 'no volume plugin matched',
};

/** Sources of volumes that need a plugin of somebody else's. */
function foreignVolumes(): string[] {
  return [
    'awsElasticBlockStore',
    'azureDisk',
    'azureFile',
    'cephfs',
    'cinder',
    'fc',
    'flexVolume',
    'flocker',
    'gcePersistentDisk',
    'gitRepo',
    'glusterfs',
    'iscsi',
    'nfs',
    'photonPersistentDisk',
    'portworxVolume',
    'quobyte',
    'rbd',
    'scaleIO',
    'storageos',
    'vsphereVolume',
  ];
}

/** `Type.field` of everything below a type; each type once. */
function fieldsBelow(name: string): { key: string; field: string }[] {
  const out: { key: string; field: string }[] = [];
  const seen = new Set<string>();
  const visit = (node: TypeNode): void => {
    if (node.kind === 'list' || node.kind === 'map') {
      visit(node.item);
      return;
    }
    if (node.kind !== 'object' || node.name === undefined || seen.has(node.name)) return;
    seen.add(node.name);
    const type = node.name.slice(node.name.indexOf('/') + 1);
    if (type in refusedWholly) return;
    for (const field of node.fields.values()) {
      out.push({ key: `${type}.${field.name}`, field: field.name });
      visit(field.type);
    }
  };
  visit(typeOf(name));
  return out;
}

/** Names and texts of the code that acts; comments are none. */
function actingWords(): Set<string> {
  const words = new Set<string>();
  for (const folder of acting) {
    for (const entry of readdirSync(join(root, 'src', folder), { recursive: true, encoding: 'utf8' })) {
      if (!entry.endsWith('.ts') || entry.endsWith('.test.ts')) continue;
      for (const node of walk(parseSource(readFileSync(join(root, 'src', folder, entry), 'utf8')))) {
        if (node.type === 'Identifier') words.add(String(node['name']));
        if (node.type === 'Literal' && typeof node['value'] === 'string')
          for (const word of node['value'].match(/\w+/g) ?? []) words.add(word);
      }
    }
  }
  return words;
}

test('volumes of other plugins are refused by name when the Pod is to start', async () => {
  for (const source of [...foreignVolumes(), 'csi']) {
    const pod: Pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p', namespace: 'default', uid: 'u', resourceVersion: '1', creationTimestamp: '' },
      spec: { containers: [], volumes: [{ name: 'v', [source]: {} }] },
    };
    await assert.rejects(mountVolumes(pod, undefined as never), new RegExp(`no volume plugin matched name: ${source}`));
  }
});

test('every field of a Pod is acted on, or is on the list with its reason', () => {
  const words = actingWords();
  const silent = fieldsBelow('core.v1/PodSpec')
    .filter(({ field }) => !words.has(field))
    .map(({ key }) => key);
  assert.deepEqual(
    silent.filter((key) => !(key in exceptions)),
    [],
    'act on them, refuse them or warn of them',
  );
  assert.deepEqual(
    Object.keys(exceptions).filter((key) => !silent.includes(key)),
    [],
    'these are acted on by now: take them off the list',
  );
});
