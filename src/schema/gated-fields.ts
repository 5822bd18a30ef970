/**
 * Fields of features that are off by default: kube-apiserver takes them and does not keep them, unless the stored
 * object uses the feature already (Kubernetes, "Feature Gates"; API conventions, "New field in existing API version").
 * What a kind keeps is decided by the types it is made of, so a field of a container is one of every template, too.
 * Left out is `stopSignal` of a container (ContainerStopSignals): that works here.
 */
import { isObject, type JsonObject } from '#base/unknown.ts';
import type { ObjectNode } from './types.ts';

/** By feature, the fields by their type. A feature that is in use by one of its fields is in use by all. */
const gatedFields: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  AtomicWriteVolumeUserFields: {
    'core.v1/SecretVolumeSource': ['defaultUser'],
    'core.v1/ConfigMapVolumeSource': ['defaultUser'],
    'core.v1/DownwardAPIVolumeSource': ['defaultUser'],
    'core.v1/ProjectedVolumeSource': ['defaultUser'],
    'core.v1/KeyToPath': ['user'],
    'core.v1/DownwardAPIVolumeFile': ['user'],
    'core.v1/ServiceAccountTokenProjection': ['user'],
    'core.v1/ClusterTrustBundleProjection': ['user'],
    'core.v1/PodCertificateProjection': ['user'],
  },
  CSIVolumeHealth: {
    'core.v1/PodStatus': ['volumeHealth'],
    'core.v1/PersistentVolumeClaimStatus': ['healthStatus'],
    'storage.v1/CSINodeStatus': ['storageHealth'],
  },
  CoordinatedLeaderElection: { 'coordination.v1/LeaseSpec': ['strategy', 'preferredHolder'] },
  DRADerivedAttributes: {
    'resource.v1/ExactDeviceRequest': ['derivedAttributes'],
    'resource.v1/DeviceSubRequest': ['derivedAttributes'],
  },
  DRADeviceCompatibilityGroups: { 'resource.v1/DeviceCounterConsumption': ['compatibilityGroups'] },
  DRAListTypeAttributes: { 'resource.v1/DeviceAttribute': ['bools', 'ints', 'strings', 'versions'] },
  DRANodeAllocatableResources: {
    'resource.v1/Device': ['nodeAllocatableResources'],
    'core.v1/PodStatus': ['nodeAllocatableResourceClaimStatuses'],
  },
  DRAOptionalNodeOperations: {
    'resource.v1/ResourceSliceSpec': ['skipNodeOperations'],
    'resource.v1/DeviceRequestAllocationResult': ['skipNodeOperations'],
  },
  DRAPartitionableDevicesType: { 'resource.v1/ResourceSliceSpec': ['partitionTypeAttribute'] },
  /** Removed from Kubernetes; its fields are still there. */
  DynamicKubeletConfig: { 'core.v1/NodeSpec': ['configSource'], 'core.v1/NodeStatus': ['config'] },
  EmptyDirVolumeMode: { 'core.v1/EmptyDirVolumeSource': ['mode'] },
  EvictionRequestAPI: { 'core.v1/PodSpec': ['evictionResponders'] },
  GRPCContainerProbeTLS: { 'core.v1/GRPCAction': ['mode'] },
  GenericWorkload: { 'core.v1/PodSpec': ['schedulingGroup'] },
  H2CContainerProbe: { 'core.v1/HTTPGetAction': ['protocol'] },
  ImageVolumeWithDigest: { 'core.v1/VolumeMountStatus': ['volumeStatus'] },
  InPlacePodVerticalScalingSchedulerPreemption: { 'core.v1/NodeSpec': ['podPreemptionPolicy'] },
  VolumeBindMountOptions: { 'core.v1/VolumeMount': ['bindMountOptions'] },
  WorkloadWithJob: { 'batch.v1/JobSpec': ['scheduling'] },
};

/** Of a type: its own gated fields with their features, and the fields that lead to others. */
interface Gates {
  own: readonly (readonly [field: string, feature: string])[];
  below: readonly { field: string; isMap: boolean; gates: Gates }[];
}

const byType = new Map<string, (readonly [string, string])[]>();
for (const [feature, types] of Object.entries(gatedFields))
  for (const [type, fields] of Object.entries(types))
    byType.set(type, [...(byType.get(type) ?? []), ...fields.map((field) => [field, feature] as const)]);

const known = new WeakMap<ObjectNode, Gates | null>();

/** Null where neither the type nor one below it has any. */
function gatesOf(node: ObjectNode): Gates | null {
  const found = known.get(node);
  if (found !== undefined) return found;
  // A type that contains itself ends here.
  known.set(node, null);
  const below: Gates['below'][number][] = [];
  for (const [field, { type }] of node.fields) {
    const item = type.kind === 'list' || type.kind === 'map' ? type.item : type;
    const gates = item.kind === 'object' ? gatesOf(item) : null;
    if (gates !== null) below.push({ field, isMap: type.kind === 'map', gates });
  }
  const own = byType.get(node.name ?? '') ?? [];
  const gates = own.length + below.length === 0 ? null : { own, below };
  known.set(node, gates);
  return gates;
}

type Visit = (holder: JsonObject, field: string, feature: string) => void;

/** Each gated field that is used within an object. */
function visitUsed(object: unknown, gates: Gates, visit: Visit): void {
  if (!isObject(object)) return;
  for (const [field, feature] of gates.own) if (isUsed(object[field])) visit(object, field, feature);
  for (const { field, isMap, gates: inner } of gates.below) {
    const held = object[field];
    if (Array.isArray(held)) for (const item of held) visitUsed(item, inner, visit);
    else if (!isMap) visitUsed(held, inner, visit);
    else if (isObject(held)) for (const key in held) visitUsed(held[key], inner, visit);
  }
}

function isUsed(value: unknown): boolean {
  return value !== undefined && value !== null && !(Array.isArray(value) && value.length === 0);
}

/** Takes out of an object what its features, which are off, would keep; in place. */
export function dropGatedFields(object: object, old: object | undefined, node: ObjectNode): void {
  const gates = gatesOf(node);
  if (gates === null) return;
  const used: Parameters<Visit>[] = [];
  visitUsed(object, gates, (...one) => used.push(one));
  if (used.length === 0) return;
  const inUse = new Set<string>();
  visitUsed(old, gates, (_holder, _field, feature) => inUse.add(feature));
  for (const [holder, field, feature] of used) if (!inUse.has(feature)) delete holder[field];
}
