/**
 * References to every built-in kind, by kind name. Kinds of custom resources are made with `kindOf` or found by
 * discovery.
 */
import type { KindRef } from '#base/objects.ts';

export function kindOf(group: string, version: string, resource: string, kind: string, namespaced = true): KindRef {
  return Object.freeze({ group, version, resource, kind, namespaced });
}

const cluster = false;

export const kinds = Object.freeze({
  Binding: kindOf('', 'v1', 'bindings', 'Binding'),
  ComponentStatus: kindOf('', 'v1', 'componentstatuses', 'ComponentStatus', cluster),
  ConfigMap: kindOf('', 'v1', 'configmaps', 'ConfigMap'),
  Endpoints: kindOf('', 'v1', 'endpoints', 'Endpoints'),
  Event: kindOf('', 'v1', 'events', 'Event'),
  LimitRange: kindOf('', 'v1', 'limitranges', 'LimitRange'),
  Namespace: kindOf('', 'v1', 'namespaces', 'Namespace', cluster),
  Node: kindOf('', 'v1', 'nodes', 'Node', cluster),
  PersistentVolume: kindOf('', 'v1', 'persistentvolumes', 'PersistentVolume', cluster),
  PersistentVolumeClaim: kindOf('', 'v1', 'persistentvolumeclaims', 'PersistentVolumeClaim'),
  Pod: kindOf('', 'v1', 'pods', 'Pod'),
  PodTemplate: kindOf('', 'v1', 'podtemplates', 'PodTemplate'),
  ReplicationController: kindOf('', 'v1', 'replicationcontrollers', 'ReplicationController'),
  ResourceQuota: kindOf('', 'v1', 'resourcequotas', 'ResourceQuota'),
  Secret: kindOf('', 'v1', 'secrets', 'Secret'),
  Service: kindOf('', 'v1', 'services', 'Service'),
  ServiceAccount: kindOf('', 'v1', 'serviceaccounts', 'ServiceAccount'),

  ControllerRevision: kindOf('apps', 'v1', 'controllerrevisions', 'ControllerRevision'),
  DaemonSet: kindOf('apps', 'v1', 'daemonsets', 'DaemonSet'),
  Deployment: kindOf('apps', 'v1', 'deployments', 'Deployment'),
  ReplicaSet: kindOf('apps', 'v1', 'replicasets', 'ReplicaSet'),
  StatefulSet: kindOf('apps', 'v1', 'statefulsets', 'StatefulSet'),

  CronJob: kindOf('batch', 'v1', 'cronjobs', 'CronJob'),
  Job: kindOf('batch', 'v1', 'jobs', 'Job'),

  HorizontalPodAutoscaler: kindOf('autoscaling', 'v2', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler'),
  PodDisruptionBudget: kindOf('policy', 'v1', 'poddisruptionbudgets', 'PodDisruptionBudget'),

  EndpointSlice: kindOf('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice'),
  Ingress: kindOf('networking.k8s.io', 'v1', 'ingresses', 'Ingress'),
  IngressClass: kindOf('networking.k8s.io', 'v1', 'ingressclasses', 'IngressClass', cluster),
  NetworkPolicy: kindOf('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy'),
  IPAddress: kindOf('networking.k8s.io', 'v1', 'ipaddresses', 'IPAddress', cluster),
  ServiceCIDR: kindOf('networking.k8s.io', 'v1', 'servicecidrs', 'ServiceCIDR', cluster),

  StorageClass: kindOf('storage.k8s.io', 'v1', 'storageclasses', 'StorageClass', cluster),
  CSIDriver: kindOf('storage.k8s.io', 'v1', 'csidrivers', 'CSIDriver', cluster),
  CSINode: kindOf('storage.k8s.io', 'v1', 'csinodes', 'CSINode', cluster),
  CSIStorageCapacity: kindOf('storage.k8s.io', 'v1', 'csistoragecapacities', 'CSIStorageCapacity'),
  VolumeAttachment: kindOf('storage.k8s.io', 'v1', 'volumeattachments', 'VolumeAttachment', cluster),
  VolumeAttributesClass: kindOf('storage.k8s.io', 'v1', 'volumeattributesclasses', 'VolumeAttributesClass', cluster),

  ClusterRole: kindOf('rbac.authorization.k8s.io', 'v1', 'clusterroles', 'ClusterRole', cluster),
  ClusterRoleBinding: kindOf('rbac.authorization.k8s.io', 'v1', 'clusterrolebindings', 'ClusterRoleBinding', cluster),
  Role: kindOf('rbac.authorization.k8s.io', 'v1', 'roles', 'Role'),
  RoleBinding: kindOf('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding'),

  PriorityClass: kindOf('scheduling.k8s.io', 'v1', 'priorityclasses', 'PriorityClass', cluster),
  RuntimeClass: kindOf('node.k8s.io', 'v1', 'runtimeclasses', 'RuntimeClass', cluster),
  Lease: kindOf('coordination.k8s.io', 'v1', 'leases', 'Lease'),
  EventsV1Event: kindOf('events.k8s.io', 'v1', 'events', 'Event'),
  CertificateSigningRequest: kindOf(
    'certificates.k8s.io',
    'v1',
    'certificatesigningrequests',
    'CertificateSigningRequest',
    cluster,
  ),

  CustomResourceDefinition: kindOf(
    'apiextensions.k8s.io',
    'v1',
    'customresourcedefinitions',
    'CustomResourceDefinition',
    cluster,
  ),
  APIService: kindOf('apiregistration.k8s.io', 'v1', 'apiservices', 'APIService', cluster),
  MutatingWebhookConfiguration: kindOf(
    'admissionregistration.k8s.io',
    'v1',
    'mutatingwebhookconfigurations',
    'MutatingWebhookConfiguration',
    cluster,
  ),
  ValidatingWebhookConfiguration: kindOf(
    'admissionregistration.k8s.io',
    'v1',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
    cluster,
  ),
  ValidatingAdmissionPolicy: kindOf(
    'admissionregistration.k8s.io',
    'v1',
    'validatingadmissionpolicies',
    'ValidatingAdmissionPolicy',
    cluster,
  ),
  ValidatingAdmissionPolicyBinding: kindOf(
    'admissionregistration.k8s.io',
    'v1',
    'validatingadmissionpolicybindings',
    'ValidatingAdmissionPolicyBinding',
    cluster,
  ),
  FlowSchema: kindOf('flowcontrol.apiserver.k8s.io', 'v1', 'flowschemas', 'FlowSchema', cluster),
  PriorityLevelConfiguration: kindOf(
    'flowcontrol.apiserver.k8s.io',
    'v1',
    'prioritylevelconfigurations',
    'PriorityLevelConfiguration',
    cluster,
  ),

  TokenReview: kindOf('authentication.k8s.io', 'v1', 'tokenreviews', 'TokenReview', cluster),
  TokenRequest: kindOf('authentication.k8s.io', 'v1', 'tokenrequests', 'TokenRequest'),
  SubjectAccessReview: kindOf('authorization.k8s.io', 'v1', 'subjectaccessreviews', 'SubjectAccessReview', cluster),
  LocalSubjectAccessReview: kindOf(
    'authorization.k8s.io',
    'v1',
    'localsubjectaccessreviews',
    'LocalSubjectAccessReview',
  ),
  SelfSubjectAccessReview: kindOf(
    'authorization.k8s.io',
    'v1',
    'selfsubjectaccessreviews',
    'SelfSubjectAccessReview',
    cluster,
  ),
  PodMetrics: kindOf('metrics.k8s.io', 'v1beta1', 'pods', 'PodMetrics'),
  NodeMetrics: kindOf('metrics.k8s.io', 'v1beta1', 'nodes', 'NodeMetrics', cluster),
});
