/**
 * Where the cluster's state lies: in an SQLite file of the data directory, or in the etcd that the user named, which
 * several servers may share.
 *
 * An etcd holds the cluster whose keys and ranges this machine has, or none: the first server leaves a fingerprint of
 * its authority and the range of Services there, and who has others is refused - its tokens would not hold, it could
 * not read Secrets, and its Services would have addresses that others do not route. A machine that has once used an
 * etcd remembers its epoch, so that a wrong endpoint does not look like a cluster without objects.
 */
import { createHash, createPublicKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { KeyRing } from '#apiserver/keys.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { isObject, itemsOf } from '#base/unknown.ts';
import { silentLogger, type Logger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { EtcdClient, type EtcdAddress } from '#store/etcd/client.ts';
import { openEtcdStore, type EtcdStore } from '#store/etcd/etcd-store.ts';
import { defaultEtcdPrefix } from '#store/etcd/requests.ts';
import { openSqliteStore } from '#store/sqlite.ts';
import type { Store } from '#store/store.ts';
import { etcdRetryMs } from './limits.ts';
import { FinalError } from './final-error.ts';
import { files, type Paths } from './paths.ts';

/** As the user named it; files are read when a server starts. */
export interface EtcdChoice {
  endpoints: string[];
  cafile?: string;
  certfile?: string;
  keyfile?: string;
  prefix?: string;
}

export interface ClusterStoreInput {
  paths: Paths;
  etcd: EtcdChoice | undefined;
  ring: KeyRing;
  ranges: { serviceRange: string; domain: string };
  log: Logger;
}

/** Where the state lies, in words. */
export function describeState(paths: Paths, etcd: EtcdChoice | undefined): string {
  return etcd === undefined
    ? files.database(paths)
    : `etcd ${currentEndpoints(paths, etcd).join(', ')} below ${etcd.prefix ?? defaultEtcdPrefix}`;
}

/**
 * Opens the store. Waits for an etcd that does not answer; rejects with a FinalError where it holds another cluster, or
 * can never be opened as it is named.
 */
export async function openClusterStore(input: ClusterStoreInput): Promise<Store> {
  const { paths, etcd, log } = input;
  if (etcd === undefined) return openSqliteStore({ path: files.database(paths), clock: realClock, log });
  const store = await openWaiting({ ...etcd, endpoints: currentEndpoints(paths, etcd) }, log);
  try {
    checkEpoch(paths, store.epoch);
    await checkCluster(store, input);
    writeFileAtomic(files.etcdEpoch(paths), `${store.epoch}\n`, { sync: true, mode: 0o600 });
    return store;
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

/** Where the cluster's own etcd was last reached; where the user's is. */
export function currentEndpoints(paths: Paths, { endpoints }: EtcdChoice): string[] {
  const known: unknown = JSON.parse(readIfExists(files.etcdEndpoints(paths)) ?? '[]');
  const texts = itemsOf(known).filter((each) => typeof each === 'string');
  return texts.length === 0 ? endpoints : texts;
}

async function openWaiting(etcd: EtcdChoice, log: Logger): Promise<EtcdStore> {
  for (;;) {
    try {
      return await openEtcdStore({
        address: addressOf(etcd),
        ...(etcd.prefix === undefined ? {} : { prefix: etcd.prefix }),
        clock: realClock,
        random: realRandom,
        log,
      });
    } catch (error) {
      if (isReason(error, 'BadRequest')) throw new FinalError('BadRequest', error.message);
      if (!isReason(error, 'ServiceUnavailable', 'Timeout')) throw error;
      log.warn('etcd does not answer; waiting for it', { error: error.message });
      await realClock.sleep(etcdRetryMs);
    }
  }
}

export function addressOf({ endpoints, cafile, certfile, keyfile }: EtcdChoice): EtcdAddress {
  if ((certfile === undefined) !== (keyfile === undefined))
    throw new ApiError('BadRequest', '--etcd-certfile and --etcd-keyfile go together');
  const read = (path: string, option: string): string => {
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      const error = new ApiError('NotFound', `${option}: ${path} cannot be read`);
      error.cause = cause;
      throw error;
    }
  };
  return {
    endpoints,
    tls: {
      ...(cafile === undefined ? {} : { ca: read(cafile, '--etcd-cafile') }),
      ...(certfile === undefined ? {} : { cert: read(certfile, '--etcd-certfile') }),
      ...(keyfile === undefined ? {} : { key: read(keyfile, '--etcd-keyfile') }),
    },
  };
}

/**
 * What a user chooses for an instance is looked at before anything is changed. Rejects with words for the user where
 * the state lies elsewhere, or no member of the etcd answers now.
 */
export async function checkEtcd(paths: Paths, before: EtcdChoice | undefined, etcd: EtcdChoice): Promise<void> {
  if (before === undefined && existsSync(files.database(paths)))
    throw new ApiError(
      'Conflict',
      "this cluster's state lies in its data directory: 'tiphys migrate' moves it to an etcd, with the same options",
    );

  await checkReachable(etcd);
}

/** Rejects where no majority of the members answers. */
export async function checkReachable(etcd: EtcdChoice): Promise<void> {
  const client = new EtcdClient({ ...addressOf(etcd), clock: realClock, log: silentLogger });
  try {
    await client.probe();
  } finally {
    await client.close();
  }
}

function checkEpoch(paths: Paths, epoch: string): void {
  const known = readIfExists(files.etcdEpoch(paths))?.trim();
  if (known !== undefined && known !== epoch)
    throw new FinalError(
      'Conflict',
      `this etcd does not hold the cluster that this machine belongs to (epoch ${epoch}, not ${known}); check --etcd-endpoints and --etcd-prefix, or remove ${files.etcdEpoch(paths)} to begin with what is there`,
    );
}

/** The authority is renewed with its key, and who takes its place says whose: only another ring has another one. */
export function fingerprintOf({ ca, origin }: KeyRing): string {
  if (origin !== undefined) return origin;
  const spki = createPublicKey(ca.certificatePem).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}

/** What all servers of the cluster have in common. */
async function checkCluster(store: Store, { ring, ranges }: ClusterStoreInput): Promise<void> {
  const own = { authority: fingerprintOf(ring), serviceRange: ranges.serviceRange, domain: ranges.domain };
  const value = Buffer.from(JSON.stringify(own));
  const result = await store.txn([{ key: clusterKey, modRevision: 0 }], [{ type: 'put', key: clusterKey, value }]);
  if (result.succeeded) return;
  const [found] = result.current;
  const there: unknown = JSON.parse(Buffer.from(found?.value ?? '{}').toString());
  const { authority, serviceRange, domain } = isObject(there) ? there : {};
  if (authority !== own.authority)
    throw new FinalError(
      'Conflict',
      'this etcd holds the cluster of another authority: a further server needs the keys of the first one (keys.json), or an --etcd-prefix of its own',
    );
  if (serviceRange !== own.serviceRange || domain !== own.domain)
    throw new FinalError(
      'Conflict',
      `the cluster in this etcd has the Service range ${String(serviceRange)} and the domain ${String(domain)}; this machine has ${own.serviceRange} and ${own.domain}`,
    );
}

const clusterKey = '/tiphys/cluster';
