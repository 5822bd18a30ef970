/** The default roles and bindings (Kubernetes, "Using RBAC Authorization", "Default roles and role bindings"). */
import type { ObjectMeta } from '#api/meta.v1.ts';
import type { Template } from '#api/manifest.ts';
import type { ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleRef, Subject } from '#api/rbac.v1.ts';

const all = ['*'];
const read = ['get', 'list', 'watch'];
const write = ['create', 'delete', 'deletecollection', 'patch', 'update'];
const rule = (apiGroups: string[], resources: string[], verbs: string[], resourceNames?: string[]): PolicyRule => ({
  apiGroups,
  resources,
  verbs,
  ...(resourceNames === undefined ? {} : { resourceNames }),
});
const paths = (nonResourceURLs: string[]): PolicyRule => ({ nonResourceURLs, verbs: ['get'] });

const labels = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };
export const autoUpdate = 'rbac.authorization.kubernetes.io/autoupdate';
const annotations = { [autoUpdate]: 'true' };
const meta = (name: string, extra: Record<string, string> = {}, namespace?: string): ObjectMeta => ({
  name,
  ...(namespace === undefined ? {} : { namespace }),
  labels: { ...labels, ...extra },
  annotations,
});

const viewed: PolicyRule[] = [
  rule(
    [''],
    [
      'configmaps',
      'endpoints',
      'persistentvolumeclaims',
      'persistentvolumeclaims/status',
      'pods',
      'replicationcontrollers',
      'replicationcontrollers/scale',
      'serviceaccounts',
      'services',
      'services/status',
    ],
    read,
  ),
  rule(
    [''],
    [
      'bindings',
      'events',
      'limitranges',
      'namespaces/status',
      'pods/log',
      'pods/status',
      'replicationcontrollers/status',
      'resourcequotas',
      'resourcequotas/status',
      'namespaces',
    ],
    read,
  ),
  rule(['discovery.k8s.io'], ['endpointslices'], read),
  rule(
    ['apps'],
    [
      'controllerrevisions',
      'daemonsets',
      'daemonsets/status',
      'deployments',
      'deployments/scale',
      'deployments/status',
      'replicasets',
      'replicasets/scale',
      'replicasets/status',
      'statefulsets',
      'statefulsets/scale',
      'statefulsets/status',
    ],
    read,
  ),
  rule(['autoscaling'], ['horizontalpodautoscalers', 'horizontalpodautoscalers/status'], read),
  rule(['batch'], ['cronjobs', 'cronjobs/status', 'jobs', 'jobs/status'], read),
  rule(['policy'], ['poddisruptionbudgets', 'poddisruptionbudgets/status'], read),
  rule(['networking.k8s.io'], ['ingresses', 'ingresses/status', 'networkpolicies'], read),
  rule(['metrics.k8s.io'], ['pods', 'nodes'], read),
];

const edited: PolicyRule[] = [
  rule([''], ['pods/attach', 'pods/exec', 'pods/portforward', 'pods/proxy', 'secrets', 'services/proxy'], read),
  rule([''], ['serviceaccounts'], ['impersonate']),
  rule([''], ['pods', 'pods/attach', 'pods/exec', 'pods/portforward', 'pods/proxy'], write),
  rule([''], ['pods/eviction'], ['create']),
  rule(
    [''],
    [
      'configmaps',
      'events',
      'persistentvolumeclaims',
      'replicationcontrollers',
      'replicationcontrollers/scale',
      'secrets',
      'serviceaccounts',
      'services',
      'services/proxy',
    ],
    write,
  ),
  rule([''], ['serviceaccounts/token'], ['create']),
  rule(
    ['apps'],
    [
      'daemonsets',
      'deployments',
      'deployments/rollback',
      'deployments/scale',
      'replicasets',
      'replicasets/scale',
      'statefulsets',
      'statefulsets/scale',
    ],
    write,
  ),
  rule(['autoscaling'], ['horizontalpodautoscalers'], write),
  rule(['batch'], ['cronjobs', 'jobs'], write),
  rule(['policy'], ['poddisruptionbudgets'], write),
  rule(['networking.k8s.io'], ['ingresses', 'networkpolicies'], write),
  rule(['coordination.k8s.io'], ['leases'], [...read, ...write]),
];

