/**
 * Binds claims to volumes, frees volumes whose claims are gone, and provisions `tiphys.io/local-path` volumes: a
 * directory on the node that the scheduler chose, as a hostPath volume with node affinity (the kubelet makes the
 * directory). Claims and volumes in use are protected by finalizers until they are not. Spec: Kubernetes documentation,
 * "Persistent Volumes" (life cycle), "Storage Classes".
 */
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { compareQuantities } from '#base/quantity.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { EventRecorder } from '#client/events.ts';
import { type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import type { WorkQueue } from '#client/work-queue.ts';
import { isEqual } from './equality.ts';
import { isPodTerminal } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent, recorderOf } from './runtime.ts';

export const localPathProvisioner = 'tiphys.io/local-path';
const claimProtection = 'kubernetes.io/pvc-protection';
const volumeProtection = 'kubernetes.io/pv-protection';
const bindCompleted = 'pv.kubernetes.io/bind-completed';
const boundByController = 'pv.kubernetes.io/bound-by-controller';
const selectedNode = 'volume.kubernetes.io/selected-node';
const defaultClassAnnotation = 'storageclass.kubernetes.io/is-default-class';

export interface VolumeOptions {
  /** Directory on every node under which local-path volumes are made. */ directory: string;
  /** Create the default StorageClass `local-path`. */ createClass: boolean;
}

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
  | { type: 'wait'; phase: 'Pending' | 'Lost'; event?: { type: 'Normal' | 'Warning'; reason: string; message: string } }
  | { type: 'bind'; volume: PersistentVolume }
  | { type: 'provision'; storageClass: StorageClass; node: string | undefined };

/** What to do about one claim. Pure. */
export function planClaim(
  claim: PersistentVolumeClaim,
  volumes: Iterable<PersistentVolume>,
  classOf: (name: string) => StorageClass | undefined,
): ClaimAction {
  const all = [...volumes];
  const named: string | undefined = claim.spec.volumeName;
  if (named !== undefined && named !== '') {
    const volume = all.find(({ metadata }) => metadata.name === named);
    if (volume === undefined)
      return {
        type: 'wait',
        phase: claim.metadata.annotations?.[bindCompleted] === undefined ? 'Pending' : 'Lost',
        ...(claim.metadata.annotations?.[bindCompleted] === undefined
          ? {}
          : {
              event: {
                type: 'Warning',
                reason: 'ClaimLost',
                message: 'Bound claim has lost its PersistentVolume. Data on the volume is lost!',
              },
            }),
      };
    if (volume.spec.claimRef !== undefined && !refersTo(volume, claim)) {
      return claim.metadata.annotations?.[bindCompleted] === undefined
        ? {
            type: 'wait',
            phase: 'Pending',
            event: {
              type: 'Warning',
              reason: 'FailedBinding',
              message: `volume "${named}" already bound to a different claim.`,
            },
          }
        : {
            type: 'wait',
            phase: 'Lost',
            event: {
              type: 'Warning',
              reason: 'ClaimMisbound',
              message: 'Two claims are bound to the same volume, this one is bound incorrectly',
            },
          };
    }
    return { type: 'bind', volume };
  }
  const promised = all.find(
    (volume) =>
      volume.spec.claimRef !== undefined && refersTo(volume, claim) && volume.metadata.deletionTimestamp === undefined,
  );
  if (promised !== undefined) return { type: 'bind', volume: promised };
  const className: string = claim.spec.storageClassName ?? '';
  const storageClass = className === '' ? undefined : classOf(className);
  const node = claim.metadata.annotations?.[selectedNode];
  if (storageClass?.volumeBindingMode === 'WaitForFirstConsumer' && node === undefined) {
    return {
      type: 'wait',
      phase: 'Pending',
      event: {
        type: 'Normal',
        reason: 'WaitForFirstConsumer',
        message: 'waiting for first consumer to be created before binding',
      },
    };
  }
  const free =
    storageClass?.volumeBindingMode === 'WaitForFirstConsumer'
      ? []
      : all.filter((volume) => volume.spec.claimRef === undefined && accepts(volume, claim));
  free.sort(
    (a, b) =>
      compareQuantities(a.spec.capacity?.storage ?? '0', b.spec.capacity?.storage ?? '0') ||
      (a.metadata.name < b.metadata.name ? -1 : 1),
  );
  if (free.length > 0) return { type: 'bind', volume: free[0]! };
  if (className === '')
    return {
      type: 'wait',
      phase: 'Pending',
      event: {
        type: 'Normal',
        reason: 'FailedBinding',
        message: 'no persistent volumes available for this claim and no storage class is set',
      },
    };
  if (storageClass === undefined)
    return {
      type: 'wait',
      phase: 'Pending',
      event: {
        type: 'Warning',
        reason: 'ProvisioningFailed',
        message: `storageclass.storage.k8s.io "${className}" not found`,
      },
    };
  if (storageClass.provisioner === localPathProvisioner) return { type: 'provision', storageClass, node };
  if (storageClass.provisioner === 'kubernetes.io/no-provisioner')
    return {
      type: 'wait',
      phase: 'Pending',
      event: {
        type: 'Warning',
        reason: 'ProvisioningFailed',
        message: 'no volume plugin matched name: kubernetes.io/no-provisioner',
      },
    };
  return {
    type: 'wait',
    phase: 'Pending',
    event: {
      type: 'Normal',
      reason: 'ExternalProvisioning',
      message: `Waiting for a volume to be created either by the external provisioner '${storageClass.provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`,
    },
  };
}

