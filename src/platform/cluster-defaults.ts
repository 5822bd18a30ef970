/**
 * Objects that every cluster of ours has: the IngressClass of the built-in HAProxy, and what the network part of a node
 * may read. Made once; what the user changes stays so.
 */
import { isReason } from '#base/errors.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#client/kinds.ts';
import { ingressClassName, ingressController } from '#network/ingress.ts';
import type { Logger } from '#observe/log.ts';

/** Group of the certificates of the nodes' network parts. */
export const networkGroup = 'tiphys:node-network';

const read = ['get', 'list', 'watch'];
const defaults: [KindRef, KubeObject][] = [
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
        { apiGroups: [''], resources: ['services', 'namespaces', 'persistentvolumes'], verbs: read },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
        {
          apiGroups: ['networking.k8s.io'],
          resources: ['ingresses', 'ingressclasses', 'networkpolicies'],
          verbs: read,
        },
        { apiGroups: ['networking.k8s.io'], resources: ['ingresses/status'], verbs: ['patch', 'update'] },
        // Certificates that Ingresses name.
        { apiGroups: [''], resources: ['secrets'], verbs: ['get'] },
        { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
      ],
    },
  ],
  [
    kinds.ClusterRoleBinding,
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: networkGroup },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: networkGroup },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: networkGroup }],
    },
  ],
];

export async function applyClusterDefaults(client: Client, log: Logger): Promise<void> {
  await Promise.all(
    defaults.map(([kind, object]) =>
      client.create(kind, object).catch((error: unknown) => {
        if (!isReason(error, 'AlreadyExists'))
          log.error(`${object.kind} ${object.metadata.name}`, { error: error as Error });
      }),
    ),
  );
}
