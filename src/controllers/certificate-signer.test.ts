import type { CertificateSigningRequest } from '#api/certificates.v1.ts';
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { sampleOf, requestFor, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { createCertificateAuthority } from '#base/x509.ts';
import { planSigning, removalMs } from './certificate-signer.ts';

const now = Date.parse('2030-01-01T00:00:00Z');
let drawn = 0;
const random = {
  bytes: (count: number) => Uint8Array.from({ length: count }, () => (drawn = (drawn * 73 + 41) % 251)),
} as never;
const clock = { now: () => now } as never;
const ca = createCertificateAuthority('ca', random, clock);
const usages = {
  client: ['client auth', 'digital signature'],
  serving: ['server auth', 'digital signature', 'key encipherment'],
};

function csr(
  signerName: string,
  names: Parameters<typeof requestFor>[0],
  spec: TestJson = {},
  conditions: string[] = ['Approved'],
): CertificateSigningRequest {
  const { pem } = requestFor(names);
  return sampleOf(kinds.CertificateSigningRequest, {
    metadata: { name: 'r', creationTimestamp: '2029-12-31T23:00:00Z' },
    spec: {
      signerName: `kubernetes.io/${signerName}`,
      request: Buffer.from(pem).toString('base64'),
      usages: usages.client,
      ...spec,
    },
    status: {
      conditions: conditions.map((type) => ({ type, status: 'True', lastUpdateTime: '2029-12-31T23:59:00Z' })),
    },
  });
}

const outcome = (request: CertificateSigningRequest): string => {
  const status = planSigning(request, ca, { random, clock });
  if (status === undefined) return 'nothing';
  if (status.certificate === undefined) {
    const last = status.conditions?.at(-1);
    return `${last?.type}: ${last?.message}`;
  }
  const certificate = new X509Certificate(Buffer.from(status.certificate, 'base64'));
  return `signed until ${new Date(certificate.validTo).toISOString()}`;
};

test("approved requests of the cluster's signers are signed, those that break its rules fail", () => {
  const node = { commonName: 'system:node:n1', organizations: ['system:nodes'] };
  assert.equal(outcome(csr('kube-apiserver-client', { commonName: 'jane' })), 'signed until 2031-01-01T00:00:00.000Z');
  assert.equal(
    outcome(csr('kube-apiserver-client', { commonName: 'jane' }, { expirationSeconds: 3600 })),
    'signed until 2030-01-01T01:00:00.000Z',
  );
  assert.match(
    outcome(csr('kube-apiserver-client', { commonName: 'jane' }, { usages: usages.serving })),
    /^Failed: usages must include client auth/,
  );
  assert.match(outcome(csr('kube-apiserver-client-kubelet', { commonName: 'jane' })), /^Failed: subject organization/);
  assert.match(outcome(csr('kube-apiserver-client-kubelet', node)), /^signed/);
  assert.match(
    outcome(csr('kube-apiserver-client-kubelet', { ...node, dnsNames: ['a'] })),
    /^Failed: alternative names/,
  );
  assert.match(outcome(csr('kubelet-serving', { ...node, dnsNames: ['n1'] }, { usages: usages.serving })), /^signed/);
  assert.match(outcome(csr('kubelet-serving', node, { usages: usages.serving })), /^Failed: DNS or IP/);
  assert.match(
    outcome(csr('legacy-unknown', { commonName: 'x' }, { usages: ['cert sign'] })),
    /^Failed: usages of an authority/,
  );
  assert.match(
    outcome(csr('kube-apiserver-client', { commonName: 'jane' }, { request: Buffer.from('x').toString('base64') })),
    /^Failed: unable to parse csr/,
  );
});

test("what is not approved, denied, failed or another signer's is left alone", () => {
  for (const conditions of [[], ['Approved', 'Denied'], ['Approved', 'Failed']])
    assert.equal(outcome(csr('kube-apiserver-client', { commonName: 'jane' }, {}, conditions)), 'nothing');
  const other = csr('kube-apiserver-client', { commonName: 'jane' }, { signerName: 'example.com/mine' });
  assert.equal(outcome(other), 'nothing');
});

test('requests are taken away an hour after they were decided, a day after they were made', () => {
  assert.equal(removalMs(csr('legacy-unknown', { commonName: 'x' })), Date.parse('2030-01-01T00:59:00Z'));
  assert.equal(removalMs(csr('legacy-unknown', { commonName: 'x' }, {}, [])), Date.parse('2030-01-01T23:00:00Z'));
});
