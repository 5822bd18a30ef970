/**
 * The Node authorizer (Kubernetes, "Using Node Authorization"): a kubelet, user `system:node:NAME` of group
 * `system:nodes`, reads what the Pods bound to
 * its node use, and nothing else of those kinds. What RBAC's `system:node` role would grant at large is granted here
 * for that node alone.
 */
import { networkGroup, nodeGroup, nodeUserPrefix } from '#base/node-identity.ts';
import { kinds } from '#base/kinds.ts';
import type { Server } from '../context.ts';
import { lookUp } from '../lookup.ts';
import type { Attributes } from './attributes.ts';

export function nodeNameOf(user: { name: string; groups: string[] }): string | undefined {
  return user.groups.includes(nodeGroup) && user.name.startsWith(nodeUserPrefix)
    ? user.name.slice(nodeUserPrefix.length)
    : undefined;
}

const readVerbs = new Set(['get', 'list', 'watch']);
const anyRead = new Set([
  '/services',
  '/nodes',
  'storage.k8s.io/csidrivers',
  'storage.k8s.io/storageclasses',
  'node.k8s.io/runtimeclasses',
  'discovery.k8s.io/endpointslices',
  '/endpoints',
  'certificates.k8s.io/clustertrustbundles',
]);

export async function allowedByNode(server: Server, a: Attributes): Promise<boolean> {
  const node = nodeNameOf(a.user);
  if (node === undefined || !a.isResource) return false;
  const resource = `${a.group}/${a.resource}`;
  if (anyRead.has(resource) && readVerbs.has(a.verb) && a.subresource === '') return true;
  switch (resource) {
    case '/nodes':
      return (
        (a.verb === 'create' && a.subresource === '') ||
        (a.name === node &&
          ['update', 'patch', 'get'].includes(a.verb) &&
          (a.subresource === '' || a.subresource === 'status'))
      );
    case '/pods':
      return podAccess(a);
    case '/events':
    case 'events.k8s.io/events':
      return ['create', 'patch', 'update'].includes(a.verb);
    case '/secrets':
    case '/configmaps':
    case '/persistentvolumeclaims':
    case '/persistentvolumes':
      return ['get', 'list', 'watch'].includes(a.verb) && a.name !== '' && usedByNode(server, node, a);
    case '/serviceaccounts':
      return (
        (a.verb === 'create' && a.subresource === 'token' && usedByNode(server, node, a)) ||
        (a.verb === 'get' && usedByNode(server, node, a))
      );
    case 'coordination.k8s.io/leases':
      return a.namespace === 'kube-node-lease' && (a.verb === 'create' || a.name === node);
    case 'storage.k8s.io/csinodes':
      return a.name === node || a.verb === 'create';
    case 'storage.k8s.io/volumeattachments':
      return a.verb === 'get';
    case 'certificates.k8s.io/certificatesigningrequests':
      // `…/nodeclient` would be the right to become another node.
      return a.subresource === '' && ['create', 'get', 'list', 'watch'].includes(a.verb);
    case 'certificates.k8s.io/podcertificaterequests':
      return a.subresource === '' && (a.verb === 'create' || asksForOwn(server, node, a));
    case 'authentication.k8s.io/tokenreviews':
    case 'authorization.k8s.io/subjectaccessreviews':
    case 'authorization.k8s.io/localsubjectaccessreviews':
      return a.verb === 'create';
    default:
      return false;
  }
}

/** Requests for certificates of Pods on this node: one of them, or those that a selector leaves. */
async function asksForOwn(server: Server, node: string, a: Attributes): Promise<boolean> {
  if (a.verb === 'list' || a.verb === 'watch') return a.selectedNode === node;
  if (a.verb !== 'get') return false;
  return (await lookUp(server, kinds.PodCertificateRequest, a.name, a.namespace))?.spec.nodeName === node;
}

function podAccess(a: Attributes): boolean {
  if (a.subresource === 'status') return ['get', 'update', 'patch'].includes(a.verb);
  if (a.subresource === 'eviction') return a.verb === 'create';
  if (a.subresource !== '') return false;
  return ['get', 'list', 'watch', 'create', 'delete'].includes(a.verb);
}

/** The network part of a node reads the Secrets that Ingresses name as certificates, each by its name. */
export async function allowedByIngress(server: Server, a: Attributes): Promise<boolean> {
  if (!a.user.groups.includes(networkGroup) || !a.isResource) return false;
  const isSecret = a.group === '' && a.resource === 'secrets' && a.subresource === '' && a.name !== '';
  return isSecret && readVerbs.has(a.verb) && server.live.nodeGraph.ingressUses(a.namespace, a.name);
}

/** Whether a Pod on the node refers to the object; to a volume it does so by the claim that is bound to it. */
async function usedByNode(server: Server, node: string, a: Attributes): Promise<boolean> {
  const { nodeGraph } = server.live;
  if (a.resource !== 'persistentvolumes') return nodeGraph.nodeUses(node, a.resource, a.namespace, a.name);
  const volume = await lookUp(server, kinds.PersistentVolume, a.name);
  const { namespace = '', name = '' } = volume?.spec?.claimRef ?? {};
  if (!(await nodeGraph.nodeUses(node, 'persistentvolumeclaims', namespace, name))) return false;
  return (await lookUp(server, kinds.PersistentVolumeClaim, name, namespace))?.spec.volumeName === a.name;
}
