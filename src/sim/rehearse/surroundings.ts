/**
 * What a rehearsed cluster has around it that is not part of it: the programs in its Pods, images and how long they
 * take to pull, and network storage - volumes for claims of any class but `local-path`, which every node can attach (of
 * known block storage: every node of the zone).
 */
import type { Deployment, StatefulSet } from '#api/apps.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { InformerFactory, type Informer } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { localPathProvisioner } from '#controllers/claim-plan.ts';
import type { Client } from '#client/client.ts';
import type { Cluster } from '../cluster.ts';
import { watchSecondsMax } from '../limits.ts';
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
  readonly #claims: Informer;
  readonly #classes: Informer;
  readonly #nodes: Informer;
  readonly #made = new Set<string>();

  constructor(client: Client, informers: InformerFactory) {
    this.#client = client;
    this.#claims = informers.informer(kinds.PersistentVolumeClaim);
    this.#classes = informers.informer(kinds.StorageClass);
    this.#nodes = informers.informer(kinds.Node);
    const see = (claim: KubeObject): void => {
      void this.#provide(claim);
    };
    this.#claims.addHandler({ added: see, updated: see });
    this.#classes.addHandler({
      added: () => {
        for (const claim of this.#claims.list()) see(claim);
      },
    });
  }

  async #provide(claim: KubeObject): Promise<void> {
    const { uid, name, namespace, annotations } = claim.metadata;
    const { storageClassName, volumeName, resources, accessModes, volumeMode } = claim['spec'];
    const storageClass = this.#classes.get(storageClassName ?? '');
    const provisioner: string = storageClass?.['provisioner'] ?? localPathProvisioner;
    if (
      volumeName !== undefined ||
      this.#made.has(uid!) ||
      provisioner === localPathProvisioner ||
      provisioner === 'kubernetes.io/no-provisioner'
    )
      return;
    const node = annotations?.[selectedNode];
    if (storageClass!['volumeBindingMode'] === 'WaitForFirstConsumer' && node === undefined) return;
    this.#made.add(uid!);
    const zone =
      zonal.has(provisioner) && node !== undefined ? this.#nodes.get(node)?.metadata.labels?.[zoneLabel] : undefined;
    const volume: KubeObject = {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: `pvc-${uid}` },
      spec: {
        capacity: { storage: resources.requests.storage },
        accessModes,
        storageClassName,
        persistentVolumeReclaimPolicy: storageClass!['reclaimPolicy'] ?? 'Delete',
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
      if (!isReason(error, 'AlreadyExists')) this.#made.delete(uid!);
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
  const targets = [kinds.Deployment, kinds.StatefulSet].map((kind) => ({
    kind,
    informer: informers.informer<Deployment | StatefulSet>(kind),
  }));
  new NetworkStorage(client, informers);
  informers.start();
  await informers.synced();
  let aims: { key: string; list: ReturnType<typeof aimsOf> } = { key: '', list: [] };
  const currentAims = (): ReturnType<typeof aimsOf> => {
    const key = `${autoscalers.version} ${targets.map(({ informer }) => informer.size).join(' ')}`;
    if (aims.key !== key)
      aims = {
        key,
        list: aimsOf(
          autoscalers.list(),
          targets.flatMap(({ kind, informer }) => informer.list().map((object) => ({ ...object, kind: kind.kind }))),
        ),
      };
    return aims.list;
  };
  cluster.scripts.add(scriptRule(slowPullMs, currentAims));
  return { [Symbol.asyncDispose]: () => informers[Symbol.asyncDispose]() };
}

/** Classes that claims of these manifests name and that are not among them. */
export function unknownClasses(objects: readonly KubeObject[]): string[] {
  const known = new Set([
    'local-path',
    '',
    ...objects.filter(({ kind }) => kind === 'StorageClass').map(({ metadata }) => metadata.name!),
  ]);
  const claims = objects.flatMap(
    (object) =>
      (object.kind === 'PersistentVolumeClaim'
        ? [object]
        : (object['spec']?.volumeClaimTemplates ?? [])) as KubeObject[],
  );
  // A claim that names its volume needs no class.
  return [
    ...new Set(
      claims
        .filter((claim) => claim['spec']?.volumeName === undefined)
        .map((claim) => claim['spec']?.storageClassName as string | undefined)
        .filter((name) => name !== undefined && !known.has(name)) as string[],
    ),
  ].sort();
}

/** What is there for such a name. */
export function networkClass(name: string): KubeObject {
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name },
    provisioner: networkProvisioner,
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'WaitForFirstConsumer',
  };
}
