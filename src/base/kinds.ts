/**
 * References to every built-in kind, by kind name. Kinds of custom resources are made with `kindOf` or found by
 * discovery.
 */
import type {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  MutatingWebhookConfiguration,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhookConfiguration,
} from '#api/admissionregistration.v1.ts';
import type { CustomResourceDefinition } from '#api/apiextensions.v1.ts';
import type { APIService } from '#api/apiregistration.v1.ts';
import type { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet } from '#api/apps.v1.ts';
import type { SelfSubjectReview, TokenRequest, TokenReview } from '#api/authentication.v1.ts';
import type {
  LocalSubjectAccessReview,
  SelfSubjectAccessReview,
  SelfSubjectRulesReview,
  SubjectAccessReview,
} from '#api/authorization.v1.ts';
import type { HorizontalPodAutoscaler } from '#api/autoscaling.v2.ts';
import type { CronJob, Job } from '#api/batch.v1.ts';
import type { CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest } from '#api/certificates.v1.ts';
import type { Lease } from '#api/coordination.v1.ts';
import type {
  Binding,
  ComponentStatus,
  ConfigMap,
  Endpoints,
  Event,
  LimitRange,
  Namespace,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodTemplate,
  ReplicationController,
  ResourceQuota,
  Secret,
  Service,
  ServiceAccount,
} from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { Event as EventsV1Event } from '#api/events.v1.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '#api/flowcontrol.v1.ts';
import type { NodeMetrics, PodMetrics } from '#api/metrics.v1beta1.ts';
import type { IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR } from '#api/networking.v1.ts';
import type { RuntimeClass } from '#api/node.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import type { ClusterRole, ClusterRoleBinding, Role, RoleBinding } from '#api/rbac.v1.ts';
import type {
  DeviceClass,
  DeviceTaintRule,
  ResourceClaim,
  ResourceClaimTemplate,
  ResourceSlice,
} from '#api/resource.v1.ts';
import type { PriorityClass } from '#api/scheduling.v1.ts';
import type {
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  StorageClass,
  VolumeAttachment,
  VolumeAttributesClass,
} from '#api/storage.v1.ts';
import type { StorageVersionMigration } from '#api/storagemigration.v1.ts';
import { groupVersionOf, type KindRef, type KubeObject } from './objects.ts';

/** A reference to a kind: `kindOf('apps/v1', 'deployments', 'Deployment')`. */
export function kindOf<T extends KubeObject = KubeObject>(
  apiVersion: string,
  resource: string,
  kind: string,
  namespaced = true,
): KindRef<T> {
  return Object.freeze({ ...groupVersionOf(apiVersion), resource, kind, namespaced });
}

const cluster = false;

