/**
 * Claims of a Pod against a node: bound volumes must be reachable from it, unbound ones that wait for their first
 * consumer need a free volume there or a provisioner. The outcome names what to write once the node is chosen.
 * Spec: Kubernetes documentation, "Storage Classes" (volume binding mode, allowed topologies), "Persistent Volumes"
 * (binding).
 */
import type { PersistentVolume, PersistentVolumeClaim } from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { compareQuantities } from '#base/quantity.ts';
import { matchesLabels, matchesSelectorObject } from '#base/selectors.ts';
import { matchesNodeTerm, type Rejection } from './filters.ts';
import type { NodeInfo } from './node-info.ts';
import { nodeSelectorTerm, type PodInfo } from './pod-info.ts';
import type { Snapshot, VolumeView } from './snapshot.ts';

export interface VolumeState {
  bound: PersistentVolume[];
  waiting: { claim: PersistentVolumeClaim; storageClass: StorageClass }[];
}
export interface VolumeChoice {
  bind: { claim: PersistentVolumeClaim; volume: PersistentVolume }[];
  provision: PersistentVolumeClaim[];
}

/** A string is why the Pod cannot be placed anywhere now. */
export function prepareVolumes(pod: PodInfo, view: VolumeView): VolumeState | string | undefined {
  if (pod.claims.length === 0) return undefined;
  const state: VolumeState = { bound: [], waiting: [] };
  for (const name of pod.claims) {
    const claim = view.claim(pod.namespace, name);
    if (claim === undefined) return `persistentvolumeclaim "${name}" not found`;
    if (claim.metadata.deletionTimestamp !== undefined) return `persistentvolumeclaim "${name}" is being deleted`;
    if (claim.status?.phase === 'Lost')
      return `persistentvolumeclaim "${name}" bound to non-existent persistentvolume "${claim.spec.volumeName}"`;
    const volumeName: string | undefined = claim.spec.volumeName;
    if (volumeName !== undefined && volumeName !== '') {
      const volume = view.volume(volumeName);
      if (volume === undefined) return `persistentvolume "${volumeName}" not found`;
      if (claim.metadata.annotations?.['pv.kubernetes.io/bind-completed'] === undefined)
        return 'pod has unbound immediate PersistentVolumeClaims';
      state.bound.push(volume);
      continue;
    }
    const className: string = claim.spec.storageClassName ?? '';
    const storageClass = className === '' ? undefined : view.storageClass(className);
    if (storageClass?.volumeBindingMode !== 'WaitForFirstConsumer')
      return 'pod has unbound immediate PersistentVolumeClaims';
    state.waiting.push({ claim, storageClass });
  }
  return state;
}

function volumeReachable(volume: PersistentVolume, node: { labels: Record<string, string>; name: string }): boolean {
  const terms = volume.spec.nodeAffinity?.required?.nodeSelectorTerms;
  return terms === undefined || terms.some((term) => matchesNodeTerm(nodeSelectorTerm(term), node.labels, node.name));
}

/** Whether a volume can serve a claim: class, modes, size, selector, and free or promised to this very claim. */
function volumeFits(volume: PersistentVolume, claim: PersistentVolumeClaim): boolean {
  const { spec } = volume;
  const wanted = claim.spec;
  const reference = spec.claimRef;
  if (
    reference !== undefined &&
    (reference.namespace !== claim.metadata.namespace ||
      reference.name !== claim.metadata.name ||
      (reference.uid !== undefined && reference.uid !== claim.metadata.uid))
  )
    return false;
  if (
    volume.metadata.deletionTimestamp !== undefined ||
    (volume.status?.phase !== undefined && !['Available', 'Pending', 'Bound'].includes(volume.status.phase))
  )
    return false;
  if (
    (spec.storageClassName ?? '') !== (wanted.storageClassName ?? '') ||
    (spec.volumeMode ?? 'Filesystem') !== (wanted.volumeMode ?? 'Filesystem')
  )
    return false;
  if (!(wanted.accessModes ?? []).every((mode) => (spec.accessModes ?? []).includes(mode))) return false;
  if (wanted.selector !== undefined && !matchesSelectorObject(wanted.selector, volume.metadata.labels)) return false;
  return compareQuantities(spec.capacity?.storage ?? '0', wanted.resources?.requests?.storage ?? '0') >= 0;
}

/** The smallest free volume that fits, reachable from the node when one is given. */
function findVolume(
  claim: PersistentVolumeClaim,
  candidates: Iterable<PersistentVolume>,
  node: { labels: Record<string, string>; name: string } | undefined,
  isTaken: (volume: string) => boolean,
): PersistentVolume | undefined {
  let best: PersistentVolume | undefined;
  for (const volume of candidates) {
    if (isTaken(volume.metadata.name) || !volumeFits(volume, claim)) continue;
    if (node !== undefined && !volumeReachable(volume, node)) continue;
    // A volume that names this claim is the one meant for it.
    if (volume.spec.claimRef !== undefined) return volume;
    const order =
      best === undefined
        ? -1
        : compareQuantities(volume.spec.capacity?.storage ?? '0', best.spec.capacity?.storage ?? '0');
    if (best === undefined || order < 0 || (order === 0 && volume.metadata.name < best.metadata.name)) best = volume;
  }
  return best;
}

function topologyAllowed(storageClass: StorageClass, node: NodeInfo): boolean {
  const topologies = storageClass.allowedTopologies;
  if (topologies === undefined || topologies.length === 0) return true;
  return topologies.some(({ matchLabelExpressions }) =>
    matchesLabels(
      (matchLabelExpressions ?? []).map(({ key, values }) => ({ key, operator: 'In' as const, values })),
      node.labels,
    ),
  );
}

export function chooseVolumes(state: VolumeState, node: NodeInfo, snapshot: Snapshot): VolumeChoice | Rejection {
  for (const volume of state.bound) {
    if (!volumeReachable(volume, node))
      return { plugin: 'VolumeBinding', reasons: ['node(s) had volume node affinity conflict'], resolvable: false };
    const zone = volume.metadata.labels?.['topology.kubernetes.io/zone'];
    if (zone !== undefined && !zone.split('__').includes(node.labels['topology.kubernetes.io/zone'] ?? ''))
      return { plugin: 'VolumeZone', reasons: ['node(s) had no available volume zone'], resolvable: false };
  }
  const choice: VolumeChoice = { bind: [], provision: [] };
  const taken = new Set<string>();
  for (const { claim, storageClass } of state.waiting) {
    const selected = claim.metadata.annotations?.['volume.kubernetes.io/selected-node'];
    const volume = findVolume(
      claim,
      snapshot.volumes.unboundVolumes(storageClass.metadata.name),
      node,
      (name) => taken.has(name) || snapshot.volumes.isAssumed(name),
    );
    if (volume !== undefined) {
      taken.add(volume.metadata.name);
      choice.bind.push({ claim, volume });
    } else if (storageClass.provisioner === 'kubernetes.io/no-provisioner') {
      return {
        plugin: 'VolumeBinding',
        reasons: ["node(s) didn't find available persistent volumes to bind"],
        resolvable: false,
      };
    } else if (
      !topologyAllowed(storageClass, node) ||
      (selected !== undefined && selected !== node.name && snapshot.byName.has(selected))
    ) {
      return { plugin: 'VolumeBinding', reasons: ['node(s) had volume node affinity conflict'], resolvable: false };
    } else {
      choice.provision.push(claim);
    }
  }
  return choice;
}