const administered: PolicyRule[] = [
  rule(['authorization.k8s.io'], ['localsubjectaccessreviews'], ['create']),
  rule(['rbac.authorization.k8s.io'], ['rolebindings', 'roles'], [...read, ...write]),
  rule([''], ['endpoints'], write),
  rule(['discovery.k8s.io'], ['endpointslices'], write),
];

const nodeRules: PolicyRule[] = [
  rule(['authentication.k8s.io'], ['tokenreviews'], ['create']),
  rule(['authorization.k8s.io'], ['localsubjectaccessreviews', 'subjectaccessreviews'], ['create']),
  rule([''], ['services'], read),
  rule([''], ['nodes'], ['create', 'get', 'list', 'watch']),
  rule([''], ['nodes', 'nodes/status'], ['patch', 'update']),
  rule([''], ['events'], ['create', 'patch', 'update']),
  rule([''], ['pods'], read),
  rule([''], ['pods'], ['create', 'delete']),
  rule([''], ['pods/status'], ['patch', 'update']),
  rule([''], ['pods/eviction'], ['create']),
  rule(['coordination.k8s.io'], ['leases'], ['create', 'delete', 'get', 'patch', 'update']),
];

const aggregateTo = (name: string): Record<string, string> => ({
  [`rbac.authorization.k8s.io/aggregate-to-${name}`]: 'true',
});
const aggregated = (name: string): Pick<ClusterRole, 'aggregationRule'> => ({
  aggregationRule: { clusterRoleSelectors: [{ matchLabels: aggregateTo(name) }] },
});

