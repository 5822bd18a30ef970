/**
 * Objects as a live cluster has them, made manifests again: without what the server, controllers and kubelets have
 * added. Used for a live cluster's copy and for files that `kubectl get -o yaml` has written. Pure.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { formatQuantity, parseQuantity, subtractQuantities } from '#base/quantity.ts';
import type { RehearsalNode } from '#sim/rehearse/types.ts';

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

function isDone({ kind, status }: KubeObject): boolean {
  if (kind === 'Pod') return status?.phase === 'Succeeded' || status?.phase === 'Failed';
  return (
    kind === 'Job' &&
    ((status?.conditions ?? []) as Json[]).some(
      ({ type, status: value }) => (type === 'Complete' || type === 'Failed') && value === 'True',
    )
  );
}

function isOfTheServer({ kind, metadata, ...rest }: KubeObject): boolean {
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
      rest['type'],
    );
  return /^(Cluster)?Role(Binding)?$/.test(kind);
}

const specs: Record<string, (spec: Json) => void> = {
  Service: (spec) => {
    for (const field of ['clusterIP', 'clusterIPs'])
      if (spec[field] !== 'None' && spec[field]?.[0] !== 'None') delete spec[field];
    for (const field of ['ipFamilies', 'ipFamilyPolicy', 'healthCheckNodePort']) delete spec[field];
  },
  Namespace: (spec) => {
    delete spec.finalizers;
  },
  PersistentVolume: (spec) => {
    for (const field of ['uid', 'resourceVersion']) delete spec.claimRef?.[field];
  },
  StatefulSet: (spec) => {
    for (const template of spec.volumeClaimTemplates ?? []) delete template.status;
  },
  Job: (spec) => {
    if (spec.manualSelector === true) return;
    delete spec.selector;
    for (const label of [
      'controller-uid',
      'job-name',
      'batch.kubernetes.io/controller-uid',
      'batch.kubernetes.io/job-name',
    ])
      delete spec.template.metadata?.labels?.[label];
  },
  Pod: (spec) => {
    for (const field of ['priority', 'preemptionPolicy', 'serviceAccount']) delete spec[field];
    spec.volumes = (spec.volumes ?? []).filter(({ name }: Json) => !injectedVolume.test(name));
    for (const container of [...(spec.initContainers ?? []), ...spec.containers])
      container.volumeMounts = (container.volumeMounts ?? []).filter(({ name }: Json) => !injectedVolume.test(name));
  },
  CustomResourceDefinition: (spec) => {
    if (spec.conversion?.strategy === 'Webhook') spec.conversion = { strategy: 'None' };
  },
};

/** The manifest, or why there is none: `undefined` where nothing is lost by that, words where a user should know. */
export function cleaned(object: KubeObject): { manifest: KubeObject } | { leftOut: string | undefined } {
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
  const { status: _status, ...rest } = structuredClone(object);
  if (rest['spec'] !== undefined) specs[object.kind]?.(rest['spec']);
  if (object.kind === 'ServiceAccount') delete rest['secrets'];
  const kept = Object.entries(annotations ?? {}).filter(([key]) => !ownAnnotations.test(key));
  return {
    manifest: {
      ...rest,
      metadata: {
        name: name!,
        ...(namespace === undefined ? {} : { namespace }),
        ...(labels === undefined ? {} : { labels }),
        ...(kept.length === 0 ? {} : { annotations: Object.fromEntries(kept) }),
      },
    },
  };
}

/** A live node to simulate. `taken` are requests of Pods there that are not copied. */
export function simulatedNode(node: KubeObject, taken: { cpu?: string; memory?: string }[] = []): RehearsalNode {
  const { cpu, memory, pods, ...extended } = (node['status']?.allocatable ?? node['status']?.capacity ?? {}) as Record<
    string,
    string
  >;
  const left = (whole: string | undefined, resource: 'cpu' | 'memory'): string | undefined => {
    if (whole === undefined) return undefined;
    const rest = taken.reduce(
      (sum, requests) =>
        requests[resource] === undefined ? sum : subtractQuantities(sum, parseQuantity(requests[resource])),
      parseQuantity(whole),
    );
    return formatQuantity(rest.nano < 0n ? { ...rest, nano: 0n } : rest);
  };
  const taints = ((node['spec']?.taints ?? []) as { key: string; value?: string; effect: string }[])
    .filter(({ key }) => !key.startsWith('node.kubernetes.io/'))
    .map(({ key, value, effect }) => ({ key, effect, ...(value === undefined ? {} : { value }) }));
  const isReady = ((node['status']?.conditions ?? []) as Json[]).some(
    ({ type, status }) => type === 'Ready' && status === 'True',
  );
  const images = ((node['status']?.images ?? []) as Json[]).flatMap(({ names }) => (names ?? []) as string[]);
  const [freeCpu, freeMemory] = [left(cpu, 'cpu'), left(memory, 'memory')];
  return {
    name: node.metadata.name!,
    labels: node.metadata.labels ?? {},
    extended,
    ...(freeCpu === undefined ? {} : { cpu: freeCpu }),
    ...(freeMemory === undefined ? {} : { memory: freeMemory }),
    ...(pods === undefined ? {} : { pods: Number(pods) }),
    ...(taints.length === 0 ? {} : { taints }),
    ...(images.length === 0 ? {} : { images }),
    ...(node['spec']?.unschedulable === true ? { unschedulable: true } : {}),
    ...(isReady || node['status'] === undefined ? {} : { isDown: true }),
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
}: RehearsalNode): KubeObject {
  const amounts = {
    ...extended,
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
    ...(pods === undefined ? {} : { pods: String(pods) }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: name!, labels: labels ?? {} },
    spec: { ...(taints === undefined ? {} : { taints }), ...(unschedulable === true ? { unschedulable: true } : {}) },
    status: {
      allocatable: amounts,
      conditions: [{ type: 'Ready', status: isDown === true ? 'Unknown' : 'True' }],
      ...(images === undefined ? {} : { images: [{ names: images }] }),
    },
  };
}

/** What Pods that are not copied take of each node: static Pods, and those of controllers that do not run here. */
export function takenByNode(pods: readonly KubeObject[]): Map<string, { cpu?: string; memory?: string }[]> {
  const taken = new Map<string, { cpu?: string; memory?: string }[]>();
  for (const pod of pods) {
    const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true);
    const isForeign =
      pod.metadata.annotations?.[mirror] !== undefined || (owner !== undefined && !simulatedOwners.has(owner.kind));
    if (!isForeign || isDone(pod) || pod['spec'].nodeName === undefined) continue;
    const requests = (pod['spec'].containers as Json[]).map(
      ({ resources }) => (resources?.requests ?? {}) as { cpu?: string; memory?: string },
    );
    taken.set(pod['spec'].nodeName, [...(taken.get(pod['spec'].nodeName) ?? []), ...requests]);
  }
  return taken;
}
