/**
 * Objects as a live cluster has them, made manifests again: without what the server, controllers and kubelets have
 * added. Used for a live cluster's copy and for files that `kubectl get -o yaml` has written. Pure.
 */
import type { Job } from '#api/batch.v1.ts';
import type { Node, Pod, Service } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isOf, type KubeObject, type OpenObject } from '#base/objects.ts';
import { formatQuantity, parseQuantity, subtractQuantities } from '#base/quantity.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import type { NamedObject } from '#sim/manifests.ts';
import type { NamedNode } from '#sim/rehearse/types.ts';

/** Kinds whose controllers run in a rehearsal: what they own is made again. */
const simulatedOwners = new Set([
  'Deployment',
  'ReplicaSet',
  'StatefulSet',
  'DaemonSet',
  'Job',
  'CronJob',
  'ReplicationController',
  'Service',
  'Endpoints',
  'PersistentVolumeClaim',
  'Pod',
  'Node',
]);
const madeByServer = new Set([
  'Event',
  'Endpoints',
  'EndpointSlice',
  'Lease',
  'ControllerRevision',
  'ComponentStatus',
  'PodMetrics',
  'NodeMetrics',
  'CSINode',
  'VolumeAttachment',
  'IPAddress',
  'ServiceCIDR',
  'CertificateSigningRequest',
  'APIService',
  'FlowSchema',
  'PriorityLevelConfiguration',
  'MutatingWebhookConfiguration',
  'ValidatingWebhookConfiguration',
  'CSIStorageCapacity',
]);
const ownAnnotations =
  /^(kubectl\.kubernetes\.io\/last-applied-configuration|deployment\.kubernetes\.io\/|pv\.kubernetes\.io\/(bind-completed|bound-by-controller)|volume\.(beta\.)?kubernetes\.io\/(selected-node|storage-provisioner)|deprecated\.daemonset\.template\.generation|control-plane\.alpha\.kubernetes\.io\/)/;
const mirror = 'kubernetes.io/config.mirror';
const injectedVolume = /^kube-api-access-/;

/** Whether the object was read from a server. */
export function isFromServer({ metadata }: KubeObject): boolean {
  return metadata?.uid !== undefined;
}

function isDone(object: KubeObject): boolean {
  if (isOf(kinds.Pod, object)) return object.status?.phase === 'Succeeded' || object.status?.phase === 'Failed';
  return (
    isOf(kinds.Job, object) &&
    (object.status?.conditions ?? []).some(
      ({ type, status }) => (type === 'Complete' || type === 'Failed') && status === 'True',
    )
  );
}

function isOfTheServer(object: KubeObject): boolean {
  const { kind, metadata } = object;
  const name = metadata.name ?? '';
  if (madeByServer.has(kind)) return true;
  if (kind === 'ConfigMap')
    return (
      name === 'kube-root-ca.crt' || name === 'extension-apiserver-authentication' || name.startsWith('cluster-info')
    );
  if (kind === 'ServiceAccount') return name === 'default';
  if (kind === 'Service') return metadata.namespace === 'default' && name === 'kubernetes';
  if (kind === 'PriorityClass') return name.startsWith('system-');
  if (kind === 'Secret')
    return ['kubernetes.io/service-account-token', 'helm.sh/release.v1', 'bootstrap.kubernetes.io/token'].includes(
      textOf(object, 'type') ?? '',
    );
  return /^(Cluster)?Role(Binding)?$/.test(kind);
}

const jobLabels = ['controller-uid', 'job-name', 'batch.kubernetes.io/controller-uid', 'batch.kubernetes.io/job-name'];

function cleanService({ spec }: Service): void {
  if (spec.clusterIP !== 'None') {
    delete spec.clusterIP;
    delete spec.clusterIPs;
  }
  for (const field of ['ipFamilies', 'ipFamilyPolicy', 'healthCheckNodePort'] as const) delete spec[field];
}

function cleanJob({ spec }: Job): void {
  if (spec.manualSelector === true) return;
  delete spec.selector;
  for (const label of jobLabels) delete spec.template.metadata?.labels?.[label];
}

function cleanPod({ spec }: Pod): void {
  for (const field of ['priority', 'preemptionPolicy', 'serviceAccount'] as const) delete spec[field];
  spec.volumes = (spec.volumes ?? []).filter(({ name }) => !injectedVolume.test(name));
  for (const container of [...(spec.initContainers ?? []), ...spec.containers])
    container.volumeMounts = (container.volumeMounts ?? []).filter(({ name }) => !injectedVolume.test(name));
}

/** Takes out of a specification what the server, controllers and kubelets have put there; changes it in place. */
function cleanSpec(object: KubeObject): void {
  if (fieldOf(object, 'spec') === undefined) return;
  if (isOf(kinds.Service, object)) cleanService(object);
  else if (isOf(kinds.Namespace, object)) delete object.spec.finalizers;
  else if (isOf(kinds.PersistentVolume, object)) {
    delete object.spec.claimRef?.uid;
    delete object.spec.claimRef?.resourceVersion;
  } else if (isOf(kinds.StatefulSet, object))
    for (const template of object.spec.volumeClaimTemplates ?? []) delete template.status;
  else if (isOf(kinds.Job, object)) cleanJob(object);
  else if (isOf(kinds.Pod, object)) cleanPod(object);
  else if (isOf(kinds.CustomResourceDefinition, object) && object.spec.conversion?.strategy === 'Webhook')
    object.spec.conversion = { strategy: 'None' };
}

