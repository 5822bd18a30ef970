/**
 * The FlowSchemas and PriorityLevelConfigurations that every cluster has (Kubernetes, "API Priority and Fairness",
 * "Default configuration"). Mandatory ones are what they are; suggested ones an administrator may change. Names, shares
 * and precedences are those of 1.37.
 */
import type {
  FlowSchema,
  FlowSchemaSpec,
  PolicyRulesWithSubjects,
  PriorityLevelConfiguration,
  PriorityLevelConfigurationSpec,
  ResourcePolicyRule,
  Subject,
} from '#api/flowcontrol.v1.ts';
import type { Manifest } from '#api/manifest.ts';

type Defined<T> = Manifest<T> & { metadata: { name: string } };
export type DefinedFlowSchema = Defined<FlowSchema>;
export type DefinedPriorityLevel = Defined<PriorityLevelConfiguration>;

/** Of two sorts of defaults, which an annotation tells apart from what an administrator has taken over. */
export const autoUpdateSpec = 'apf.kubernetes.io/autoupdate-spec';
const metadata = (name: string) => ({ name, annotations: { [autoUpdateSpec]: 'true' } });

function level(name: string, spec: PriorityLevelConfigurationSpec): DefinedPriorityLevel {
  return {
    apiVersion: 'flowcontrol.apiserver.k8s.io/v1',
    kind: 'PriorityLevelConfiguration',
    metadata: metadata(name),
    spec,
  };
}

/** A level whose requests wait in queues. */
function queued(name: string, shares: number, lendablePercent: number, [queues, handSize]: [number, number]) {
  return level(name, {
    type: 'Limited',
    limited: {
      nominalConcurrencyShares: shares,
      lendablePercent,
      limitResponse: { type: 'Queue', queuing: { queues, handSize, queueLengthLimit: 50 } },
    },
  });
}

export const mandatoryPriorityLevels: readonly DefinedPriorityLevel[] = [
  level('exempt', { type: 'Exempt', exempt: { nominalConcurrencyShares: 0, lendablePercent: 0 } }),
  level('catch-all', {
    type: 'Limited',
    limited: { nominalConcurrencyShares: 5, lendablePercent: 0, limitResponse: { type: 'Reject' } },
  }),
];

export const suggestedPriorityLevels: readonly DefinedPriorityLevel[] = [
  queued('system', 30, 33, [64, 6]),
  queued('node-high', 40, 25, [64, 6]),
  queued('leader-election', 10, 0, [16, 4]),
  queued('workload-high', 40, 50, [128, 6]),
  queued('workload-low', 100, 90, [128, 6]),
  queued('global-default', 20, 50, [128, 6]),
];

interface Schema extends Pick<FlowSchemaSpec, 'matchingPrecedence'> {
  level: string;
  by?: 'ByUser' | 'ByNamespace';
  rules: PolicyRulesWithSubjects;
}

function schema(name: string, { level: levelName, matchingPrecedence, by, rules }: Schema): DefinedFlowSchema {
  return {
    apiVersion: 'flowcontrol.apiserver.k8s.io/v1',
    kind: 'FlowSchema',
    metadata: metadata(name),
    spec: {
      priorityLevelConfiguration: { name: levelName },
      ...(matchingPrecedence === undefined ? {} : { matchingPrecedence }),
      ...(by === undefined ? {} : { distinguisherMethod: { type: by } }),
      rules: [rules],
    },
  };
}

const group = (name: string): Subject => ({ kind: 'Group', group: { name } });
const user = (name: string): Subject => ({ kind: 'User', user: { name } });
const everybody = [group('system:unauthenticated'), group('system:authenticated')];
const systemAccounts: Subject = { kind: 'ServiceAccount', serviceAccount: { name: '*', namespace: 'kube-system' } };

const resources = (verbs: string[], apiGroups: string[], names: string[], clusterScope?: true): ResourcePolicyRule => ({
  verbs,
  apiGroups,
  resources: names,
  ...(clusterScope === undefined ? {} : { clusterScope }),
  namespaces: ['*'],
});
/** Whatever the subjects ask for. */
const anything = (subjects: Subject[]): PolicyRulesWithSubjects => ({
  subjects,
  resourceRules: [resources(['*'], ['*'], ['*'], true)],
  nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
});

export const mandatoryFlowSchemas: readonly DefinedFlowSchema[] = [
  schema('exempt', { level: 'exempt', matchingPrecedence: 1, rules: anything([group('system:masters')]) }),
  schema('catch-all', {
    level: 'catch-all',
    matchingPrecedence: 10_000,
    by: 'ByUser',
    rules: anything(everybody),
  }),
];

export const suggestedFlowSchemas: readonly DefinedFlowSchema[] = [
  schema('probes', {
    level: 'exempt',
    matchingPrecedence: 2,
    rules: {
      subjects: everybody,
      nonResourceRules: [{ verbs: ['get'], nonResourceURLs: ['/healthz', '/readyz', '/livez'] }],
    },
  }),
  schema('system-leader-election', {
    level: 'leader-election',
    matchingPrecedence: 100,
    by: 'ByUser',
    rules: {
      subjects: [user('system:kube-controller-manager'), user('system:kube-scheduler'), systemAccounts],
      resourceRules: [resources(['get', 'create', 'update'], ['coordination.k8s.io'], ['leases'])],
    },
  }),
  schema('system-node-high', {
    level: 'node-high',
    matchingPrecedence: 400,
    by: 'ByUser',
    rules: {
      subjects: [group('system:nodes')],
      resourceRules: [
        resources(['*'], [''], ['nodes', 'nodes/status'], true),
        resources(['*'], ['coordination.k8s.io'], ['leases']),
      ],
    },
  }),
  schema('system-nodes', {
    level: 'system',
    matchingPrecedence: 500,
    by: 'ByUser',
    rules: anything([group('system:nodes')]),
  }),
  ...['kube-controller-manager', 'kube-scheduler'].map((name) =>
    schema(name, {
      level: 'workload-high',
      matchingPrecedence: 800,
      by: 'ByNamespace',
      rules: anything([user(`system:${name}`)]),
    }),
  ),
  schema('kube-system-service-accounts', {
    level: 'workload-high',
    matchingPrecedence: 900,
    by: 'ByNamespace',
    rules: anything([systemAccounts]),
  }),
  schema('service-accounts', {
    level: 'workload-low',
    matchingPrecedence: 9_000,
    by: 'ByUser',
    rules: anything([group('system:serviceaccounts')]),
  }),
  schema('global-default', {
    level: 'global-default',
    matchingPrecedence: 9_900,
    by: 'ByUser',
    rules: anything(everybody),
  }),
];
