/**
 * Moving the cluster's state from SQLite to an etcd, and back, while no server of this machine runs. One consistent
 * revision goes over, and no resource version goes back.
 *
 * What counts at each moment is what `instance.json` says, which changes in one atomic step after the copy is whole:
 * who is killed before it goes on with the old state, who is killed after it with the new one. What an attempt left
 * behind is taken away by the next one. An etcd that holds another cluster's state is never touched: what is there is
 * this machine's where its epoch is the one that this machine remembers.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { serverLeasePrefix } from '#apiserver/server-leases.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, syncDirectory, writeFileAtomic } from '#os/files.ts';
import { clearEtcd, epochInEtcd, readEtcdState, writeEtcdState, type EtcdPlace } from '#store/etcd/move.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import type { StoreState } from '#store/state.ts';
import { addressOf, type EtcdChoice } from './cluster-store.ts';
import { loadInstance, setEtcd, type Instance } from './instance.ts';
import { otherServersWaitMs } from './limits.ts';
import { files, type Paths } from './paths.ts';

/** `to`: the etcd, or undefined for SQLite in the data directory. Answers the state that went over. */
export async function moveState(paths: Paths, to: EtcdChoice | undefined): Promise<StoreState> {
  const instance = loadInstance(paths);
  if (instance === undefined) throw new ApiError('NotFound', `there is no instance in ${paths.data}`);
  return to === undefined ? moveToSqlite(paths, instance) : moveToEtcd(paths, instance, to);
}

function placeOf(etcd: EtcdChoice): EtcdPlace {
  return {
    address: addressOf(etcd),
    ...(etcd.prefix === undefined ? {} : { prefix: etcd.prefix }),
    clock: realClock,
    random: realRandom,
    log: silentLogger,
  };
}

async function moveToEtcd(paths: Paths, instance: Instance, to: EtcdChoice): Promise<StoreState> {
  if (instance.etcd !== undefined) throw new ApiError('Conflict', "this cluster's state lies in an etcd already");
  if (!existsSync(files.database(paths))) throw new ApiError('NotFound', `${files.database(paths)} is not there`);
  await epochOfOwn(paths, to);
  let state: StoreState;
  {
    await using store = await openSqliteStore({ path: files.database(paths), clock: realClock, log: silentLogger });
    state = store.state();
  }
  await fillEtcd(paths, to, state);
  setEtcd(paths, to);
  for (const suffix of ['-wal', '-shm']) rmSync(files.database(paths) + suffix, { force: true });
  renameSync(files.database(paths), `${files.database(paths)}.moved`);
  return state;
}

/** The epoch of what this machine has put there; undefined: nothing is there. Rejects where it is another's. */
async function epochOfOwn(paths: Paths, to: EtcdChoice): Promise<string | undefined> {
  const found = await epochInEtcd(placeOf(to));
  if (found !== undefined && found !== readIfExists(files.etcdEpoch(paths))?.trim())
    throw new ApiError(
      'Conflict',
      "this etcd holds another cluster's state: name an empty one, or an --etcd-prefix of its own",
    );
  return found;
}

/** Replaces what an attempt of this machine's has left there. Rejects with Conflict where another cluster is. */
export async function fillEtcd(paths: Paths, to: EtcdChoice, state: StoreState): Promise<void> {
  const found = await epochOfOwn(paths, to);
  const epoch = realRandom.uuid();
  // Known before it is there: what an attempt left is this machine's own.
  if (found === undefined) writeEpoch(paths, epoch);
  await writeEtcdState(placeOf(to), state, found ?? epoch);
}

function writeEpoch(paths: Paths, epoch: string): void {
  writeFileAtomic(files.etcdEpoch(paths), `${epoch}\n`, { sync: true, mode: 0o600 });
}

async function moveToSqlite(paths: Paths, { etcd }: Instance): Promise<StoreState> {
  if (etcd === undefined) throw new ApiError('Conflict', "this cluster's state lies in its data directory already");
  const place = placeOf(etcd);
  const state = await aloneState(place);
  const path = files.database(paths);
  for (const suffix of ['', '-wal', '-shm']) {
    rmSync(`${path}.new${suffix}`, { force: true });
    rmSync(path + suffix, { force: true });
  }
  {
    await using store = await openSqliteStore({ path: `${path}.new`, clock: realClock, log: silentLogger });
    await store.restore(state);
  }
  renameSync(`${path}.new`, path);
  syncDirectory(paths.data);
  setEtcd(paths, undefined);
  await clearEtcd(place);
  return state;
}

/** The state, once no server is left that may write: the lease of one that was killed ends by itself. */
async function aloneState(place: EtcdPlace): Promise<StoreState> {
  const untilMs = realClock.monotonic() + otherServersWaitMs;
  for (;;) {
    const state = await readEtcdState(place);
    const servers = state.values.filter(({ key }) => key.startsWith(serverLeasePrefix));
    if (servers.length === 0) return state;
    if (realClock.monotonic() > untilMs) {
      const names = servers.map(({ key }) => key.slice(serverLeasePrefix.length)).join(', ');
      throw new ApiError('Conflict', `other servers run on this etcd (${names}): SQLite is for one; end them first`);
    }
    await realClock.sleep(500);
  }
}