/** The manifest, or why there is none: `undefined` where nothing is lost by that, words where a user should know. */
export function cleaned(object: NamedObject): { manifest: NamedObject } | { leftOut: string | undefined } {
  const { name, namespace, labels, annotations, ownerReferences } = object.metadata;
  const owner = ownerReferences?.find(({ controller }) => controller === true);
  if (
    isOfTheServer(object) ||
    isDone(object) ||
    object.metadata.deletionTimestamp !== undefined ||
    (owner !== undefined && simulatedOwners.has(owner.kind)) ||
    annotations?.[mirror] !== undefined
  )
    return { leftOut: undefined };
  if (owner !== undefined && object.kind === 'Pod')
    return {
      leftOut: `Pod ${namespace}/${name} is left out: it belongs to ${owner.kind} ${owner.name}, whose controller does not run here`,
    };
  const { status: _status, ...rest }: OpenObject = { ...structuredClone(object) };
  cleanSpec(rest);
  if (object.kind === 'ServiceAccount') delete rest['secrets'];
  const kept = Object.entries(annotations ?? {}).filter(([key]) => !ownAnnotations.test(key));
  return {
    manifest: {
      ...rest,
      metadata: {
        name,
        ...(namespace === undefined ? {} : { namespace }),
        ...(labels === undefined ? {} : { labels }),
        ...(kept.length === 0 ? {} : { annotations: Object.fromEntries(kept) }),
      },
    },
  };
}

/** What is looked at of a node, be it live or in a file. */
type LiveNode = Pick<Manifest<Node>, 'spec' | 'status'> & Pick<NamedObject, 'metadata'>;

/** A live node to simulate. `taken` are requests of Pods there that are not copied. */
export function simulatedNode(node: LiveNode, taken: { cpu?: string; memory?: string }[] = []): NamedNode {
  const amounts: Record<string, string> = node.status?.allocatable ?? node.status?.capacity ?? {};
  const { cpu, memory, pods, ...extended } = amounts;
  const left = (whole: string | undefined, resource: 'cpu' | 'memory'): string | undefined => {
    if (whole === undefined) return undefined;
    const rest = taken.reduce(
      (sum, requests) =>
        requests[resource] === undefined ? sum : subtractQuantities(sum, parseQuantity(requests[resource])),
      parseQuantity(whole),
    );
    return formatQuantity(rest.nano < 0n ? { ...rest, nano: 0n } : rest);
  };
  const taints = (node.spec?.taints ?? [])
    .filter(({ key }) => !key.startsWith('node.kubernetes.io/'))
    .map(({ key, value, effect }) => ({ key, effect, ...(value === undefined ? {} : { value }) }));
  const isReady = (node.status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True');
  const images = (node.status?.images ?? []).flatMap(({ names }) => names ?? []);
  const [freeCpu, freeMemory] = [left(cpu, 'cpu'), left(memory, 'memory')];
  return {
    name: node.metadata.name,
    labels: node.metadata.labels ?? {},
    extended,
    ...(freeCpu === undefined ? {} : { cpu: freeCpu }),
    ...(freeMemory === undefined ? {} : { memory: freeMemory }),
    ...(pods === undefined ? {} : { pods: Number(pods) }),
    ...(taints.length === 0 ? {} : { taints }),
    ...(images.length === 0 ? {} : { images }),
    ...(node.spec?.unschedulable === true ? { unschedulable: true } : {}),
    ...(isReady || node.status === undefined ? {} : { isDown: true }),
  };
}

/** A simulated node as a manifest, from which `simulatedNode` makes the same again. */
export function nodeManifest({
  name,
  labels,
  cpu,
  memory,
  pods,
  extended,
  taints,
  images,
  unschedulable,
  isDown,
}: NamedNode): Manifest<Node> & NamedObject {
  const amounts = {
    ...extended,
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
    ...(pods === undefined ? {} : { pods: String(pods) }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: labels ?? {} },
    spec: { ...(taints === undefined ? {} : { taints }), ...(unschedulable === true ? { unschedulable: true } : {}) },
    status: {
      allocatable: amounts,
      conditions: [{ type: 'Ready', status: isDown === true ? 'Unknown' : 'True' }],
      ...(images === undefined ? {} : { images: [{ names: images }] }),
    },
  };
}

/** What Pods that are not copied take of each node: static Pods, and those of controllers that do not run here. */
export function takenByNode(pods: readonly Pod[]): Map<string, { cpu?: string; memory?: string }[]> {
  const taken = new Map<string, { cpu?: string; memory?: string }[]>();
  for (const pod of pods) {
    const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true);
    const isForeign =
      pod.metadata.annotations?.[mirror] !== undefined || (owner !== undefined && !simulatedOwners.has(owner.kind));
    const { nodeName, containers } = pod.spec;
    if (!isForeign || isDone(pod) || nodeName === undefined) continue;
    const requests = containers.map(({ resources }) => resources?.requests ?? {});
    taken.set(nodeName, [...(taken.get(nodeName) ?? []), ...requests]);
  }
  return taken;
}
