/**
 * What a rehearsed cluster has around it that is not part of it: the programs in its Pods, images and how long they
 * take to pull, and network storage - volumes for claims of any class but `local-path`, which every node can attach (of
 * known block storage: every node of the zone).
 */
import type { Deployment, StatefulSet } from '#api/apps.v1.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef } from '#base/objects.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import { InformerFactory, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { localPathProvisioner } from '#controllers/claim-plan.ts';
import type { Client } from '#client/client.ts';
import type { Cluster } from '../cluster.ts';
import { watchSecondsMax } from '../limits.ts';
import type { NamedObject } from '../manifests.ts';
import { aimsOf, scriptRule } from './script.ts';
import { zoneLabel } from './strike.ts';

const selectedNode = 'volume.kubernetes.io/selected-node';
const zonal = new Set([
  'ebs.csi.aws.com',
  'pd.csi.storage.gke.io',
  'disk.csi.azure.com',
  'cinder.csi.openstack.org',
  'kubernetes.io/aws-ebs',
  'kubernetes.io/gce-pd',
  'kubernetes.io/azure-disk',
]);
/** The provisioner of classes that manifests name and do not hold. */
const networkProvisioner = 'rehearse.tiphys.io/network';

class NetworkStorage {
  readonly #client: Client;
  readonly #claims: Informer<PersistentVolumeClaim>;
  readonly #classes: Informer<StorageClass>;
  readonly #nodes: Informer<Node>;
  readonly #made = new Set<string>();

  constructor(client: Client, informers: InformerFactory) {
    this.#client = client;
    this.#claims = informers.informer(kinds.PersistentVolumeClaim);
    this.#classes = informers.informer(kinds.StorageClass);
    this.#nodes = informers.informer(kinds.Node);
    const see = (claim: PersistentVolumeClaim): void => {
      void this.#provide(claim);
    };
    this.#claims.addHandler({ added: see, updated: see });
    this.#classes.addHandler({
      added: () => {
        for (const claim of this.#claims.list()) see(claim);
      },
    });
  }

  async #provide({ metadata, spec }: PersistentVolumeClaim): Promise<void> {
    const { uid, name, namespace, annotations } = metadata;
    const { storageClassName = '', volumeName, resources, accessModes = [], volumeMode } = spec;
    const storageClass = this.#classes.get(storageClassName);
    if (storageClass === undefined || volumeName !== undefined || this.#made.has(uid)) return;
    const { provisioner, volumeBindingMode, reclaimPolicy = 'Delete' } = storageClass;
    if (provisioner === localPathProvisioner || provisioner === 'kubernetes.io/no-provisioner') return;
    const node = annotations?.[selectedNode];
    if (volumeBindingMode === 'WaitForFirstConsumer' && node === undefined) return;
    this.#made.add(uid);
    const zone =
      zonal.has(provisioner) && node !== undefined ? this.#nodes.get(node)?.metadata.labels?.[zoneLabel] : undefined;
    const volume: Manifest<PersistentVolume> = {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: `pvc-${uid}` },
      spec: {
        capacity: resources?.requests ?? {},
        accessModes,
        storageClassName,
        persistentVolumeReclaimPolicy: reclaimPolicy,
        ...(volumeMode === undefined ? {} : { volumeMode }),
        csi: { driver: provisioner, volumeHandle: uid },
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid },
        ...(zone === undefined
          ? {}
          : {
              nodeAffinity: {
                required: {
                  nodeSelectorTerms: [{ matchExpressions: [{ key: zoneLabel, operator: 'In', values: [zone] }] }],
                },
              },
            }),
      },
    };
    // A name that is taken was made before this cluster was copied; while nobody answers, the claim's next change asks
    // again.
    await this.#client.create(kinds.PersistentVolume, volume).catch((error: unknown) => {
      if (!isReason(error, 'AlreadyExists')) this.#made.delete(uid);
    });
  }
}

/** Surrounds a cluster; `slowPullMs` counts for images that are not on a node yet. */
export async function surround(cluster: Cluster, slowPullMs = 0): Promise<AsyncDisposable> {
  const { client } = cluster.connect('surroundings');
  const informers = new InformerFactory({
    client,
    clock: cluster.clock,
    random: cluster.random.split(),
    log: cluster.log,
    bookmarks: false,
    watchSeconds: watchSecondsMax,
  });
  const autoscalers = informers.informer(kinds.HorizontalPodAutoscaler);
  const scaled: readonly KindRef<Deployment | StatefulSet>[] = [kinds.Deployment, kinds.StatefulSet];
  const targets = scaled.map((kind) => informers.informer(kind));
  new NetworkStorage(client, informers);
  informers.start();
  await informers.synced();
  let aims: { key: string; list: ReturnType<typeof aimsOf> } = { key: '', list: [] };
  const currentAims = (): ReturnType<typeof aimsOf> => {
    const key = `${autoscalers.version} ${targets.map(({ size }) => size).join(' ')}`;
    if (aims.key !== key)
      aims = {
        key,
        list: aimsOf(
          autoscalers.list(),
          targets.flatMap((informer) => informer.list()),
        ),
      };
    return aims.list;
  };
  cluster.scripts.add(scriptRule(slowPullMs, currentAims));
  return { [Symbol.asyncDispose]: () => informers[Symbol.asyncDispose]() };
}

/** Classes that claims of these manifests name and that are not among them. */
export function unknownClasses(objects: readonly NamedObject[]): string[] {
  const known = new Set([
    'local-path',
    '',
    ...objects.filter(({ kind }) => kind === 'StorageClass').map(({ metadata }) => metadata.name),
  ]);
  const claims = objects.flatMap((object) =>
    object.kind === 'PersistentVolumeClaim' ? [object] : itemsOf(fieldOf(object, 'spec', 'volumeClaimTemplates')),
  );
  // A claim that names its volume needs no class.
  const names = claims
    .filter((claim) => fieldOf(claim, 'spec', 'volumeName') === undefined)
    .flatMap((claim) => textOf(claim, 'spec', 'storageClassName') ?? []);
  return [...new Set(names.filter((name) => !known.has(name)))].sort();
}

/** What is there for such a name. */
export function networkClass(name: string): Manifest<StorageClass> & NamedObject {
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name },
    provisioner: networkProvisioner,
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
  };
}
