/**
 * What to do about a claim and about a volume: which volume a claim gets, when one is provisioned, what a claim waits
 * for and what a volume becomes once its claim is gone. Pure. Rules: Kubernetes documentation, "Persistent Volumes"
 * (binding, reclaiming), "Storage Classes" (volume binding mode).
 */
import type { Node, PersistentVolume, PersistentVolumeClaim } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { compareQuantities } from '#base/quantity.ts';
import { matchesSelectorObject } from '#base/selectors.ts';

export const localPathProvisioner = 'tiphys.io/local-path';
export const volumeProtection = 'kubernetes.io/pv-protection';
export const bindCompleted = 'pv.kubernetes.io/bind-completed';
export const selectedNode = 'volume.kubernetes.io/selected-node';

function accepts(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const { spec } = volume;
  const wanted = claim.spec;
  if (volume.metadata.deletionTimestamp !== undefined) return false;
  if (
    (spec.storageClassName ?? '') !== (wanted.storageClassName ?? '') ||
    (spec.volumeMode ?? 'Filesystem') !== (wanted.volumeMode ?? 'Filesystem')
  )
    return false;
  if (!(wanted.accessModes ?? []).every((mode) => (spec.accessModes ?? []).includes(mode))) return false;
  if (
    wanted.selector !== undefined &&
    wanted.selector !== null &&
    !matchesSelectorObject(wanted.selector, volume.metadata.labels)
  )
    return false;
  return compareQuantities(spec.capacity?.storage ?? '0', wanted.resources?.requests?.storage ?? '0') >= 0;
}

const refersTo = (volume: PersistentVolume, claim: PersistentVolumeClaim): boolean => {
  const reference = volume.spec.claimRef;
  return (
    reference?.namespace === claim.metadata.namespace &&
    reference?.name === claim.metadata.name &&
    (reference.uid === undefined || reference.uid === claim.metadata.uid)
  );
};

export type ClaimAction =
  | { type: 'wait'; phase: 'Pending' | 'Lost'; event?: ClaimEvent }
  | { type: 'bind'; volume: PersistentVolume }
  | { type: 'provision'; storageClass: StorageClass; node: string | undefined };

interface ClaimEvent {
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
}

const pending = (type: ClaimEvent['type'], reason: string, message: string): ClaimAction => ({
  type: 'wait',
  phase: 'Pending',
  event: { type, reason, message },
});
const lost = (reason: string, message: string): ClaimAction => ({
  type: 'wait',
  phase: 'Lost',
  event: { type: 'Warning', reason, message },
});

/** What to do about one claim. */
export function planClaim(
  claim: PersistentVolumeClaim,
  volumes: Iterable<PersistentVolume>,
  classOf: (name: string) => StorageClass | undefined,
): ClaimAction {
  const all = [...volumes];
  const named = claim.spec.volumeName ?? '';
  if (named !== '') return planNamedVolume(claim, named, all);
  const promised = all.find(
    (volume) =>
      volume.spec.claimRef !== undefined && refersTo(volume, claim) && volume.metadata.deletionTimestamp === undefined,
  );
  if (promised !== undefined) return { type: 'bind', volume: promised };
  const className = claim.spec.storageClassName ?? '';
  const storageClass = className === '' ? undefined : classOf(className);
  const isLate = storageClass?.volumeBindingMode === 'WaitForFirstConsumer';
  if (isLate && claim.metadata.annotations?.[selectedNode] === undefined)
    return pending('Normal', 'WaitForFirstConsumer', 'waiting for first consumer to be created before binding');
  const free = isLate ? undefined : smallestFree(claim, all);
  return free === undefined ? planProvision(claim, className, storageClass) : { type: 'bind', volume: free };
}

/** The claim says which volume it wants, or has. */
function planNamedVolume(
  claim: PersistentVolumeClaim,
  name: string,
  volumes: readonly PersistentVolume[],
): ClaimAction {
  const isBound = claim.metadata.annotations?.[bindCompleted] !== undefined;
  const volume = volumes.find(({ metadata }) => metadata.name === name);
  if (volume === undefined)
    return isBound
      ? lost('ClaimLost', 'Bound claim has lost its PersistentVolume. Data on the volume is lost!')
      : { type: 'wait', phase: 'Pending' };
  if (volume.spec.claimRef === undefined || refersTo(volume, claim)) return { type: 'bind', volume };
  return isBound
    ? lost('ClaimMisbound', 'Two claims are bound to the same volume, this one is bound incorrectly')
    : pending('Warning', 'FailedBinding', `volume "${name}" already bound to a different claim.`);
}

