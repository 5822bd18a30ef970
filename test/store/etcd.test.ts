/** The etcd backend against real etcds: the suite of all stores, and what only a shared store does. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isReason } from '#base/errors.ts';
import { createCertificateAuthority, issueCertificate, type KeyPair } from '#base/x509.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { EtcdClient, type EtcdAddress } from '#store/etcd/client.ts';
import { openEtcdStore, type EtcdStore } from '#store/etcd/etcd-store.ts';
import { mirrorMsMin, requestMsMax } from '#store/etcd/limits.ts';
import { methods } from '#store/etcd/requests.ts';
import { CompactedError, type Operation, type StoreEvent } from '#store/store.ts';
import { runStoreSuite, take, text } from '#store/store.suite.ts';
import { Proxy } from './proxy.ts';
import { etcdPrograms, etcdVersion, noEtcd, startEtcd, type TestEtcd } from './etcd.ts';

const put = (store: EtcdStore, key: string, value: string, lease?: number) =>
  store.txn([], [{ type: 'put', key, value: Buffer.from(value), ...(lease === undefined ? {} : { lease }) }]);

let prefixes = 0;
const openAt = (endpoints: readonly string[], prefix: string): Promise<EtcdStore> =>
  openEtcdStore({ address: { endpoints }, prefix, clock: realClock, random: realRandom, log: silentLogger });

if (noEtcd !== false) it('the etcd backend', { skip: noEtcd }, () => undefined);

for (const program of etcdPrograms()) {
  describe(`etcd ${etcdVersion(program)}`, () => {
    let etcd: TestEtcd;
    before(async () => {
      etcd = await startEtcd(program);
    });
    after(async () => {
      await etcd[Symbol.asyncDispose]();
    });
    const fresh = (): string => `/test-${prefixes++}`;

    runStoreSuite('etcd store', () => openAt(etcd.endpoints, fresh()), 'leases of its own clock');

    it('shows every server what another one was told to be done, after a sync', async () => {
      const prefix = fresh();
      await using one = await openAt(etcd.endpoints, prefix);
      await using two = await openAt(etcd.endpoints, prefix);
      const watch = two.watch('/', two.currentRevision());
      for (let n = 0; n < 200; n++) {
        const { revision } = await put(one, '/a', String(n));
        await two.sync();
        assert.ok(two.currentRevision() >= revision);
        assert.equal(text((await two.get('/a'))?.value), String(n));
        assert.equal(text(watch.take()?.at(-1)?.value?.value), String(n));
      }
    });

    it('gives two servers the same events when both write', async () => {
      const prefix = fresh();
      await using one = await openAt(etcd.endpoints, prefix);
      await using two = await openAt(etcd.endpoints, prefix);
      const from = one.currentRevision();
      await two.sync();
      const watches = [one, two].map((store) => take(store.watch('/', from), 400));
      await Promise.all(
        [one, two].flatMap((store, s) =>
          Array.from({ length: 20 }, async (_, writer) => {
            for (let n = 0; n < 10; n++) await put(store, `/${s}/${writer}`, String(n));
          }),
        ),
      );
      const [first = [], second = []] = await Promise.all(watches);
      const shown = (events: StoreEvent[]) =>
        events.map((e) => [e.revision, e.key, text(e.value?.value), text(e.previous?.value), e.value?.createRevision]);
      assert.equal(first.length, 400);
      assert.deepEqual(shown(first), shown(second));
    });

    it('begins again with the history since the last compaction', async () => {
      const prefix = fresh();
      const first = await openAt(etcd.endpoints, prefix);
      await put(first, '/a', '1');
      const { revision } = await put(first, '/a', '2');
      await first.compact(revision);
      await put(first, '/a', '3');
      await put(first, '/b', '1');
      await first[Symbol.asyncDispose]();
      await using again = await openAt(etcd.endpoints, prefix);
      const events = await take(again.watch('/', revision), 2);
      assert.deepEqual(
        events.map((e) => [e.key, text(e.value?.value), text(e.previous?.value)]),
        [
          ['/a', '3', '2'],
          ['/b', '1', undefined],
        ],
      );
      await assert.rejects(take(again.watch('/', revision - 1), 1), CompactedError);
    });

    it('has one server forget history in etcd when several want to', async () => {
      const prefix = fresh();
      await using one = await openAt(etcd.endpoints, prefix);
      await using two = await openAt(etcd.endpoints, prefix);
      for (let n = 0; n < 10; n++) await put(one, '/a', String(n));
      await two.sync();
      const upTo = one.currentRevision() - 2;
      await Promise.all([one.compact(upTo), two.compact(upTo)]);
      assert.deepEqual([one.compactedRevision(), two.compactedRevision()], [upTo, upTo]);
      await one.sync();
      // One record of it was written, by one of them.
      assert.equal(one.currentRevision(), upTo + 3);
      await using third = await openAt(etcd.endpoints, prefix);
      assert.equal(third.compactedRevision(), upTo);
    });

    it('deletes the keys of a lease whose server is gone', async () => {
      const prefix = fresh();
      await using watcher = await openAt(etcd.endpoints, prefix);
      const gone = take(watcher.watch('/l', watcher.currentRevision()), 2);
      await using holder = await openAt(etcd.endpoints, prefix);
      await put(holder, '/l', 'held', await holder.grantLease(1));
      assert.deepEqual(
        (await gone).map((e) => e.type),
        ['put', 'delete'],
      );
    });

    it('takes up transactions whole that etcd cuts into several messages', async () => {
      const prefix = fresh();
      await using proxy = new Proxy(etcd.endpoints[0] ?? '');
      await using store = await openAt([await proxy.listen()], prefix);
      await using other = await openAt(etcd.endpoints, prefix);
      const watch = store.watch('/', store.currentRevision());
      proxy.cut();
      const revisions: number[] = [];
      for (let n = 0; n < 6; n++) {
        const operations = Array.from({ length: 100 }, (_, i): Operation => ({
          type: 'put',
          key: `/${n}/${i}`,
          value: Buffer.alloc(14_000, n),
        }));
        revisions.push((await other.txn([], operations)).revision);
      }
      proxy.mend();
      const seen: number[] = [];
      for await (const batch of watch) {
        for (const revision of new Set(batch.map((event) => event.revision))) {
          assert.equal(batch.filter((event) => event.revision === revision).length, 100);
          seen.push(revision);
        }
        if (seen.length === revisions.length) break;
      }
      assert.deepEqual(seen, revisions);
    });

    it('begins anew where etcd has forgotten what it missed, and tells who watches', async () => {
      const prefix = fresh();
      await using proxy = new Proxy(etcd.endpoints[0] ?? '');
      await using store = await openAt([await proxy.listen()], prefix);
      await using other = await openAt(etcd.endpoints, prefix);
      await put(store, '/a', '1');
      await put(store, '/gone', '1');
      await put(store, '/same', '1');
      const watching = take(store.watch('/', store.currentRevision()), 1);
      proxy.cut();
      await put(other, '/a', '2');
      const { revision } = await other.txn([], [{ type: 'delete', key: '/gone' }]);
      await other.compact(revision);
      assert.equal(text((await store.get('/a'))?.value), '1');
      proxy.mend();
      await assert.rejects(watching, CompactedError);
      await store.sync();
      assert.equal(text((await store.get('/a'))?.value), '2');
      assert.equal(await store.get('/gone'), undefined);
      assert.equal((await store.list('/')).values.length, 2);
      assert.equal((await put(store, '/b', '1')).succeeded, true);
    });

    it('misses nothing and repeats nothing when its connection is lost again and again', async () => {
      const prefix = fresh();
      await using proxy = new Proxy(etcd.endpoints[0] ?? '');
      await using store = await openAt([await proxy.listen()], prefix);
      await using other = await openAt(etcd.endpoints, prefix);
      const taken = take(store.watch('/', store.currentRevision()), 500);
      const revisions: number[] = [];
      for (let n = 0; n < 500; n++) {
        revisions.push((await put(other, `/${n % 7}`, String(n))).revision);
        if (n % 100 === 50) proxy.cut();
        if (n % 100 === 80) proxy.mend();
      }
      assert.deepEqual(
        (await taken).map((event) => event.revision),
        revisions,
      );
    });

    it('refuses a state whose format is newer', async () => {
      const prefix = fresh();
      const client = new EtcdClient({ endpoints: etcd.endpoints, clock: realClock, log: silentLogger });
      const value = Buffer.from(JSON.stringify({ format: 99, epoch: 'x', base: 0 }));
      await client.write(methods.txn, { success: [{ request_put: { key: Buffer.from(`${prefix}.meta`), value } }] });
      await client.close();
      await assert.rejects(openAt(etcd.endpoints, prefix), /format 99/);
    });
  });

  it(`etcd ${etcdVersion(program)} knows a server by its certificate, and a server etcd by its own`, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tiphys-etcd-tls-'));
    const authority = createCertificateAuthority('etcd-ca', realRandom, realClock);
    const issue = (commonName: string): KeyPair =>
      issueCertificate(
        { commonName, ipAddresses: ['127.0.0.1'], server: true, client: true },
        authority,
        realRandom,
        realClock,
      );
    const [member, client] = [issue('member'), issue('tiphys')];
    const write = (name: string, text: string): string => {
      writeFileSync(join(directory, name), text, { mode: 0o600 });
      return join(directory, name);
    };
    try {
      await using etcd = await startEtcd(program, {
        tls: {
          ca: write('ca.pem', authority.certificatePem),
          cert: write('cert.pem', member.certificatePem),
          key: write('key.pem', member.keyPem),
        },
      });
      const open = (tls: EtcdAddress['tls']): Promise<EtcdStore> =>
        openEtcdStore({
          address: { endpoints: etcd.endpoints, ...(tls === undefined ? {} : { tls }) },
          clock: realClock,
          random: realRandom,
          log: silentLogger,
        });
      const ca = authority.certificatePem;
      const known = { ca, cert: client.certificatePem, key: client.keyPem };
      let store: EtcdStore | undefined;
      for (let attempt = 0; store === undefined; attempt++)
        store = await open(known).catch((error: unknown) => {
          if (attempt === 10) throw error;
          return undefined;
        });
      await put(store, '/a', '1');
      await store[Symbol.asyncDispose]();
      await assert.rejects(open({ ca }), { message: /certificate|alert|closed/ });
      await assert.rejects(
        open({ ...known, ca: createCertificateAuthority('x', realRandom, realClock).certificatePem }),
        {
          message: /certificate/,
        },
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  describe(`etcd ${etcdVersion(program)} with three members`, () => {
    let etcd: TestEtcd;
    before(async () => {
      etcd = await startEtcd(program, { members: 3 });
    });
    after(async () => {
      await etcd[Symbol.asyncDispose]();
    });

    it('goes on when a member dies, loses no write that was acknowledged and shows no event twice', async () => {
      const prefix = `/test-${prefixes++}`;
      await using store = await openAt(etcd.endpoints, prefix);
      const from = store.currentRevision();
      const seen: number[] = [];
      const watching = (async () => {
        for await (const batch of store.watch('/n/', from)) for (const event of batch) seen.push(event.revision);
      })();
      const acknowledged: number[] = [];
      let stopped = false;
      const writers = Array.from({ length: 4 }, async (_, writer) => {
        for (let n = 0; !stopped; n++)
          try {
            acknowledged.push((await put(store, `/n/${writer}-${n}`, 'x')).revision);
          } catch (error) {
            assert.ok(isReason(error, 'Timeout', 'ServiceUnavailable'), String(error));
          }
      });
      for (let n = 0; n < 3; n++) {
        const before = acknowledged.length;
        await etcd.killMember(n);
        while (acknowledged.length < before + 50) await realClock.sleep(20);
        etcd.startMember(n);
        await etcd.ready();
        await realClock.sleep(500);
      }
      stopped = true;
      await Promise.all(writers);
      await store.sync();
      const here = new Set((await store.list('/n/')).values.map((value) => value.modRevision));
      assert.deepEqual(
        acknowledged.filter((revision) => !here.has(revision)),
        [],
      );
      while (seen.length < here.size) await realClock.sleep(10);
      assert.deepEqual(
        seen,
        [...here].sort((a, b) => a - b),
      );
      await store[Symbol.asyncDispose]();
      await watching;
    });

    it('says so within five seconds when no majority is left, and comes back by itself', async () => {
      const refused = (error: unknown): boolean => isReason(error, 'Timeout', 'ServiceUnavailable');
      /** Again while members elect a leader. */
      const insist = async <T>(run: () => Promise<T>): Promise<T> => {
        for (;;)
          try {
            return await run();
          } catch (error) {
            if (!refused(error)) throw error;
          }
      };
      await using store = await insist(() => openAt(etcd.endpoints, `/test-${prefixes++}`));
      await insist(() => put(store, '/a', '1'));
      etcd.signalMember(1, 'SIGSTOP');
      etcd.signalMember(2, 'SIGSTOP');
      assert.ok(requestMsMax + mirrorMsMin < 5_000);
      await Promise.all([assert.rejects(put(store, '/a', '2'), refused), assert.rejects(store.sync(), refused)]);
      assert.equal(text((await store.get('/a'))?.value), '1');
      etcd.signalMember(1, 'SIGCONT');
      etcd.signalMember(2, 'SIGCONT');
      // What was refused may still be done: a member that comes back has the request. It may come after this one.
      const { revision } = await insist(() => put(store, '/a', '3'));
      assert.equal(text((await store.get('/a', revision))?.value), '3');
    });
  });
}
