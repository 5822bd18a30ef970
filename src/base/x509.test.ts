import assert from 'node:assert/strict';
import { createPublicKey, sign, verify, X509Certificate } from 'node:crypto';
import { it } from 'node:test';
import { createCertificateAuthority, createSigningKey, issueCertificate, renewCertificateAuthority } from './x509.ts';

let state = 7;
const random = {
  bytes: (count: number): Uint8Array =>
    Uint8Array.from({ length: count }, () => ((state = (state * 1_103_515_245 + 12_345) % 2_147_483_648) >> 16) & 255),
};
const clock = { now: () => Date.UTC(2049, 11, 1) };

it('issues certificates that verify against their authority and name what was asked', () => {
  const ca = createCertificateAuthority('test-ca', random, clock);
  const issued = issueCertificate(
    {
      commonName: 'system:node:n1',
      organizations: ['system:nodes', 'x'],
      dnsNames: ['n1', '*.example.com'],
      ipAddresses: ['10.0.0.1', 'fd00::1:2', '::ffff:1.2.3.4'],
      server: true,
      client: true,
      days: 100,
    },
    ca,
    random,
    clock,
  );
  const certificate = new X509Certificate(issued.certificatePem);
  const authority = new X509Certificate(ca.certificatePem);
  assert.ok(
    certificate.verify(authority.publicKey) &&
      certificate.checkIssued(authority) &&
      authority.verify(authority.publicKey),
  );
  assert.deepEqual([authority.ca, certificate.ca], [true, false]);
  assert.equal(certificate.subject, 'O=system:nodes\nO=x\nCN=system:node:n1');
  for (const ip of ['10.0.0.1', 'fd00::1:2']) assert.equal(certificate.checkIP(ip), ip);
  assert.equal(certificate.checkHost('a.example.com'), '*.example.com');
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  assert.equal(certificate.validTo, 'Mar 10 23:55:00 2050 GMT'); // past 2049 the time has another form
});

it('renews an authority: each of its certificates vouches for what the other has signed', () => {
  const ca = createCertificateAuthority('test-ca', random, clock, 10);
  const later = { now: () => clock.now() + 9 * 86_400_000 };
  const renewed = renewCertificateAuthority(ca, random, later, 10);
  const [before, after] = [ca, renewed].map((each) => new X509Certificate(each.certificatePem)) as [
    X509Certificate,
    X509Certificate,
  ];
  assert.ok(after.validToDate > before.validToDate && after.ca && after.verify(before.publicKey));
  assert.deepEqual(
    [after.subject, after.issuer, after.serialNumber === before.serialNumber],
    [before.subject, before.subject, false],
  );
  for (const [signer, other] of [
    [ca, after],
    [renewed, before],
  ] as const) {
    const issued = issueCertificate({ commonName: 'x', server: true }, signer, random, clock);
    const certificate = new X509Certificate(issued.certificatePem);
    assert.ok(certificate.checkIssued(other) && certificate.verify(other.publicKey));
  }
});

it('makes keys that sign', () => {
  const key = createSigningKey(random);
  const signature = sign('sha256', Buffer.from('text'), key.privateKeyPem);
  assert.ok(verify('sha256', Buffer.from('text'), createPublicKey(key.publicKeyPem), signature));
});
