/** Encryption keys change, and no Secret is lost on the way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { createFakeClock } from '#store/fake-clock.ts';
import { createMemoryStore } from '#store/memory.ts';
import type { Store } from '#store/store.ts';
import { createTestApi, seededRandom } from './fixture.ts';
import { createKeyRing, type EncryptionKey } from './keys.ts';
import { createApiServer } from './server.ts';

const random = seededRandom(7);
const keyOf = (id: string): EncryptionKey => ({ id, key: Buffer.from(random.bytes(32)).toString('base64') });
const secrets = '/api/v1/namespaces/default/secrets';
const secret = (name: string): object => ({ metadata: { name }, stringData: { password: `of ${name}` } });

/** By which keys the Secrets in a store are sealed. */
async function keysIn(store: Store): Promise<Set<string>> {
  const { values } = await store.list('/registry/secrets/');
  return new Set(values.map(({ value }) => Buffer.from(value.subarray(2, 2 + (value[1] ?? 0))).toString()));
}

test('everything is sealed with the new key, while others write, and a watch reads what was before', async () => {
  await using api = await createTestApi();
  const { store, options } = api.api.server;
  const [old] = options.keys.encryption;
  assert.ok(old !== undefined);
  for (let i = 0; i < 250; i++) await api.make(secrets, secret(`s${i}`));
  const from = (await api.call('GET', secrets)).body.metadata.resourceVersion;
  const added = keyOf('key2');
  const writing = Promise.all(
    Array.from({ length: 50 }, (_unused, i) =>
      api.call(
        'PATCH',
        `${secrets}/s${i}`,
        { stringData: { more: 'x' } },
        {
          headers: { 'content-type': 'application/merge-patch+json' },
        },
      ),
    ),
  );
  assert.ok((await api.api.sealWith([added, old])) >= 200);
  assert.ok((await writing).every(({ status }) => status === 200));
  assert.equal(await api.api.sealWith([added, old]), 0);
  assert.deepEqual([...(await keysIn(store))], ['key2']);
  await api.api.sealWith([added]);
  const { body } = await api.call('GET', secrets);
  assert.equal(body.items.length, 250);
  for (const { metadata, data } of body.items)
    assert.equal(Buffer.from(data.password, 'base64').toString(), `of ${metadata.name}`);
  const watch = await api.raw('GET', `${secrets}?watch=1&resourceVersion=${from}&timeoutSeconds=1`);
  assert.ok(watch.body !== undefined && !(watch.body instanceof Uint8Array));
  const [first] = [await watch.body[Symbol.asyncIterator]().next()];
  assert.match(Buffer.from(first.value ?? []).toString(), /"type":"MODIFIED"/);
});

test('one that is cut off is finished after the next start, and the old key is not needed then', async () => {
  const clock = createFakeClock();
  await using store = createMemoryStore(clock);
  const ring = createKeyRing(random, clock);
  const [old] = ring.encryption;
  assert.ok(old !== undefined);
  const added = keyOf('key2');
  const start = (encryption: EncryptionKey[]) =>
    createApiServer({ store, clock, random, log: silentLogger, keys: { ...ring, encryption } });
  const admin = { name: 'admin', groups: ['system:masters'] };
  const ask = async (api: Awaited<ReturnType<typeof start>>, method: string, path: string, object?: object) =>
    api.handle({
      method,
      path,
      query: new URLSearchParams(),
      headers: {},
      user: admin,
      signal: new AbortController().signal,
      wantsObject: true,
      ...(object === undefined ? {} : { object }),
    });
  {
    await using api = await start([old]);
    for (let i = 0; i < 20; i++)
      await ask(api, 'POST', secrets, { apiVersion: 'v1', kind: 'Secret', ...secret(`s${i}`) });
    const { txn } = store;
    let left = 5;
    store.txn = async (...args) => {
      if (left-- <= 0) throw new Error('killed');
      return txn.apply(store, args);
    };
    await assert.rejects(api.sealWith([added, old]), /killed/);
    store.txn = txn;
    assert.deepEqual([...(await keysIn(store))].sort(), ['key1', 'key2']);
  }
  {
    await using api = await start([added, old]);
    assert.ok((await ask(api, 'GET', `${secrets}/s19`)).status === 200);
    assert.equal(await api.sealWith([added, old]), 15);
  }
  await using api = await start([added]);
  for (let i = 0; i < 20; i++) assert.equal((await ask(api, 'GET', `${secrets}/s${i}`)).status, 200);
});
