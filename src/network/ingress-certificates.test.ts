/** Certificates that are followed while the API server does not answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import { createCertificateAuthority, issueCertificate } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { silentLogger } from '#observe/log.ts';
import { SimClock, SimRandom } from '#os/clock.sim.ts';
import { createCluster } from '#sim/cluster.ts';
import { IngressCertificates } from './ingress-certificates.ts';
import { ingressSecretWaitMsMax } from './limits.ts';

const key = 'default/shop';

test('nobody waits for long; what is read later is told, and what is not known is no problem of its owner', async () => {
  await using cluster = await createCluster({ nodes: 0 });
  await cluster.ready();
  const random = new SimRandom(1);
  const { certificatePem, keyPem } = issueCertificate(
    { commonName: 'shop', server: true },
    createCertificateAuthority('ca', random, cluster.clock),
    random,
    cluster.clock,
  );
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  await cluster.client.create(kinds.Secret, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'shop', namespace: 'default' },
    data: { 'tls.crt': base64(certificatePem), 'tls.key': base64(keyPem) },
  });
  let isAway = true;
  const lists: unknown[] = [];
  const client: Client = {
    ...cluster.client,
    async list(kind, options) {
      lists.push(options?.fieldSelector);
      if (isAway) throw new ApiError('ServiceUnavailable', 'away');
      return cluster.client.list(kind, options);
    },
  };
  const clock = new SimClock(0);
  const informers = new InformerFactory({ client, clock, random, log: silentLogger });
  let changes = 0;
  await using certificates = new IngressCertificates(informers, clock, () => {
    changes++;
  });
  const following = certificates.follow(new Set([key]));
  await clock.advance(ingressSecretWaitMsMax);
  assert.deepEqual([await following, certificates.get(key), certificates.problem(key)], [false, undefined, undefined]);
  isAway = false;
  await clock.advance(60_000);
  assert.equal(certificates.get(key)?.key, keyPem);
  assert.ok(changes > 0);
  assert.equal(await certificates.follow(new Set([key])), true);
  assert.deepEqual(new Set(lists), new Set(['metadata.name=shop']));
  await certificates.follow(new Set());
  assert.equal(certificates.get(key), undefined, 'nobody names it any more');
});
