/** A state goes from SQLite to an etcd and back, whole; who is killed on the way has the old state or the new one. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import type { Random } from '#os/clock.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { testSeed } from '#os/test-seed.ts';
import { loadInstance } from '#platform/instance.ts';
import { moveState } from '#platform/move-state.ts';
import { files, type Paths } from '#platform/paths.ts';
import { openEtcdStore } from '#store/etcd/etcd-store.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import { CompactedError, type Store } from '#store/store.ts';
import { etcdPrograms, noEtcd, startEtcd, type TestEtcd } from './etcd.ts';

const prefix = '/moved';
const rounds = 8;

describe('the state of a cluster', { skip: noEtcd }, () => {
  let etcd: TestEtcd;
  let data: string;
  let paths: Paths;
  before(async () => {
    const [program = ''] = etcdPrograms();
    etcd = await startEtcd(program);
  });
  after(async () => {
    await etcd[Symbol.asyncDispose]();
  });

  afterEach(() => rmSync(data, { recursive: true, force: true }));

  const begin = async (): Promise<void> => {
    data = mkdtempSync(join(tmpdir(), 'tiphys-migrate-'));
    paths = { home: undefined, data, run: data };
    writeFileSync(files.instance(paths), JSON.stringify({ format: 2, id: 'abcd' }));
    await using store = await openHere();
    const lease = await store.grantLease(600);
    for (let n = 0; n < 400; n++)
      await store.txn(
        [],
        [
          { type: 'put', key: `/registry/a/${n}`, value: Buffer.alloc(50 + (n % 9) * 3_000, n % 256) },
          {
            type: 'put',
            key: `/registry/b/${n % 20}`,
            value: Buffer.from(String(n)),
            ...(n % 2 === 0 ? { lease } : {}),
          },
        ],
      );
  };

  /** The store that counts now, as a server would open it. */
  const openHere = (): Promise<Store> => {
    const means = { clock: realClock, log: silentLogger };
    const place = loadInstance(paths)?.etcd;
    if (place === undefined) return openSqliteStore({ path: files.database(paths), ...means });
    const address = { endpoints: place.endpoints };
    return openEtcdStore({ address, prefix: place.prefix ?? '', random: realRandom, ...means });
  };
  const contents = async (store: Store): Promise<[string, string, boolean][]> =>
    (await store.list('/')).values.map(({ key, value, lease }) => [
      key,
      Buffer.from(value).toString('base64'),
      lease !== undefined,
    ]);

  it('goes to an etcd and back, with its leases, and no revision goes back', async () => {
    await begin();
    const expected = await use(contents);
    let highest = await use(async (store) => store.currentRevision());
    for (const to of [
      { endpoints: etcd.endpoints, prefix },
      undefined,
      { endpoints: etcd.endpoints, prefix },
      undefined,
    ]) {
      await moveState(paths, to);
      assert.equal(loadInstance(paths)?.etcd?.prefix, to?.prefix);
      await use(async (store) => {
        assert.deepEqual(await contents(store), expected);
        assert.ok(store.currentRevision() >= highest);
        await assert.rejects(store.get('/registry/a/1', highest - 10), CompactedError);
        const { revision } = await store.txn([], [{ type: 'put', key: '/registry/b/1', value: Buffer.from('19') }]);
        assert.ok(revision > highest);
        highest = revision;
        const again = expected.find(([key]) => key === '/registry/b/1');
        if (again !== undefined) again[1] = Buffer.from('19').toString('base64');
        const leased = (await store.get('/registry/b/0'))?.lease;
        assert.ok(leased !== undefined);
        await store.keepLeaseAlive(leased);
      });
    }
  });

  const use = async <T>(run: (store: Store) => Promise<T>): Promise<T> => {
    await using store = await openHere();
    return await run(store);
  };

  /** Kills the move some time after it began; answers whether it had ended before. */
  const moveAndKill = async (to: string[], random: Random, usualMs: number): Promise<void> => {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'mover.ts'), data, ...to], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), random.float() * usualMs * 1.2));
    await new Promise((resolve) => child.once('close', resolve));
  };

  it('is the old one or the new one, whole, wherever the move is killed', async () => {
    await begin();
    const random = new SimRandom(testSeed());
    const expected = await use(contents);
    let highest = await use(async (store) => store.currentRevision());
    let usualMs = 300;
    for (let round = 0; round < rounds; round++) {
      const before = loadInstance(paths)?.etcd;
      await moveAndKill(before === undefined ? [...etcd.endpoints, prefix] : [], random, usualMs);
      await use(async (store) => {
        assert.deepEqual(await contents(store), expected);
        const { revision } = await store.txn([], [{ type: 'put', key: '/now', value: Buffer.from('x') }]);
        assert.ok(revision > highest, `${revision} is not above ${highest}`);
        highest = revision;
        await store.txn([], [{ type: 'delete', key: '/now' }]);
      });
      // What was interrupted is begun again, and ends.
      if (JSON.stringify(loadInstance(paths)?.etcd) !== JSON.stringify(before)) continue;
      const begunMs = realClock.monotonic();
      await moveState(paths, before === undefined ? { endpoints: etcd.endpoints, prefix } : undefined);
      usualMs = realClock.monotonic() - begunMs;
      assert.deepEqual(await use(contents), expected);
    }
  });
});
