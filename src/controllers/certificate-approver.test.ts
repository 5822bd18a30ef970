/** Which requests for certificates are approved without a person. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CertificateSigningRequest } from '#api/certificates.v1.ts';
import type { Node } from '#api/core.v1.ts';
import { machineGroup, nodeSigners } from '#base/node-identity.ts';
import { requestFor } from '#base/testing.ts';
import { planApproval } from './certificate-approver.ts';

type Names = Parameters<typeof requestFor>[0];

const bootstrap = { username: 'system:bootstrap:abcdef', groups: ['system:bootstrappers', 'system:authenticated'] };
const member = (name: string): typeof bootstrap => ({ username: `system:node:${name}`, groups: ['system:nodes'] });
const nodeNames = { commonName: 'system:node:a', organizations: ['system:nodes'] };
const client = ['digital signature', 'client auth'];
const serving = ['digital signature', 'server auth'];
const meta = { name: 'x', uid: 'u', resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z' };
const node: Node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { ...meta, name: 'a' },
  spec: {},
  status: { addresses: [{ type: 'InternalIP', address: '10.0.0.1' }] },
};

function verdict(
  signerName: string,
  names: Names,
  who: typeof bootstrap,
  usages = client,
  more: Partial<CertificateSigningRequest> = {},
): string {
  const csr: CertificateSigningRequest = {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: meta,
    spec: { signerName, usages, request: Buffer.from(requestFor(names).pem).toString('base64'), ...who },
    ...more,
  };
  const plan = planApproval(csr, (name) => (name === 'a' ? node : undefined));
  return plan.verdict === 'approve' ? `approve ${plan.subresource ?? 'at once'}` : plan.verdict;
}

test("a node's client certificate is approved for who may ask for it, and for the node itself by another right", () => {
  const { kubeletClient } = nodeSigners;
  assert.equal(verdict(kubeletClient, nodeNames, bootstrap), 'approve nodeclient');
  assert.equal(verdict(kubeletClient, nodeNames, member('a')), 'approve selfnodeclient');
  assert.equal(verdict(kubeletClient, nodeNames, member('b')), 'approve nodeclient');
  assert.equal(verdict(kubeletClient, { ...nodeNames, organizations: ['system:masters'] }, bootstrap), 'leave');
  assert.equal(verdict(kubeletClient, nodeNames, bootstrap, serving), 'leave');
  assert.equal(verdict('kubernetes.io/kube-apiserver-client', nodeNames, member('a')), 'leave');
});

test('a token for machines that join makes nobody a node that is there', () => {
  const machine = { username: 'system:bootstrap:abcdef', groups: ['system:bootstrappers', machineGroup] };
  const other = { ...nodeNames, commonName: 'system:node:new' };
  assert.equal(verdict(nodeSigners.kubeletClient, other, machine), 'approve nodeclient');
  assert.equal(verdict(nodeSigners.kubeletClient, nodeNames, machine), 'deny');
  assert.equal(
    verdict(nodeSigners.kubeletClient, nodeNames, bootstrap),
    'approve nodeclient',
    'a node of this machine',
  );
  const network = { commonName: 'tiphys:node-network:new', organizations: ['tiphys:node-network'] };
  assert.equal(verdict(nodeSigners.networkClient, network, machine), 'leave', 'a node asks for that itself');
});

test('a serving certificate is approved for the node itself, with the names and addresses that its Node has', () => {
  const { kubeletServing } = nodeSigners;
  const names = { ...nodeNames, dnsNames: ['a'], ipAddresses: ['10.0.0.1'] };
  assert.equal(verdict(kubeletServing, names, member('a'), serving), 'approve at once');
  assert.equal(verdict(kubeletServing, names, bootstrap, serving), 'leave');
  assert.equal(verdict(kubeletServing, names, member('b'), serving), 'leave');
  assert.equal(verdict(kubeletServing, { ...names, ipAddresses: ['10.0.0.9'] }, member('a'), serving), 'later');
  assert.equal(verdict(kubeletServing, { ...names, dnsNames: ['kubernetes'] }, member('a'), serving), 'later');
  const other = { ...names, commonName: 'system:node:b' };
  assert.equal(verdict(kubeletServing, other, member('b'), serving), 'later', 'there is no Node b');
});

test("the network part's and the Ingress' certificates are those of the node that asks", () => {
  const network = { commonName: 'tiphys:node-network:a', organizations: ['tiphys:node-network'] };
  assert.equal(verdict(nodeSigners.networkClient, network, bootstrap), 'approve nodeclient');
  assert.equal(verdict(nodeSigners.networkClient, network, member('a')), 'approve selfnodeclient');
  assert.equal(verdict(nodeSigners.networkClient, nodeNames, bootstrap), 'leave');
  const ingress = { commonName: 'tiphys-ingress:a', dnsNames: ['localhost', 'a'], ipAddresses: ['127.0.0.1'] };
  assert.equal(verdict(nodeSigners.ingressServing, ingress, member('a'), serving), 'approve at once');
  assert.equal(verdict(nodeSigners.ingressServing, ingress, member('b'), serving), 'leave');
  const shop = { ...ingress, dnsNames: ['shop.example.com'] };
  assert.equal(verdict(nodeSigners.ingressServing, shop, member('a'), serving), 'later');
});

test('what is decided, or no request, is left alone', () => {
  const { kubeletClient } = nodeSigners;
  const status = { conditions: [{ type: 'Denied', status: 'True' }] };
  assert.equal(verdict(kubeletClient, nodeNames, bootstrap, client, { status }), 'leave');
  const spec = {
    signerName: kubeletClient,
    usages: client,
    request: Buffer.from('x').toString('base64'),
    ...bootstrap,
  };
  assert.equal(verdict(kubeletClient, nodeNames, bootstrap, client, { spec }), 'leave');
});
