import assert from 'node:assert/strict';
import { X509Certificate, createPrivateKey, createPublicKey } from 'node:crypto';
import { describe, it } from 'node:test';
import { RequestError, parseCertificationRequest } from './certificate-request.ts';
import { requestFor } from './testing.ts';
import { createCertificateAuthority, signCertificationRequest } from './x509.ts';

let drawn = 0;
const random = {
  bytes: (count: number) => Uint8Array.from({ length: count }, () => (drawn = (drawn * 73 + 41) % 251)),
};
const clock = { now: () => Date.parse('2030-01-01T00:00:00Z') };

describe('certification requests', () => {
  it('are read and signed with the names, key and usages that they ask for', () => {
    for (const kind of ['ec', 'rsa', 'ed25519'] as const) {
      const { pem, privateKeyPem } = requestFor(
        {
          commonName: 'system:node:n1',
          organizations: ['system:nodes'],
          dnsNames: ['n1'],
          ipAddresses: ['10.0.0.1', 'fd00::1'],
        },
        kind,
      );
      const request = parseCertificationRequest(pem);
      assert.deepEqual(
        [request.commonName, request.organizations, request.dnsNames, request.ipAddresses, request.otherNames],
        ['system:node:n1', ['system:nodes'], ['n1'], ['10.0.0.1', 'fd00::1'], 0],
      );
      const ca = createCertificateAuthority('ca', random, clock);
      const certificate = new X509Certificate(
        signCertificationRequest(
          request,
          { usages: ['digital signature', 'key encipherment', 'server auth'], seconds: 3600, ca },
          random,
          clock,
        ),
      );
      assert.ok(
        certificate.verify(
          createPublicKey(new X509Certificate(ca.certificatePem).publicKey.export({ type: 'spki', format: 'pem' })),
        ),
      );
      assert.ok(certificate.checkPrivateKey(createPrivateKey(privateKeyPem)));
      assert.deepEqual(
        [
          certificate.subject,
          certificate.subjectAltName,
          certificate.keyUsage,
          new Date(certificate.validTo).toISOString(),
        ],
        [
          'O=system:nodes\nCN=system:node:n1',
          'DNS:n1, IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:0:1',
          ['1.3.6.1.5.5.7.3.1'],
          '2030-01-01T01:00:00.000Z',
        ],
      );
    }
  });

  it('that are none, or that another key signed, are refused', () => {
    const { pem } = requestFor({ commonName: 'a' });
    const bytes = Buffer.from(pem.split('\n').slice(1, -2).join(''), 'base64');
    const wrapped = (content: Uint8Array): string =>
      `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(content).toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    for (const length of [0, 1, 10, bytes.length - 1])
      assert.throws(() => parseCertificationRequest(wrapped(bytes.subarray(0, length))), RequestError, String(length));
    const changed = Buffer.from(bytes);
    changed[changed.indexOf(Buffer.from([0x0c, 0x01, 0x61])) + 2] = 0x62; // another name than the one that was signed
    assert.throws(() => parseCertificationRequest(wrapped(changed)), /does not match its key/);
    assert.throws(() => parseCertificationRequest('nothing'), /must be CERTIFICATE REQUEST/);
  });

  it('survive any bytes', () => {
    const { pem } = requestFor({ commonName: 'a', dnsNames: ['b'] });
    const bytes = Buffer.from(pem.split('\n').slice(1, -2).join(''), 'base64');
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = changed[at]! ^ 0xff;
      try {
        parseCertificationRequest(
          `-----BEGIN CERTIFICATE REQUEST-----\n${changed.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`,
        );
      } catch (error) {
        assert.ok(error instanceof RequestError, `${at}: ${String(error)}`);
      }
    }
  });
});
