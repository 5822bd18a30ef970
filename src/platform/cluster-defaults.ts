/**
 * Objects that every cluster of ours has: the IngressClass of the built-in HAProxy, and what the network part of a node
 * may read. Made once; what the user changes stays so, but for what the network part may read.
 */
import { isReason } from '#base/errors.ts';
import type { KindRef, OpenObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import {
  bootstrapGroup,
  clusterConfig,
  clusterInfo,
  machineGroup,
  networkGroup,
  nodeGroup,
  removedNodes,
} from '#base/node-identity.ts';
import { ingressClassName, ingressController } from '#network/ingress.ts';
import type { Logger } from '#observe/log.ts';

const read = ['get', 'list', 'watch'];
const rbac = 'rbac.authorization.k8s.io';
const groupSubject = (name: string) => ({ apiGroup: rbac, kind: 'Group', name });
const bind = (name: string, role: string, group: string): [KindRef, OpenObject] => [
  kinds.ClusterRoleBinding,
  {
    apiVersion: `${rbac}/v1`,
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: role },
    subjects: [groupSubject(group)],
  },
];
/** Who may read these ConfigMaps of a namespace, and follow them by name. */
function readers({ namespace }: { namespace: string }, names: string[], subjects: object[]): [KindRef, OpenObject][] {
  const name = 'tiphys:cluster';
  return [
    [
      kinds.Role,
      {
        apiVersion: `${rbac}/v1`,
        kind: 'Role',
        metadata: { name, namespace },
        rules: [{ apiGroups: [''], resources: ['configmaps'], resourceNames: names, verbs: read }],
      },
    ],
    [
      kinds.RoleBinding,
      {
        apiVersion: `${rbac}/v1`,
        kind: 'RoleBinding',
        metadata: { name, namespace },
        roleRef: { apiGroup: rbac, kind: 'Role', name },
        subjects,
      },
    ],
  ];
}
const requestsRole = 'system:certificates.k8s.io:certificatesigningrequests';

const defaults: [KindRef, OpenObject][] = [
  [
    kinds.IngressClass,
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'IngressClass',
      metadata: { name: ingressClassName, annotations: { 'ingressclass.kubernetes.io/is-default-class': 'true' } },
      spec: { controller: ingressController },
    },
  ],
  [
    kinds.ClusterRole,
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: networkGroup },
      rules: [
        { apiGroups: [''], resources: ['services', 'pods', 'namespaces', 'nodes', 'persistentvolumes'], verbs: read },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
        {
          apiGroups: ['networking.k8s.io'],
          resources: ['ingresses', 'ingressclasses', 'networkpolicies'],
          verbs: read,
        },
        { apiGroups: ['networking.k8s.io'], resources: ['ingresses/status'], verbs: ['patch', 'update'] },
        { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
      ],
    },
  ],
  // Secrets are not among it: `allowedByIngress` of the API server knows which.
  bind(networkGroup, networkGroup, networkGroup),
  bind('tiphys:node-bootstrap', 'system:node-bootstrapper', bootstrapGroup),
  bind('tiphys:node-autoapprove-bootstrap', `${requestsRole}:nodeclient`, bootstrapGroup),
  bind('tiphys:machine-bootstrap', 'system:node-bootstrapper', machineGroup),
  bind('tiphys:machine-autoapprove', `${requestsRole}:nodeclient`, machineGroup),
  ...readers(
    clusterConfig,
    [clusterConfig.name, removedNodes.name],
    [machineGroup, nodeGroup, networkGroup].map(groupSubject),
  ),
  // The machine has nothing to show yet.
  ...readers(clusterInfo, [clusterInfo.name], [{ apiGroup: rbac, kind: 'User', name: 'system:anonymous' }]),
  bind('tiphys:node-autoapprove-renewal', `${requestsRole}:selfnodeclient`, nodeGroup),
];

export async function applyClusterDefaults(client: Client, log: Logger): Promise<void> {
  const make = async ([kind, object]: [KindRef, OpenObject]): Promise<void> => {
    try {
      await client.create(kind, object);
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
      // One of an older version allows more than its users need.
      if (kind === kinds.ClusterRole)
        await client.patch(kind, { name: object.metadata.name ?? '' }, { merge: { rules: object['rules'] } });
    }
  };
  await Promise.all(
    defaults.map((entry) =>
      make(entry).catch((error: unknown) =>
        log.error(`${entry[1].kind} ${entry[1].metadata.name}`, { error: error as Error }),
      ),
    ),
  );
}