/** What users and strangers may do whoever they are. */
function discoveryRoles(): Template<ClusterRole>[] {
  return [
    { metadata: meta('cluster-admin'), rules: [rule(all, all, all), { nonResourceURLs: all, verbs: all }] },
    {
      metadata: meta('system:discovery'),
      rules: [
        paths([
          '/api',
          '/api/*',
          '/apis',
          '/apis/*',
          '/healthz',
          '/livez',
          '/openapi',
          '/openapi/*',
          '/readyz',
          '/version',
          '/version/',
        ]),
      ],
    },
    {
      metadata: meta('system:basic-user'),
      rules: [
        rule(['authorization.k8s.io'], ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'], ['create']),
        rule(['authentication.k8s.io'], ['selfsubjectreviews'], ['create']),
      ],
    },
    {
      metadata: meta('system:public-info-viewer'),
      rules: [paths(['/healthz', '/livez', '/readyz', '/version', '/version/'])],
    },
    {
      metadata: meta('system:monitoring'),
      rules: [
        paths(['/healthz', '/healthz/*', '/livez', '/livez/*', '/metrics', '/metrics/slis', '/readyz', '/readyz/*']),
      ],
    },
    {
      metadata: meta('system:cluster-trust-bundle-discovery'),
      rules: [rule(['certificates.k8s.io'], ['clustertrustbundles'], ['get', 'list', 'watch'])],
    },
    {
      metadata: meta('system:service-account-issuer-discovery'),
      rules: [
        paths([
          '/.well-known/openid-configuration',
          '/.well-known/openid-configuration/',
          '/openid/v1/jwks',
          '/openid/v1/jwks/',
        ]),
      ],
    },
  ];
}

/** `admin`, `edit` and `view`, which take in what custom roles are labelled for. */
function aggregatedRoles(): Template<ClusterRole>[] {
  return [
    { metadata: meta('admin'), ...aggregated('admin'), rules: [...administered, ...edited, ...viewed] },
    { metadata: meta('edit', aggregateTo('admin')), ...aggregated('edit'), rules: [...edited, ...viewed] },
    { metadata: meta('view', aggregateTo('edit')), ...aggregated('view'), rules: viewed },
    { metadata: meta('system:aggregate-to-admin', aggregateTo('admin')), rules: administered },
    { metadata: meta('system:aggregate-to-edit', aggregateTo('edit')), rules: edited },
    { metadata: meta('system:aggregate-to-view', aggregateTo('view')), rules: viewed },
  ];
}

/** Those of the cluster's own parts. */
function systemRoles(): Template<ClusterRole>[] {
  return [
    { metadata: meta('system:node'), rules: nodeRules },
    {
      metadata: meta('system:node-bootstrapper'),
      rules: [rule(['certificates.k8s.io'], ['certificatesigningrequests'], ['create', ...read])],
    },
    ...['nodeclient', 'selfnodeclient'].map((kind) => ({
      metadata: meta(`system:certificates.k8s.io:certificatesigningrequests:${kind}`),
      rules: [rule(['certificates.k8s.io'], [`certificatesigningrequests/${kind}`], ['create'])],
    })),
    {
      metadata: meta('system:auth-delegator'),
      rules: [
        rule(['authentication.k8s.io'], ['tokenreviews'], ['create']),
        rule(['authorization.k8s.io'], ['subjectaccessreviews'], ['create']),
      ],
    },
    { metadata: meta('system:kube-dns'), rules: [rule([''], ['endpoints', 'services'], ['list', 'watch'])] },
    {
      metadata: meta('system:kubelet-api-admin'),
      rules: [
        rule([''], ['nodes'], [...read, 'proxy']),
        rule(
          [''],
          ['nodes/log', 'nodes/metrics', 'nodes/proxy', 'nodes/stats', 'nodes/pods', 'nodes/healthz', 'nodes/configz'],
          all,
        ),
      ],
    },
    {
      metadata: meta('system:persistent-volume-provisioner'),
      rules: [
        rule([''], ['persistentvolumes'], ['create', 'delete', ...read]),
        rule([''], ['persistentvolumeclaims'], [...read, 'update']),
        rule(['storage.k8s.io'], ['storageclasses'], read),
        rule([''], ['events'], ['watch']),
      ],
    },
  ];
}

export function clusterRoles(): Template<ClusterRole>[] {
  return [...discoveryRoles(), ...aggregatedRoles(), ...systemRoles()];
}

const group = (name: string): Subject => ({ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name });
const toClusterRole = (name: string): RoleRef => ({ apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name });

export function clusterRoleBindings(): Template<ClusterRoleBinding>[] {
  const bind = (name: string, role: string, ...subjects: Subject[]): Template<ClusterRoleBinding> => ({
    metadata: meta(name),
    roleRef: toClusterRole(role),
    subjects,
  });
  return [
    bind('cluster-admin', 'cluster-admin', group('system:masters')),
    bind('system:discovery', 'system:discovery', group('system:authenticated')),
    bind('system:basic-user', 'system:basic-user', group('system:authenticated')),
    bind(
      'system:public-info-viewer',
      'system:public-info-viewer',
      group('system:authenticated'),
      group('system:unauthenticated'),
    ),
    bind('system:monitoring', 'system:monitoring', group('system:monitoring')),
    bind(
      'system:cluster-trust-bundle-discovery',
      'system:cluster-trust-bundle-discovery',
      group('system:serviceaccounts'),
    ),
    bind(
      'system:service-account-issuer-discovery',
      'system:service-account-issuer-discovery',
      group('system:serviceaccounts'),
    ),
  ];
}

export function roles(): Template<Role>[] {
  return [
    {
      metadata: meta('extension-apiserver-authentication-reader', {}, 'kube-system'),
      rules: [rule([''], ['configmaps'], read, ['extension-apiserver-authentication'])],
    },
  ];
}
