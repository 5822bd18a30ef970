/**
 * The live views of an API server: one field for each kind that requests are decided by. Each is listed when it is
 * first needed.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { NodeGraph } from './authz/node-graph.ts';
import { bindingsBySubject, type SubjectIndex } from './authz/subjects.ts';
import { LiveKind, type LiveEntry, type LiveSource } from './live-kind.ts';

const registry = '/registry/';
const objectsOf = (entries: readonly LiveEntry[]): readonly KubeObject[] => entries.map((entry) => entry.object);
const entriesOf = (entries: readonly LiveEntry[]): readonly LiveEntry[] => entries;

/** Webhooks in the order of their configurations' names. */
const hooksOf = (entries: readonly LiveEntry[]): readonly Json[] =>
  entries.flatMap((entry) => (entry.object.webhooks ?? []) as Json[]);

/** PriorityClasses for Pods that name none: of several the lowest, which is the first. */
const globalDefaults = (entries: readonly LiveEntry[]): readonly KubeObject[] =>
  objectsOf(entries)
    .filter((item) => item.globalDefault === true)
    .sort((a, b) => a.value - b.value);

/** The StorageClass of claims that name none: of several the youngest. */
const defaultClass = (entries: readonly LiveEntry[]): KubeObject | undefined =>
  objectsOf(entries)
    .filter((item) => item.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true')
    .sort((a, b) => (a.metadata.creationTimestamp! < b.metadata.creationTimestamp! ? 1 : -1))[0];

export class LiveViews {
  readonly namespaces;
  readonly serviceAccounts;
  readonly nodes;
  readonly limitRanges;
  readonly resourceQuotas;
  readonly priorityClasses;
  readonly runtimeClasses;
  readonly storageClasses;
  readonly mutatingWebhooks;
  readonly validatingWebhooks;
  readonly roles;
  readonly clusterRoles;
  readonly roleBindings: LiveKind<SubjectIndex>;
  readonly clusterRoleBindings: LiveKind<SubjectIndex>;
  readonly disruptionBudgets;
  readonly endpointSlices;
  readonly definitions;
  readonly nodeGraph: NodeGraph;
  readonly #all: LiveKind<unknown>[] = [];

  constructor(source: LiveSource) {
    const view = <T>(directory: string, derive: (entries: readonly LiveEntry[]) => T): LiveKind<T> =>
      this.#keep(new LiveKind(source, `${registry}${directory}/`, derive));
    this.namespaces = view('namespaces', entriesOf);
    this.serviceAccounts = view('serviceaccounts', entriesOf);
    this.nodes = view('nodes', objectsOf);
    this.limitRanges = view('limitranges', (entries) =>
      entries.flatMap((entry) => (entry.object.spec?.limits ?? []) as Json[]),
    );
    this.resourceQuotas = view('resourcequotas', entriesOf);
    this.priorityClasses = view('scheduling.k8s.io/priorityclasses', globalDefaults);
    this.runtimeClasses = view('node.k8s.io/runtimeclasses', entriesOf);
    this.storageClasses = view('storage.k8s.io/storageclasses', defaultClass);
    this.mutatingWebhooks = view('admissionregistration.k8s.io/mutatingwebhookconfigurations', hooksOf);
    this.validatingWebhooks = view('admissionregistration.k8s.io/validatingwebhookconfigurations', hooksOf);
    this.roles = view('rbac.authorization.k8s.io/roles', entriesOf);
    this.clusterRoles = view('rbac.authorization.k8s.io/clusterroles', entriesOf);
    this.roleBindings = view('rbac.authorization.k8s.io/rolebindings', bindingsBySubject);
    this.clusterRoleBindings = view('rbac.authorization.k8s.io/clusterrolebindings', bindingsBySubject);
    this.disruptionBudgets = view('policy/poddisruptionbudgets', objectsOf);
    this.endpointSlices = view('discovery.k8s.io/endpointslices', objectsOf);
    this.definitions = view('apiextensions.k8s.io/customresourcedefinitions', entriesOf);
    this.nodeGraph = new NodeGraph(view('pods', entriesOf), view('networking.k8s.io/ingresses', entriesOf));
  }

  #keep<T>(view: LiveKind<T>): LiveKind<T> {
    this.#all.push(view);
    return view;
  }

  /** No view's queue holds old values longer than from one call to the next. */
  drain(): void {
    for (const view of this.#all) view.drain();
  }

  close(): void {
    for (const view of this.#all) view.close();
  }
}
