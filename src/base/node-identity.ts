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
/** The same for another machine, of a name that the cluster does not have yet. */
export const machineGroup = 'system:bootstrappers:tiphys:machine';
/** The same for one that becomes a further server, and is given the cluster's keys. */
export const serverGroup = 'system:bootstrappers:tiphys:server';

/** Group of servers, where they speak to each other about the cluster's keys. */
export const serversGroup = 'tiphys:servers';

/** Label of Nodes on whose machine a control plane runs. */
export const controlPlaneRole = 'node-role.kubernetes.io/control-plane';

/** Annotations of Node objects. */
export const machineAnnotations = {
  /** Where other machines reach this one: an IPv4 address. */
  address: 'tiphys.io/machine-address',
  /** Which machine has joined under this name. */
  identity: 'tiphys.io/machine-identity',
  /** Hash of the authority that has signed all certificates of the node (`sha256:…`). */
  authority: 'tiphys.io/authority',
  /** Which program of Tiphys' the machine is to run, as JSON; told by `tiphys upgrade`. */
  programOrder: 'tiphys.io/program-order',
  /** Which one it runs, and what came of the last order, as JSON. */
  programState: 'tiphys.io/program-state',
  /** Since when the node is being taken out of the cluster: RFC 3339. */
  removal: 'tiphys.io/removal-requested',
} as const;

/**
 * Nodes that were taken out of the cluster: name and time (RFC 3339). Certificates that they were given until then are
 * refused.
 */
export const removedNodes = { namespace: 'kube-system', name: 'tiphys-removed-nodes' } as const;
/** What a machine that joins must know of the cluster. */
export const clusterConfig = { namespace: 'kube-system', name: 'tiphys-cluster' } as const;
/** Where strangers read the cluster's address and authority (kubeadm's name and form). */
export const clusterInfo = { namespace: 'kube-public', name: 'cluster-info' } as const;

/** A certificate of a node, as whoever was shown it knows it. */
export interface NodeCertificate {
  /** Its common name. */
  name: string;
  /** When it was issued, in milliseconds since 1970. */
  issuedAtMs: number;
}

/** The node whose identity, or whose network part's, a user is; undefined for everybody else. */
export function nodeOfUser(name: string): string | undefined {
  const prefix = [nodeUserPrefix, networkUserPrefix].find((each) => name.startsWith(each));
  return prefix === undefined ? undefined : name.slice(prefix.length);
}

/** Whether a certificate is one that its node was given before it was taken out of the cluster. */
export function isRevoked(
  { name, issuedAtMs }: NodeCertificate,
  removed: Readonly<Record<string, string>> | undefined,
): boolean {
  const node = nodeOfUser(name);
  const at = node === undefined ? undefined : removed?.[node];
  // What is no time stands for always: nobody but an administrator writes it.
  return at !== undefined && !(issuedAtMs > Date.parse(at));
}

export const nodeSigners = {
  kubeletClient: 'kubernetes.io/kube-apiserver-client-kubelet',
  kubeletServing: 'kubernetes.io/kubelet-serving',
  networkClient: 'tiphys.io/node-network-client',
  ingressServing: 'tiphys.io/ingress-serving',
} as const;