export const kinds = Object.freeze({
  Binding: kindOf<Binding>('v1', 'bindings', 'Binding'),
  ComponentStatus: kindOf<ComponentStatus>('v1', 'componentstatuses', 'ComponentStatus', cluster),
  ConfigMap: kindOf<ConfigMap>('v1', 'configmaps', 'ConfigMap'),
  Endpoints: kindOf<Endpoints>('v1', 'endpoints', 'Endpoints'),
  Event: kindOf<Event>('v1', 'events', 'Event'),
  LimitRange: kindOf<LimitRange>('v1', 'limitranges', 'LimitRange'),
  Namespace: kindOf<Namespace>('v1', 'namespaces', 'Namespace', cluster),
  Node: kindOf<Node>('v1', 'nodes', 'Node', cluster),
  PersistentVolume: kindOf<PersistentVolume>('v1', 'persistentvolumes', 'PersistentVolume', cluster),
  PersistentVolumeClaim: kindOf<PersistentVolumeClaim>('v1', 'persistentvolumeclaims', 'PersistentVolumeClaim'),
  Pod: kindOf<Pod>('v1', 'pods', 'Pod'),
  PodTemplate: kindOf<PodTemplate>('v1', 'podtemplates', 'PodTemplate'),
  ReplicationController: kindOf<ReplicationController>('v1', 'replicationcontrollers', 'ReplicationController'),
  ResourceQuota: kindOf<ResourceQuota>('v1', 'resourcequotas', 'ResourceQuota'),
  Secret: kindOf<Secret>('v1', 'secrets', 'Secret'),
  Service: kindOf<Service>('v1', 'services', 'Service'),
  ServiceAccount: kindOf<ServiceAccount>('v1', 'serviceaccounts', 'ServiceAccount'),

  ControllerRevision: kindOf<ControllerRevision>('apps/v1', 'controllerrevisions', 'ControllerRevision'),
  DaemonSet: kindOf<DaemonSet>('apps/v1', 'daemonsets', 'DaemonSet'),
  Deployment: kindOf<Deployment>('apps/v1', 'deployments', 'Deployment'),
  ReplicaSet: kindOf<ReplicaSet>('apps/v1', 'replicasets', 'ReplicaSet'),
  StatefulSet: kindOf<StatefulSet>('apps/v1', 'statefulsets', 'StatefulSet'),

  CronJob: kindOf<CronJob>('batch/v1', 'cronjobs', 'CronJob'),
  Job: kindOf<Job>('batch/v1', 'jobs', 'Job'),

  HorizontalPodAutoscaler: kindOf<HorizontalPodAutoscaler>(
    'autoscaling/v2',
    'horizontalpodautoscalers',
    'HorizontalPodAutoscaler',
  ),
  PodDisruptionBudget: kindOf<PodDisruptionBudget>('policy/v1', 'poddisruptionbudgets', 'PodDisruptionBudget'),

  EndpointSlice: kindOf<EndpointSlice>('discovery.k8s.io/v1', 'endpointslices', 'EndpointSlice'),
  Ingress: kindOf<Ingress>('networking.k8s.io/v1', 'ingresses', 'Ingress'),
  IngressClass: kindOf<IngressClass>('networking.k8s.io/v1', 'ingressclasses', 'IngressClass', cluster),
  NetworkPolicy: kindOf<NetworkPolicy>('networking.k8s.io/v1', 'networkpolicies', 'NetworkPolicy'),
  IPAddress: kindOf<IPAddress>('networking.k8s.io/v1', 'ipaddresses', 'IPAddress', cluster),
  ServiceCIDR: kindOf<ServiceCIDR>('networking.k8s.io/v1', 'servicecidrs', 'ServiceCIDR', cluster),

  StorageClass: kindOf<StorageClass>('storage.k8s.io/v1', 'storageclasses', 'StorageClass', cluster),
  CSIDriver: kindOf<CSIDriver>('storage.k8s.io/v1', 'csidrivers', 'CSIDriver', cluster),
  CSINode: kindOf<CSINode>('storage.k8s.io/v1', 'csinodes', 'CSINode', cluster),
  CSIStorageCapacity: kindOf<CSIStorageCapacity>('storage.k8s.io/v1', 'csistoragecapacities', 'CSIStorageCapacity'),
  VolumeAttachment: kindOf<VolumeAttachment>('storage.k8s.io/v1', 'volumeattachments', 'VolumeAttachment', cluster),
  VolumeAttributesClass: kindOf<VolumeAttributesClass>(
    'storage.k8s.io/v1',
    'volumeattributesclasses',
    'VolumeAttributesClass',
    cluster,
  ),

  ClusterRole: kindOf<ClusterRole>('rbac.authorization.k8s.io/v1', 'clusterroles', 'ClusterRole', cluster),
  ClusterRoleBinding: kindOf<ClusterRoleBinding>(
    'rbac.authorization.k8s.io/v1',
    'clusterrolebindings',
    'ClusterRoleBinding',
    cluster,
  ),
  Role: kindOf<Role>('rbac.authorization.k8s.io/v1', 'roles', 'Role'),
  RoleBinding: kindOf<RoleBinding>('rbac.authorization.k8s.io/v1', 'rolebindings', 'RoleBinding'),

  PriorityClass: kindOf<PriorityClass>('scheduling.k8s.io/v1', 'priorityclasses', 'PriorityClass', cluster),
  RuntimeClass: kindOf<RuntimeClass>('node.k8s.io/v1', 'runtimeclasses', 'RuntimeClass', cluster),
  StorageVersionMigration: kindOf<StorageVersionMigration>(
    'storagemigration.k8s.io/v1',
    'storageversionmigrations',
    'StorageVersionMigration',
    cluster,
  ),
  Lease: kindOf<Lease>('coordination.k8s.io/v1', 'leases', 'Lease'),
  EventsV1Event: kindOf<EventsV1Event>('events.k8s.io/v1', 'events', 'Event'),
  CertificateSigningRequest: kindOf<CertificateSigningRequest>(
    'certificates.k8s.io/v1',
    'certificatesigningrequests',
    'CertificateSigningRequest',
    cluster,
  ),
  ClusterTrustBundle: kindOf<ClusterTrustBundle>(
    'certificates.k8s.io/v1',
    'clustertrustbundles',
    'ClusterTrustBundle',
    cluster,
  ),
  PodCertificateRequest: kindOf<PodCertificateRequest>(
    'certificates.k8s.io/v1',
    'podcertificaterequests',
    'PodCertificateRequest',
  ),

  CustomResourceDefinition: kindOf<CustomResourceDefinition>(
    'apiextensions.k8s.io/v1',
    'customresourcedefinitions',
    'CustomResourceDefinition',
    cluster,
  ),
  APIService: kindOf<APIService>('apiregistration.k8s.io/v1', 'apiservices', 'APIService', cluster),
  MutatingWebhookConfiguration: kindOf<MutatingWebhookConfiguration>(
    'admissionregistration.k8s.io/v1',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
    cluster,
  ),
  ValidatingWebhookConfiguration: kindOf<ValidatingWebhookConfiguration>(
    'admissionregistration.k8s.io/v1',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
    cluster,
  ),
  ValidatingAdmissionPolicy: kindOf<ValidatingAdmissionPolicy>(
    'admissionregistration.k8s.io/v1',
    'validatingadmissionpolicies',
    'ValidatingAdmissionPolicy',
    cluster,
  ),
  ValidatingAdmissionPolicyBinding: kindOf<ValidatingAdmissionPolicyBinding>(
    'admissionregistration.k8s.io/v1',
    'validatingadmissionpolicybindings',
    'ValidatingAdmissionPolicyBinding',
    cluster,
  ),
  MutatingAdmissionPolicy: kindOf<MutatingAdmissionPolicy>(
    'admissionregistration.k8s.io/v1',
    'mutatingadmissionpolicies',
    'MutatingAdmissionPolicy',
    cluster,
  ),
  MutatingAdmissionPolicyBinding: kindOf<MutatingAdmissionPolicyBinding>(
    'admissionregistration.k8s.io/v1',
    'mutatingadmissionpolicybindings',
    'MutatingAdmissionPolicyBinding',
    cluster,
  ),
  FlowSchema: kindOf<FlowSchema>('flowcontrol.apiserver.k8s.io/v1', 'flowschemas', 'FlowSchema', cluster),
  PriorityLevelConfiguration: kindOf<PriorityLevelConfiguration>(
    'flowcontrol.apiserver.k8s.io/v1',
    'prioritylevelconfigurations',
    'PriorityLevelConfiguration',
    cluster,
  ),

  SelfSubjectReview: kindOf<SelfSubjectReview>(
    'authentication.k8s.io/v1',
    'selfsubjectreviews',
    'SelfSubjectReview',
    cluster,
  ),
  TokenReview: kindOf<TokenReview>('authentication.k8s.io/v1', 'tokenreviews', 'TokenReview', cluster),
  TokenRequest: kindOf<TokenRequest>('authentication.k8s.io/v1', 'tokenrequests', 'TokenRequest'),
  SubjectAccessReview: kindOf<SubjectAccessReview>(
    'authorization.k8s.io/v1',
    'subjectaccessreviews',
    'SubjectAccessReview',
    cluster,
  ),
  LocalSubjectAccessReview: kindOf<LocalSubjectAccessReview>(
    'authorization.k8s.io/v1',
    'localsubjectaccessreviews',
    'LocalSubjectAccessReview',
  ),
  SelfSubjectAccessReview: kindOf<SelfSubjectAccessReview>(
    'authorization.k8s.io/v1',
    'selfsubjectaccessreviews',
    'SelfSubjectAccessReview',
    cluster,
  ),
  SelfSubjectRulesReview: kindOf<SelfSubjectRulesReview>(
    'authorization.k8s.io/v1',
    'selfsubjectrulesreviews',
    'SelfSubjectRulesReview',
    cluster,
  ),
  DeviceClass: kindOf<DeviceClass>('resource.k8s.io/v1', 'deviceclasses', 'DeviceClass', cluster),
  DeviceTaintRule: kindOf<DeviceTaintRule>('resource.k8s.io/v1', 'devicetaintrules', 'DeviceTaintRule', cluster),
  ResourceClaim: kindOf<ResourceClaim>('resource.k8s.io/v1', 'resourceclaims', 'ResourceClaim'),
  ResourceClaimTemplate: kindOf<ResourceClaimTemplate>(
    'resource.k8s.io/v1',
    'resourceclaimtemplates',
    'ResourceClaimTemplate',
  ),
  ResourceSlice: kindOf<ResourceSlice>('resource.k8s.io/v1', 'resourceslices', 'ResourceSlice', cluster),
  PodMetrics: kindOf<PodMetrics>('metrics.k8s.io/v1beta1', 'pods', 'PodMetrics'),
  NodeMetrics: kindOf<NodeMetrics>('metrics.k8s.io/v1beta1', 'nodes', 'NodeMetrics', cluster),
});
