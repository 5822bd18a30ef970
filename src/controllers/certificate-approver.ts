/**
 * Approves the CertificateSigningRequests by which nodes get their certificates, and no others: a person approves what
 * is left.
 *
 * | signer | who may ask | for what |
 * | --- | --- | --- |
 * | `…/kube-apiserver-client-kubelet` | who may create `…/nodeclient`; a node itself: `…/selfnodeclient` | a node |
 * | `…/kubelet-serving` | the node itself | its name and the addresses of its Node object |
 * | `tiphys.io/node-network-client` | as for a node's client certificate | that of its network part |
 * | `tiphys.io/ingress-serving` | the node itself | `localhost`, its names and addresses |
 *
 * Who holds a token for machines that join may ask for a name that no Node has, and is refused others: a token must not
 * make anybody a node that is there.
 *
 * The first row is upstream's approver (Kubernetes documentation, "TLS bootstrapping"). Upstream leaves serving
 * certificates to others, because nobody there knows a node's addresses; here the node's own Node object, which the
 * node restriction lets no other node write, says them.
 */
import type { CertificateSigningRequest } from '#api/certificates.v1.ts';
import type { Node } from '#api/core.v1.ts';
import { parseCertificationRequest, RequestError } from '#base/certificate-request.ts';
import type { CertificationRequest } from '#base/certificate-request.ts';
import {
  ingressNamePrefix,
  machineGroup,
  networkUserPrefix,
  nodeGroup,
  nodeSigners,
  nodeUserPrefix,
} from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { signerProblem } from './certificate-signer.ts';
import { type Controller, type ControllerContext, createQueue } from './runtime.ts';

/** How the common name of a signer's requests begins; the node's name follows. */
const prefixes: Readonly<Record<string, string>> = {
  [nodeSigners.kubeletClient]: nodeUserPrefix,
  [nodeSigners.kubeletServing]: nodeUserPrefix,
  [nodeSigners.networkClient]: networkUserPrefix,
  [nodeSigners.ingressServing]: ingressNamePrefix,
};

export type ApprovalPlan =
  /** Nobody but a person may approve it. */
  | { verdict: 'leave' }
  /** Its Node does not say yet what the request names. */
  | { verdict: 'later' }
  /** The name is another machine's. */
  | { verdict: 'deny'; message: string }
  /** Where the requester may create this subresource of CertificateSigningRequests; undefined: in any case. */
  | { verdict: 'approve'; subresource: 'nodeclient' | 'selfnodeclient' | undefined };

/** The node that a request is for, by its signer's rules; undefined for what no node asks for. */
function subjectNode(signer: string, request: CertificationRequest): string | undefined {
  const prefix = prefixes[signer];
  return prefix !== undefined && request.commonName.startsWith(prefix)
    ? request.commonName.slice(prefix.length)
    : undefined;
}

/** Whether the Node has all names and addresses that a request names. */
function hasAll(node: Node, request: CertificationRequest, more: readonly string[]): boolean {
  const known = new Set([
    ...more,
    node.metadata.name,
    node.metadata.labels?.['kubernetes.io/hostname'],
    ...(node.status?.addresses ?? []).map(({ address }) => address),
  ]);
  return [...request.dnsNames, ...request.ipAddresses].every((name) => known.has(name));
}

/** What becomes of a request that nobody has decided. `nodeOf` answers the Node of a name, if there is one. */
export function planApproval(csr: CertificateSigningRequest, nodeOf: (name: string) => Node | undefined): ApprovalPlan {
  const { signerName, username = '', groups = [], usages = [] } = csr.spec;
  const decided = (csr.status?.conditions ?? []).some(({ type }) => type !== 'Failed');
  if (decided || csr.status?.certificate) return { verdict: 'leave' };
  let request: CertificationRequest;
  try {
    request = parseCertificationRequest(Buffer.from(csr.spec.request, 'base64').toString());
  } catch (error) {
    if (error instanceof RequestError) return { verdict: 'leave' };
    throw error;
  }
  const name = subjectNode(signerName, request);
  if (name === undefined || signerProblem(signerName, request, usages) !== '') return { verdict: 'leave' };
  // Whatever else a node needs it asks for itself.
  if (groups.includes(machineGroup) && signerName !== nodeSigners.kubeletClient) return { verdict: 'leave' };
  if (groups.includes(machineGroup) && nodeOf(name) !== undefined)
    return {
      verdict: 'deny',
      message: `the cluster has a node ${name} already; join under another name (--name), or take that one out first (tiphys remove ${name})`,
    };
  const isOwn = username === `${nodeUserPrefix}${name}` && groups.includes(nodeGroup);
  if (signerName === nodeSigners.kubeletClient || signerName === nodeSigners.networkClient)
    return { verdict: 'approve', subresource: isOwn ? 'selfnodeclient' : 'nodeclient' };
  if (!isOwn) return { verdict: 'leave' };
  const node = nodeOf(name);
  const more = signerName === nodeSigners.ingressServing ? ['localhost', '127.0.0.1'] : [];
  if (node === undefined || !hasAll(node, request, more)) return { verdict: 'later' };
  return { verdict: 'approve', subresource: undefined };
}

export function startCertificateApprover(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const requests = informers.informer(kinds.CertificateSigningRequest);
  const nodes = informers.informer(kinds.Node);

  const mayCreate = async (csr: CertificateSigningRequest, subresource: string): Promise<boolean> => {
    const { username, groups, uid, extra } = csr.spec;
    const review = await client.create(kinds.SubjectAccessReview, {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      metadata: {},
      spec: {
        ...(username === undefined ? {} : { user: username }),
        ...(groups === undefined ? {} : { groups }),
        ...(uid === undefined ? {} : { uid }),
        ...(extra === undefined ? {} : { extra }),
        resourceAttributes: {
          group: 'certificates.k8s.io',
          resource: 'certificatesigningrequests',
          verb: 'create',
          version: 'v1',
          subresource,
        },
      },
    });
    return review.status?.allowed === true;
  };

  const queue = createQueue(context, 'certificate-approver', async (key) => {
    const csr = requests.get(key);
    if (csr === undefined || csr.metadata.deletionTimestamp !== undefined) return undefined;
    const plan = planApproval(csr, (name) => nodes.get(name));
    if (plan.verdict !== 'approve' && plan.verdict !== 'deny') return undefined;
    if (plan.verdict === 'approve' && plan.subresource !== undefined && !(await mayCreate(csr, plan.subresource)))
      return undefined;
    const now = timestamp(clock.now());
    const words =
      plan.verdict === 'approve'
        ? { type: 'Approved', reason: 'AutoApproved', message: 'Auto approving certificate of a node.' }
        : { type: 'Denied', reason: 'NodeExists', message: plan.message };
    const decision = { ...words, status: 'True', lastUpdateTime: now, lastTransitionTime: now };
    const status = { ...csr.status, conditions: [...(csr.status?.conditions ?? []), decision] };
    await client.update(kinds.CertificateSigningRequest, { ...csr, status }, { subresource: 'approval' });
    return undefined;
  });
  const enqueue = (csr: CertificateSigningRequest): void => queue.add(keyOf(csr));
  requests.addHandler({ added: enqueue, updated: enqueue });
  // Requests wait for what their Nodes say.
  const enqueueAll = (): void => requests.list().forEach(enqueue);
  nodes.addHandler({
    added: enqueueAll,
    updated: (node, before) => {
      if (JSON.stringify(node.status?.addresses) !== JSON.stringify(before.status?.addresses)) enqueueAll();
    },
  });
  return { name: 'certificate-approver', queues: [queue] };
}
