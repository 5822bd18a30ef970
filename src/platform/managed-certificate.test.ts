/** A node's certificates, asked for in a whole cluster in virtual time. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootstrapGroup, nodeSigners } from '#base/node-identity.ts';
import { createCertificateAuthority, succeedCertificateAuthority, type KeyPair } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import { silentLogger } from '#observe/log.ts';
import { realRandom } from '#os/clock.real.ts';
import { type Cluster, createCluster } from '#sim/cluster.ts';
import { applyClusterDefaults } from './cluster-defaults.ts';
import { certificatesIn, ManagedCertificate, requestCertificate, type CertificateAsk } from './managed-certificate.ts';

const names = { commonName: 'system:node:a', organizations: ['system:nodes'] };
const startMs = Date.parse('2026-01-01T00:00:00Z');

interface Bench extends AsyncDisposable {
  cluster: Cluster;
  file: string;
  ca: KeyPair;
  /** Who asked for each certificate. */
  askers: string[];
  /** What holds instead of the authority that one was opened with, in PEM. */
  trusted: { now?: string };
  open(ca?: KeyPair, seconds?: number): ManagedCertificate;
}

async function bench(): Promise<Bench> {
  const ca = createCertificateAuthority('ca', realRandom, { now: () => startMs });
  const cluster = await createCluster({ nodes: 0, controllers: { signer: ca, rootCa: ca.certificatePem } });
  await cluster.ready();
  await applyClusterDefaults(cluster.client, silentLogger);
  const directory = mkdtempSync(join(tmpdir(), 'certificate-'));
  const askers: string[] = [];
  const trusted: Bench['trusted'] = {};
  const clientOf = (name: string, groups: string[]): Client => {
    askers.push(name);
    return createClient(createDirectTransport(cluster.api.handle, { name, groups }), name);
  };
  const opened: ManagedCertificate[] = [];
  return {
    cluster,
    file: join(directory, 'a.pem'),
    ca,
    askers,
    trusted,
    open(authority = ca, seconds) {
      const request: CertificateAsk = {
        names,
        signer: nodeSigners.kubeletClient,
        use: 'client auth',
        client: () =>
          certificate.isHeld
            ? clientOf(names.commonName, names.organizations)
            : clientOf('system:bootstrap:abcdef', ['system:bootstrappers', bootstrapGroup]),
        clock: cluster.clock,
        random: cluster.random,
        ...(seconds === undefined ? {} : { seconds }),
      };
      const certificate: ManagedCertificate = new ManagedCertificate({
        file: join(directory, 'a.pem'),
        names,
        ca: () => trusted.now ?? authority.certificatePem,
        obtain: (signal) => requestCertificate(request, signal),
        clock: cluster.clock,
        random: cluster.random,
        log: silentLogger,
      });
      opened.push(certificate);
      return certificate;
    },
    async [Symbol.asyncDispose]() {
      for (const certificate of opened) certificate.close();
      await cluster[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

test('a certificate is asked for by the bootstrap token, kept, and renewed by the node itself before it ends', async () => {
  await using b = await bench();
  const certificate = b.open();
  const seen: string[] = [];
  certificate.subscribe(({ certificatePem }) => seen.push(certificatePem));
  assert.throws(() => certificate.pair, /no certificate/);
  void certificate.run();
  await b.cluster.runUntil(() => certificate.isHeld, { timeout: '1m' });
  const first = new X509Certificate(certificate.pair.certificatePem);
  assert.match(first.subject, /O=system:nodes\nCN=system:node:a/);
  assert.deepEqual(b.askers, ['system:bootstrap:abcdef']);

  const again = b.open();
  assert.equal(again.pair.certificatePem, certificate.pair.certificatePem, 'the file holds it');

  await b.cluster.advance('200d');
  assert.equal(seen.length, 1, 'it is not renewed too early');
  await b.cluster.advance('150d');
  assert.equal(seen.length, 2);
  assert.deepEqual(b.askers, ['system:bootstrap:abcdef', 'system:node:a']);
  const second = new X509Certificate(certificate.pair.certificatePem);
  assert.ok(second.validToDate > first.validToDate && first.validToDate.getTime() > b.cluster.now);
  assert.notDeepEqual(second.publicKey.export({ format: 'jwk' }), first.publicKey.export({ format: 'jwk' }));
});

test('what another authority has signed, or what is over, is not held', async () => {
  await using b = await bench();
  const certificate = b.open();
  void certificate.run();
  await b.cluster.runUntil(() => certificate.isHeld, { timeout: '1m' });
  certificate.close();
  assert.equal(b.open().isHeld, true);
  assert.equal(b.open(createCertificateAuthority('ca', realRandom, { now: () => startMs })).isHeld, false);
  await b.cluster.advance('366d');
  assert.equal(b.open().isHeld, false);
});

test('while nobody answers it is asked for again, and what is held goes on being used', async () => {
  await using b = await bench();
  const certificate = b.open(b.ca, 86_400);
  void certificate.run();
  await b.cluster.runUntil(() => certificate.isHeld, { timeout: '1m' });
  const { certificatePem } = certificate.pair;
  // A person denies it.
  await b.cluster.client.delete(
    { group: 'rbac.authorization.k8s.io', version: 'v1', resource: 'clusterrolebindings', kind: '', namespaced: false },
    'tiphys:node-autoapprove-renewal',
  );
  await b.cluster.advance('23h');
  assert.equal(certificate.pair.certificatePem, certificatePem);
  await applyClusterDefaults(b.cluster.client, silentLogger);
  await b.cluster.advance('50m');
  assert.notEqual(certificate.pair.certificatePem, certificatePem);
});

test('another authority signs: what is held goes on and is asked for anew until that one has signed it', async () => {
  await using b = await bench();
  const certificate = b.open();
  void certificate.run();
  await b.cluster.runUntil(() => certificate.isHeld, { timeout: '1m' });
  const { certificatePem } = certificate.pair;
  let told = 0;
  certificate.subscribe(() => told++);
  const next = succeedCertificateAuthority(b.ca, realRandom, { now: () => b.cluster.now });
  b.trusted.now = next.certificatePem + b.ca.certificatePem;
  assert.equal(certificate.isCurrent, false);
  certificate.authorityChanged();
  // The signer does not know the next one yet.
  await b.cluster.advance('10m');
  assert.equal(certificate.isHeld && !certificate.isCurrent, true);
  assert.notEqual(certificate.pair.certificatePem, certificatePem);
  assert.ok(told > 1 && b.askers.length < 60, `asked ${b.askers.length} times`);
  Object.assign(b.ca, next);
  await b.cluster.advance('1m');
  assert.equal(certificate.isCurrent, true);
  assert.equal(certificatesIn(certificate.pair.certificatePem).length, 2, 'and what vouches for the next authority');
  assert.equal(b.open().pair.certificatePem, certificate.pair.certificatePem, 'the file holds all of it');
});
