/**
 * The live views of an API server: one field for each kind that requests are decided by. Each is listed when it is
 * first needed.
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
import type { LimitRange, Namespace, Node, Pod, ResourceQuota, ServiceAccount } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '#api/flowcontrol.v1.ts';
import type { Ingress } from '#api/networking.v1.ts';
import type { RuntimeClass } from '#api/node.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import type { ClusterRole, ClusterRoleBinding, Role, RoleBinding } from '#api/rbac.v1.ts';
import type { PriorityClass } from '#api/scheduling.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { remoteServices } from './remote-apis.ts';
import { NodeGraph } from './authz/node-graph.ts';
import { bindingsBySubject } from './authz/subjects.ts';
import { LiveKind, type LiveEntry, type LiveSource } from './live-kind.ts';

const registry = '/registry/';

type Entries<K extends KubeObject> = readonly LiveEntry<K>[];
const entriesOf = <K extends KubeObject>(entries: Entries<K>): Entries<K> => entries;
const objectsOf = <K extends KubeObject>(entries: Entries<K>): readonly K[] => entries.map((entry) => entry.object);

/** Webhooks in the order of their configurations' names. */
const hooksOf = <K extends MutatingWebhookConfiguration | ValidatingWebhookConfiguration>(
  entries: Entries<K>,
): readonly NonNullable<K['webhooks']>[number][] => entries.flatMap(({ object }) => object.webhooks ?? []);

const limitsOf = (entries: Entries<LimitRange>) => entries.flatMap(({ object }) => object.spec?.limits ?? []);

/** APIServices that lead to other servers. */
const remoteOf = (entries: Entries<APIService>) => remoteServices(objectsOf(entries));

/** PriorityClasses for Pods that name none: of several the lowest, which is the first. */
const globalDefaults = (entries: Entries<PriorityClass>): readonly PriorityClass[] =>
  objectsOf(entries)
    .filter((item) => item.globalDefault === true)
    .sort((a, b) => (a.value ?? 0) - (b.value ?? 0));

/** The StorageClass of claims that name none: of several the youngest. */
const defaultClass = (entries: Entries<StorageClass>): StorageClass | undefined =>
  objectsOf(entries)
    .filter((item) => item.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true')
    .sort((a, b) => ((a.metadata.creationTimestamp ?? '') < (b.metadata.creationTimestamp ?? '') ? 1 : -1))[0];

export class LiveViews {
  readonly namespaces;
  readonly serviceAccounts;
  readonly nodes;
  readonly limitRanges;
  readonly resourceQuotas;
  readonly priorityClasses;
  readonly runtimeClasses;
  readonly flowSchemas;
  readonly priorityLevels;
  readonly storageClasses;
  readonly mutatingPolicies;
  readonly mutatingPolicyBindings;
  readonly validatingPolicies;
  readonly validatingPolicyBindings;
  readonly mutatingWebhooks;
  readonly validatingWebhooks;
  readonly roles;
  readonly clusterRoles;
  readonly roleBindings;
  readonly clusterRoleBindings;
  readonly disruptionBudgets;
  readonly endpointSlices;
  readonly definitions;
  readonly apiServices;
  readonly nodeGraph: NodeGraph;
  readonly #all: { drain(): void; close(): void }[] = [];

  constructor(source: LiveSource) {
    const view = <K extends KubeObject, T>(directory: string, derive: (entries: Entries<K>) => T): LiveKind<K, T> => {
      const made = new LiveKind(source, `${registry}${directory}/`, derive);
      this.#all.push(made);
      return made;
    };
    this.namespaces = view('namespaces', entriesOf<Namespace>);
    this.serviceAccounts = view('serviceaccounts', entriesOf<ServiceAccount>);
    this.nodes = view('nodes', objectsOf<Node>);
    this.limitRanges = view('limitranges', limitsOf);
    this.resourceQuotas = view('resourcequotas', entriesOf<ResourceQuota>);
    this.priorityClasses = view('scheduling.k8s.io/priorityclasses', globalDefaults);
    this.runtimeClasses = view('node.k8s.io/runtimeclasses', entriesOf<RuntimeClass>);
    this.storageClasses = view('storage.k8s.io/storageclasses', defaultClass);
    const webhooks = 'admissionregistration.k8s.io';
    this.mutatingPolicies = view(`${webhooks}/mutatingadmissionpolicies`, objectsOf<MutatingAdmissionPolicy>);
    this.mutatingPolicyBindings = view(
      `${webhooks}/mutatingadmissionpolicybindings`,
      objectsOf<MutatingAdmissionPolicyBinding>,
    );
    this.validatingPolicies = view(`${webhooks}/validatingadmissionpolicies`, objectsOf<ValidatingAdmissionPolicy>);
    this.validatingPolicyBindings = view(
      `${webhooks}/validatingadmissionpolicybindings`,
      objectsOf<ValidatingAdmissionPolicyBinding>,
    );
    this.mutatingWebhooks = view(`${webhooks}/mutatingwebhookconfigurations`, hooksOf<MutatingWebhookConfiguration>);
    this.validatingWebhooks = view(
      `${webhooks}/validatingwebhookconfigurations`,
      hooksOf<ValidatingWebhookConfiguration>,
    );
    this.apiServices = view('apiregistration.k8s.io/apiservices', remoteOf);
    const rbac = 'rbac.authorization.k8s.io';
    this.roles = view(`${rbac}/roles`, entriesOf<Role>);
    this.clusterRoles = view(`${rbac}/clusterroles`, entriesOf<ClusterRole>);
    this.roleBindings = view(`${rbac}/rolebindings`, bindingsBySubject<RoleBinding>);
    this.clusterRoleBindings = view(`${rbac}/clusterrolebindings`, bindingsBySubject<ClusterRoleBinding>);
    this.flowSchemas = view('flowcontrol.apiserver.k8s.io/flowschemas', entriesOf<FlowSchema>);
    this.priorityLevels = view(
      'flowcontrol.apiserver.k8s.io/prioritylevelconfigurations',
      entriesOf<PriorityLevelConfiguration>,
    );
    this.disruptionBudgets = view('policy/poddisruptionbudgets', objectsOf<PodDisruptionBudget>);
    this.endpointSlices = view('discovery.k8s.io/endpointslices', objectsOf<EndpointSlice>);
    this.definitions = view('apiextensions.k8s.io/customresourcedefinitions', entriesOf<CustomResourceDefinition>);
    this.nodeGraph = new NodeGraph(
      view('pods', entriesOf<Pod>),
      view('networking.k8s.io/ingresses', entriesOf<Ingress>),
    );
  }

  /** No view's queue holds old values longer than from one call to the next. */
  drain(): void {
    for (const view of this.#all) view.drain();
  }

  close(): void {
    for (const view of this.#all) view.close();
  }
}