function localPathVolume(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  node: Node | undefined,
  nodeName: string,
  directory: string,
): Manifest<PersistentVolume> {
  const name = `pvc-${claim.metadata.uid}`;
  const hostname = node?.metadata.labels?.['kubernetes.io/hostname'] ?? nodeName;
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

/** What becomes of a volume: its phase, or its end. Pure. */
function planVolume(
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

class VolumeBinder {
  readonly #context: ControllerContext;
  readonly #options: VolumeOptions;
  readonly #claims: Informer<PersistentVolumeClaim>;
  readonly #volumes: Informer<PersistentVolume>;
  readonly #classes: Informer<StorageClass>;
  readonly #nodes: Informer<Node>;
  readonly #pods: Informer<Pod>;
  readonly #recorder: EventRecorder;
  readonly claimQueue: WorkQueue;
  readonly volumeQueue: WorkQueue;

  constructor(context: ControllerContext, options: VolumeOptions) {
    this.#context = context;
    this.#options = options;
    this.#recorder = recorderOf(context, 'persistentvolume-controller');
    const { informers } = context;
    this.#claims = informers.informer(kinds.PersistentVolumeClaim);
    this.#volumes = informers.informer(kinds.PersistentVolume).addIndex('claim', (volume) => {
      const reference = volume.spec?.claimRef;
      return reference === undefined ? undefined : `${reference.namespace}/${reference.name}`;
    });
    this.#classes = informers.informer(kinds.StorageClass);
    this.#nodes = informers.informer(kinds.Node);
    this.#pods = informers.informer(kinds.Pod).addIndex('claim', claimsUsed);
    this.claimQueue = createQueue(context, 'claim-binder', (key) =>
      key === '#class' ? this.#ensureClass() : this.#reconcileClaim(key),
    );
    this.volumeQueue = createQueue(context, 'volume-binder', (key) => this.#reconcileVolume(key));
    const onClaim = (claim: PersistentVolumeClaim): void => {
      this.claimQueue.add(keyOf(claim));
      for (const volume of this.#volumes.by('claim', keyOf(claim))) this.volumeQueue.add(volume.metadata.name);
    };
    this.#claims.addHandler({ added: onClaim, updated: onClaim, deleted: onClaim });
    const onVolume = (volume: PersistentVolume): void => {
      this.volumeQueue.add(volume.metadata.name);
      const reference = volume.spec?.claimRef;
      if (reference !== undefined) this.claimQueue.add(`${reference.namespace}/${reference.name}`);
      else this.#enqueuePending(volume.spec?.storageClassName ?? '');
    };
    this.#volumes.addHandler({ added: onVolume, updated: onVolume, deleted: onVolume });
    this.#classes.addHandler({ added: (storageClass) => this.#enqueuePending(storageClass.metadata.name) });
    const onPod = (pod: Pod): void => {
      for (const key of claimsUsed(pod))
        if (this.#claims.get(key)?.metadata.deletionTimestamp !== undefined) this.claimQueue.add(key);
    };
    this.#pods.addHandler({
      deleted: onPod,
      updated: (pod) => {
        if (isPodTerminal(pod)) onPod(pod);
      },
    });
    if (options.createClass) this.claimQueue.add('#class');
  }

  #enqueuePending(className: string): void {
    for (const claim of this.#claims.values())
      if (
        (claim.spec.storageClassName ?? '') === className &&
        claim.metadata.annotations?.[bindCompleted] === undefined
      )
        this.claimQueue.add(keyOf(claim));
  }

  async #ensureClass(): Promise<void> {
    if ([...this.#classes.values()].some(({ metadata }) => metadata.name === 'local-path')) return;
    const isDefault = ![...this.#classes.values()].some(
      ({ metadata }) => metadata.annotations?.[defaultClassAnnotation] === 'true',
    );
    try {
      await this.#context.client.create(kinds.StorageClass, {
        apiVersion: 'storage.k8s.io/v1',
        kind: 'StorageClass',
        metadata: { name: 'local-path', annotations: { [defaultClassAnnotation]: String(isDefault) } },
        provisioner: localPathProvisioner,
        reclaimPolicy: 'Delete',
        volumeBindingMode: 'WaitForFirstConsumer',
      });
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
    }
  }

  async #reconcileClaim(key: string): Promise<void> {
    const claim = this.#claims.get(key);
    if (claim === undefined) return;
    if (claim.metadata.deletionTimestamp !== undefined) {
      await this.#release(claim, key);
      return;
    }
    // Whatever was stored before the server put the finalizer there itself.
    if (!(claim.metadata.finalizers ?? []).includes(claimProtection)) {
      await this.#protect(kinds.PersistentVolumeClaim, claim, claimProtection);
      return;
    }
    const action = planClaim(claim, this.#volumes.values(), (name) => this.#classes.get(name));
    if (action.type === 'bind') await this.#bind(claim, action.volume);
    else if (action.type === 'provision') await this.#provision(claim, action.storageClass, action.node);
    else await this.#wait(claim, action);
  }

  async #wait(claim: PersistentVolumeClaim, { phase, event }: ClaimAction & { type: 'wait' }): Promise<void> {
    if (event !== undefined && (claim.status?.phase !== phase || event.reason !== 'ClaimLost'))
      this.#recorder.event(claim, event.type, event.reason, event.message);
    if (claim.status?.phase === phase) return;
    await this.#context.client.update(
      kinds.PersistentVolumeClaim,
      { ...claim, status: { ...claim.status, phase } },
      { subresource: 'status' },
    );
  }

  async #bind(claim: PersistentVolumeClaim, volume: PersistentVolume): Promise<void> {
    const { client } = this.#context;
    const { namespace, name, uid, resourceVersion } = claim.metadata;
    const reference = volume.spec.claimRef;
    let bound = volume;
    if (reference === undefined || reference.uid !== uid) {
      const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid, resourceVersion };
      const annotations = reference === undefined ? { [boundByController]: 'yes' } : {};
      bound = await client.patch(kinds.PersistentVolume, volume.metadata.name, undefined, 'merge', {
        metadata: { resourceVersion: volume.metadata.resourceVersion, annotations },
        spec: { claimRef },
      });
    }
    if (bound.status?.phase !== 'Bound')
      bound = await client.patch(
        kinds.PersistentVolume,
        volume.metadata.name,
        undefined,
        'merge',
        { status: { phase: 'Bound' } },
        { subresource: 'status' },
      );
    if (claim.metadata.annotations?.[bindCompleted] === undefined || claim.spec.volumeName !== volume.metadata.name) {
      const byUs = claim.spec.volumeName === undefined ? { [boundByController]: 'yes' } : {};
      await client.patch(kinds.PersistentVolumeClaim, name, namespace, 'merge', {
        metadata: { uid, annotations: { [bindCompleted]: 'yes', ...byUs } },
        spec: { volumeName: volume.metadata.name },
      });
    }
    const current = this.#claims.get(keyOf(claim)) ?? claim;
    const status = {
      ...current.status,
      phase: 'Bound',
      accessModes: volume.spec.accessModes,
      capacity: volume.spec.capacity,
    };
    if (!isEqual(current.status, status))
      await client.patch(
        kinds.PersistentVolumeClaim,
        name,
        namespace,
        'merge',
        { status: { phase: 'Bound', accessModes: volume.spec.accessModes, capacity: volume.spec.capacity } },
        { subresource: 'status' },
      );
  }

  async #provision(
    claim: PersistentVolumeClaim,
    storageClass: StorageClass,
    selected: string | undefined,
  ): Promise<void> {
    const node = selected === undefined ? [...this.#nodes.values()][0] : this.#nodes.get(selected);
    if (node === undefined) {
      this.#recorder.event(
        claim,
        'Warning',
        'ProvisioningFailed',
        `failed to provision volume with StorageClass "${storageClass.metadata.name}": node ${JSON.stringify(selected ?? '')} not found`,
      );
      // The scheduler is to choose again.
      if (selected !== undefined)
        await this.#context.client.patch(
          kinds.PersistentVolumeClaim,
          claim.metadata.name,
          claim.metadata.namespace,
          'merge',
          {
            metadata: {
              uid: claim.metadata.uid,
              resourceVersion: claim.metadata.resourceVersion,
              annotations: { [selectedNode]: null },
            },
          },
        );
      return;
    }
    const directory = storageClass.parameters?.path ?? this.#options.directory;
    const volume = localPathVolume(claim, storageClass, node, node.metadata.name, directory);
    try {
      await this.#context.client.create(kinds.PersistentVolume, volume);
      this.#recorder.event(
        claim,
        'Normal',
        'ProvisioningSucceeded',
        `Successfully provisioned volume ${volume.metadata.name}`,
      );
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
    }
  }

  /** The event of the change brings the object back. */
  async #protect(kind: KindRef, { metadata }: KubeObject, finalizer: string): Promise<void> {
    const finalizers = [...(metadata.finalizers ?? []), finalizer];
    await this.#context.client.patch(kind, metadata.name!, metadata.namespace, 'merge', {
      metadata: { uid: metadata.uid, resourceVersion: metadata.resourceVersion, finalizers },
    });
  }

  /**
   * A claim that goes keeps until no Pod uses it; a Pod that has no node yet gets none any more while its claim goes.
   */
  async #release(claim: PersistentVolumeClaim, key: string): Promise<void> {
    if (!(claim.metadata.finalizers ?? []).includes(claimProtection)) return;
    for (const pod of this.#pods.by('claim', key)) if (pod.spec?.nodeName && !isPodTerminal(pod)) return;
    const finalizers = claim.metadata.finalizers!.filter((name) => name !== claimProtection);
    await this.#context.client.patch(
      kinds.PersistentVolumeClaim,
      claim.metadata.name,
      claim.metadata.namespace,
      'merge',
      { metadata: { uid: claim.metadata.uid, resourceVersion: claim.metadata.resourceVersion, finalizers } },
    );
  }

  async #reconcileVolume(name: string): Promise<void> {
    const volume = this.#volumes.get(name);
    if (volume === undefined) return;
    const reference = volume.spec.claimRef;
    const claim = reference === undefined ? undefined : this.#claims.get(`${reference.namespace}/${reference.name}`);
    const { client } = this.#context;
    if (volume.metadata.deletionTimestamp !== undefined) {
      const inUse = claim !== undefined && claim.metadata.uid === reference?.uid;
      if (inUse || !(volume.metadata.finalizers ?? []).includes(volumeProtection)) return;
      const finalizers = volume.metadata.finalizers!.filter((finalizer) => finalizer !== volumeProtection);
      await client.patch(kinds.PersistentVolume, name, undefined, 'merge', {
        metadata: { uid: volume.metadata.uid, resourceVersion: volume.metadata.resourceVersion, finalizers },
      });
      return;
    }
    if (!(volume.metadata.finalizers ?? []).includes(volumeProtection)) {
      await this.#protect(kinds.PersistentVolume, volume, volumeProtection);
      return;
    }
    const plan = planVolume(volume, claim);
    if (volume.status?.phase !== plan.phase)
      await client.patch(
        kinds.PersistentVolume,
        name,
        undefined,
        'merge',
        { status: { phase: plan.phase } },
        { subresource: 'status' },
      );
    if (plan.remove === true) await deleteIfPresent(this.#context, kinds.PersistentVolume, volume);
  }
}

function claimsUsed(pod: Pod): string[] {
  const keys: string[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    if (volume.persistentVolumeClaim !== undefined)
      keys.push(`${pod.metadata.namespace}/${volume.persistentVolumeClaim.claimName}`);
    else if (volume.ephemeral !== undefined) keys.push(`${pod.metadata.namespace}/${pod.metadata.name}-${volume.name}`);
  }
  return keys;
}

export function startVolumeBinder(context: ControllerContext, options: VolumeOptions): Controller {
  const binder = new VolumeBinder(context, options);
  return { name: 'volume-binder', queues: [binder.claimQueue, binder.volumeQueue] };
}
