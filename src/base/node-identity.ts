/**
 * Names by which a node is known to the API server, and the signers of its certificates (Kubernetes documentation,
 * "Certificates and Certificate Signing Requests", "Kubernetes signers"; those of `tiphys.io` are this project's).
 */
/** As whom the API server comes to those that it aggregates. */
export const frontProxyClient = 'front-proxy-client';
export const nodeUserPrefix = 'system:node:';
export const nodeGroup = 'system:nodes';
/** Group of the identities of the nodes' network parts, and the beginning of their names. */
export const networkGroup = 'tiphys:node-network';
export const networkUserPrefix = `${networkGroup}:`;
export const ingressNamePrefix = 'tiphys-ingress:';
/** Who holds a bootstrap token with this group may become a node. */
export const bootstrapGroup = 'system:bootstrappers:tiphys:node';

export const nodeSigners = {
  kubeletClient: 'kubernetes.io/kube-apiserver-client-kubelet',
  kubeletServing: 'kubernetes.io/kubelet-serving',
  networkClient: 'tiphys.io/node-network-client',
  ingressServing: 'tiphys.io/ingress-serving',
} as const;
