/** The key-ring on the way from one set of keys to the next, and what it is worth at each step. */
import assert from 'node:assert/strict';
import { connect, createServer, type TLSSocket } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createKeyRing, trustedAuthorities, type KeyRing } from '#apiserver/keys.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { fingerprintOf } from '../cluster-store.ts';
import { authorityHashOf } from '../join-token.ts';
import { lateNodes } from './change-keys.ts';
import { openMessage, sealMessage } from './messages.ts';
import { planAuthorities, planEndOfFormer, planNextKey, planUseOfNextKey } from './rotate.ts';

const means = { random: realRandom, clock: realClock };
const newRing = (): KeyRing => ({
  ...createKeyRing(realRandom, realClock),
  etcd: createCertificateAuthority('tiphys-etcd-ca', realRandom, realClock),
});
const present = <T>(value: T | undefined): T => {
  assert.ok(value !== undefined);
  return value;
};

/** Whether two that trust these authorities, and show these certificates, believe each other. */
async function believe(
  server: { pair: KeyPair; trusts: string },
  client: { pair: KeyPair; trusts: string },
): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const secure = { requestCert: true, rejectUnauthorized: false };
  const listener = createServer({
    ...{ cert: server.pair.certificatePem, key: server.pair.keyPem, ca: server.trusts, ...secure },
  });
  listener.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => undefined);
    resolve(socket.authorized);
    socket.end();
  });
  await new Promise<void>((done) => {
    listener.listen(0, '127.0.0.1', done);
  });
  const { port } = listener.address() as AddressInfo;
  const { certificatePem: cert, keyPem: key } = client.pair;
  const socket = connect({ host: '127.0.0.1', port, ca: client.trusts, cert, key });
  socket.on('error', () => resolve(false));
  try {
    return await promise;
  } finally {
    socket.destroy();
    listener.close();
  }
}

const issued = (ring: KeyRing, name: 'ca' | 'etcd' = 'ca'): KeyPair =>
  issueCertificate(
    { commonName: 'a', ipAddresses: ['127.0.0.1'], server: true, client: true },
    present(ring[name]),
    realRandom,
    realClock,
  );

test('while authorities change whoever knows one of them and whoever has a certificate of one of them go on', async () => {
  const before = newRing();
  const rotated = present(planAuthorities(before, means));
  const after = planEndOfFormer(rotated);
  assert.equal(planAuthorities(rotated, means), undefined, 'one change at a time');
  assert.throws(() => planEndOfFormer(after), /one authority holds/);
  assert.deepEqual([rotated.generation, after.generation], [1, 2]);
  for (const name of ['ca', 'etcd'] as const) {
    const side = (trust: KeyRing, sign: KeyRing) => ({
      pair: issued(sign, name),
      trusts: trustedAuthorities(trust, name),
    });
    const [old, both, mixed, fresh] = [
      side(before, before),
      side(rotated, rotated),
      side(rotated, before),
      side(after, after),
    ];
    for (const [one, other] of [
      [old, both],
      [old, mixed],
      [both, mixed],
      [both, fresh],
    ] as const) {
      assert.equal(await believe(one, other), true, name);
      assert.equal(await believe(other, one), true, name);
    }
    assert.equal(await believe(old, fresh), false);
    assert.equal(await believe(fresh, mixed), false, 'what the former one has signed holds no more');
  }
  const again = present(planAuthorities(after, means));
  assert.deepEqual(
    [rotated, after, again].map(fingerprintOf),
    Array.from({ length: 3 }, () => fingerprintOf(before)),
    'an etcd knows the cluster by its first authority',
  );
});

test('a next key is known before it encrypts, and the one before it stays', () => {
  const ring = newRing();
  const known = present(planNextKey(ring, means));
  assert.deepEqual(
    known.encryption.map(({ id }) => id),
    ['key1', 'key2'],
  );
  assert.equal(planNextKey(known, means), undefined, 'one change at a time');
  const used = present(planUseOfNextKey(known));
  assert.deepEqual(
    used.encryption.map(({ id }) => id),
    ['key2', 'key1'],
  );
  assert.equal(planUseOfNextKey(used), undefined);
  assert.deepEqual(
    present(planNextKey(used, means)).encryption.map(({ id }) => id),
    ['key2', 'key3'],
  );
});

test('only servers understand what servers say of keys', () => {
  const ring = newRing();
  const said = sealMessage(ring, 'request', { nonce: 'a' }, realRandom);
  const rotated = present(planAuthorities(ring, means));
  assert.deepEqual(openMessage(rotated, 'request', said), { nonce: 'a' }, 'also amid a change');
  assert.throws(() => openMessage(newRing(), 'request', said), /was not sealed/);
  assert.throws(() => openMessage(ring, 'answer', said), /was not sealed/);
  for (const wrong of [{}, { sealed: '' }, { sealed: 'AAAA' }, { sealed: 7 }, null])
    assert.throws(() => openMessage(ring, 'request', wrong), /was not sealed/);
});

test('a node needs the former authority until it says that all of its certificates are of the one that signs', () => {
  const ring = newRing();
  const rotated = present(planAuthorities(ring, means));
  const node = (name: string, authority?: string) => ({
    metadata: { name, ...(authority === undefined ? {} : { annotations: { 'tiphys.io/authority': authority } }) },
  });
  const [old, now] = [ring, rotated].map(({ ca }) => authorityHashOf(ca.certificatePem));
  assert.deepEqual(lateNodes([node('a', now), node('b', old), node('c')], rotated), ['b', 'c']);
});
