/** Objects that every cluster of ours has: the IngressClass of the built-in HAProxy. Made once; what the user changes or deletes stays so. */
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#client/kinds.ts';
import { ingressClassName, ingressController } from '#network/ingress.ts';
import type { Logger } from '#observe/log.ts';

export async function applyClusterDefaults(client: Client, log: Logger): Promise<void> {
  const ingressClass: KubeObject = { apiVersion: 'networking.k8s.io/v1', kind: 'IngressClass', metadata: { name: ingressClassName, annotations: { 'ingressclass.kubernetes.io/is-default-class': 'true' } }, spec: { controller: ingressController } };
  await client.create(kinds.IngressClass, ingressClass).catch((error: unknown) => {
    if (!isReason(error, 'AlreadyExists')) log.error('ingress class', { error: error as Error });
  });
}
