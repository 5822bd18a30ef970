/**
 * Binds claims to volumes, frees volumes whose claims are gone, and provisions `tiphys.io/local-path` volumes: a
 * directory on the node that the scheduler chose, as a hostPath volume with node affinity (the kubelet makes the
 * directory). Claims and volumes in use are protected by finalizers until they are not. Spec: Kubernetes documentation,
 * "Persistent Volumes" (life cycle), "Storage Classes".
 */
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { isReason } from '#base/errors.ts';
import type { EventRecorder } from '#client/events.ts';
import { type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { WorkQueue } from '#client/work-queue.ts';
import {
  bindCompleted,
  type ClaimAction,
  localPathProvisioner,
  localPathVolume,
  planClaim,
  planVolume,
  selectedNode,
  volumeProtection,
} from './claim-plan.ts';
import { isEqual } from './equality.ts';
import { isPodTerminal } from './pods.ts';
import {
  addFinalizer,
  type Controller,
  type ControllerContext,
  createQueue,
  deleteIfPresent,
  recorderOf,
  removeFinalizer,
} from './runtime.ts';

const claimProtection = 'kubernetes.io/pvc-protection';
const boundByController = 'pv.kubernetes.io/bound-by-controller';
const defaultClassAnnotation = 'storageclass.kubernetes.io/is-default-class';

export interface VolumeOptions {
  /** Directory on every node under which local-path volumes are made. */ directory: string;
  /** Create the default StorageClass `local-path`. */ createClass: boolean;
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
      await addFinalizer(this.#context, kinds.PersistentVolumeClaim, claim, claimProtection);
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
      bound = await client.patch(kinds.PersistentVolume, volume.metadata, {
        merge: { metadata: { resourceVersion: volume.metadata.resourceVersion, annotations }, spec: { claimRef } },
      });
    }
    if (bound.status?.phase !== 'Bound')
      bound = await client.patch(
        kinds.PersistentVolume,
        volume.metadata,
        { merge: { status: { phase: 'Bound' } } },
        { subresource: 'status' },
      );
    if (claim.metadata.annotations?.[bindCompleted] === undefined || claim.spec.volumeName !== volume.metadata.name) {
      const byUs = claim.spec.volumeName === undefined ? { [boundByController]: 'yes' } : {};
      await client.patch(kinds.PersistentVolumeClaim, claim.metadata, {
        merge: {
          metadata: { uid, annotations: { [bindCompleted]: 'yes', ...byUs } },
          spec: { volumeName: volume.metadata.name },
        },
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
        claim.metadata,
        { merge: { status: { phase: 'Bound', accessModes: volume.spec.accessModes, capacity: volume.spec.capacity } } },
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
        await this.#context.client.patch(kinds.PersistentVolumeClaim, claim.metadata, {
          merge: {
            metadata: {
              uid: claim.metadata.uid,
              resourceVersion: claim.metadata.resourceVersion,
              annotations: { [selectedNode]: null },
            },
          },
        });
      return;
    }
    const directory = storageClass.parameters?.path ?? this.#options.directory;
    const volume = localPathVolume(claim, storageClass, node, directory);
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

  /**
   * A claim that goes keeps until no Pod uses it; a Pod that has no node yet gets none any more while its claim goes.
   */
  async #release(claim: PersistentVolumeClaim, key: string): Promise<void> {
    for (const pod of this.#pods.by('claim', key)) if (pod.spec?.nodeName && !isPodTerminal(pod)) return;
    await removeFinalizer(this.#context, kinds.PersistentVolumeClaim, claim, claimProtection);
  }

  async #reconcileVolume(name: string): Promise<void> {
    const volume = this.#volumes.get(name);
    if (volume === undefined) return;
    const reference = volume.spec.claimRef;
    const claim = reference === undefined ? undefined : this.#claims.get(`${reference.namespace}/${reference.name}`);
    const { client } = this.#context;
    if (volume.metadata.deletionTimestamp !== undefined) {
      const inUse = claim !== undefined && claim.metadata.uid === reference?.uid;
      if (!inUse) await removeFinalizer(this.#context, kinds.PersistentVolume, volume, volumeProtection);
      return;
    }
    if (!(volume.metadata.finalizers ?? []).includes(volumeProtection)) {
      await addFinalizer(this.#context, kinds.PersistentVolume, volume, volumeProtection);
      return;
    }
    const plan = planVolume(volume, claim);
    if (volume.status?.phase !== plan.phase)
      await client.patch(
        kinds.PersistentVolume,
        volume.metadata,
        { merge: { status: { phase: plan.phase } } },
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