function smallestFree(
  claim: PersistentVolumeClaim,
  volumes: readonly PersistentVolume[],
): PersistentVolume | undefined {
  return volumes
    .filter((volume) => volume.spec.claimRef === undefined && accepts(volume, claim))
    .sort(
      (a, b) =>
        compareQuantities(a.spec.capacity?.storage ?? '0', b.spec.capacity?.storage ?? '0') ||
        (a.metadata.name < b.metadata.name ? -1 : 1),
    )[0];
}

/** What a directory of a node cannot be: a block device, or a copy of another claim or of a snapshot. */
function localPathRefusal({ spec }: PersistentVolumeClaim): string | undefined {
  if (spec.volumeMode === 'Block') return `${localPathProvisioner} does not support block volume provisioning`;
  return spec.dataSource === undefined && spec.dataSourceRef === undefined
    ? undefined
    : `plugin "${localPathProvisioner}" is not a CSI plugin. Only CSI plugin can provision a claim with a datasource`;
}

/** No volume that is there will do: who makes one? */
function planProvision(
  claim: PersistentVolumeClaim,
  className: string,
  storageClass: StorageClass | undefined,
): ClaimAction {
  if (className === '')
    return pending(
      'Normal',
      'FailedBinding',
      'no persistent volumes available for this claim and no storage class is set',
    );
  if (storageClass === undefined)
    return pending('Warning', 'ProvisioningFailed', `storageclass.storage.k8s.io "${className}" not found`);
  const { provisioner } = storageClass;
  const impossible = provisioner === localPathProvisioner ? localPathRefusal(claim) : undefined;
  if (impossible !== undefined) return pending('Warning', 'ProvisioningFailed', impossible);
  if (provisioner === localPathProvisioner)
    return { type: 'provision', storageClass, node: claim.metadata.annotations?.[selectedNode] };
  if (provisioner === 'kubernetes.io/no-provisioner')
    return pending('Warning', 'ProvisioningFailed', `no volume plugin matched name: ${provisioner}`);
  return pending(
    'Normal',
    'ExternalProvisioning',
    `Waiting for a volume to be created either by the external provisioner '${provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`,
  );
}

/** The volume that is made for a claim: a directory on the node. */
export function localPathVolume(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  node: Node,
  directory: string,
): Manifest<PersistentVolume> {
  const name = `pvc-${claim.metadata.uid}`;
  const hostname = node.metadata.labels?.['kubernetes.io/hostname'] ?? node.metadata.name;
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: {
      name,
      annotations: { 'pv.kubernetes.io/provisioned-by': localPathProvisioner },
      finalizers: [volumeProtection],
    },
    spec: {
      capacity: { storage: claim.spec.resources?.requests?.storage ?? '0' },
      accessModes: claim.spec.accessModes ?? ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
      storageClassName: storageClass.metadata.name,
      ...(storageClass.mountOptions === undefined ? {} : { mountOptions: storageClass.mountOptions }),
      hostPath: {
        path: `${directory}/${name}_${claim.metadata.namespace}_${claim.metadata.name}`,
        type: 'DirectoryOrCreate',
      },
      claimRef: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace: claim.metadata.namespace,
        name: claim.metadata.name,
        uid: claim.metadata.uid,
        resourceVersion: claim.metadata.resourceVersion,
      },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [hostname] }] },
          ],
        },
      },
    },
  };
}

/** What becomes of a volume: its phase, or its end. */
export function planVolume(
  volume: PersistentVolume,
  claim: PersistentVolumeClaim | undefined,
): { phase: string; remove?: boolean } {
  const reference = volume.spec.claimRef;
  if (reference === undefined) return { phase: 'Available' };
  if (reference.uid === undefined) return { phase: 'Available' };
  if (claim !== undefined && claim.metadata.uid === reference.uid)
    return {
      phase: claim.spec.volumeName === volume.metadata.name ? 'Bound' : (volume.status?.phase ?? 'Available'),
    };
  const policy = volume.spec.persistentVolumeReclaimPolicy ?? 'Retain';
  const ours = volume.metadata.annotations?.['pv.kubernetes.io/provisioned-by'] === localPathProvisioner;
  return policy === 'Delete' && ours ? { phase: 'Released', remove: true } : { phase: 'Released' };
}
