/**
 * A state on its way into an etcd and out of it. Into: what lies there of the store is taken away, keys are written
 * piece by piece, and the last write is the record by which a server knows that there is a state (`PREFIX.meta`). Who
 * is interrupted leaves keys without a record, which are no state: the next attempt takes them away.
 *
 * Revisions never go back: the base is chosen so that the first key written has a revision above all that there were.
 */
import { ApiError } from '#base/errors.ts';
import { messagesIn, numberIn, bytesIn, type Message } from '#grpc/fields.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { transactionOperationsMax } from '../limits.ts';
import type { StoreState } from '../state.ts';
import type { StoredValue } from '../store.ts';
import { EtcdClient, type EtcdAddress } from './client.ts';
import { movedBytesMax } from './limits.ts';
import { Place, defaultEtcdPrefix, methods } from './requests.ts';
import { etcdFormat, findMeta, readAll, type Meta } from './state.ts';

export interface EtcdPlace {
  address: EtcdAddress;
  prefix?: string;
  clock: Clock;
  random: Random;
  log: Logger;
}

async function withClient<T>(
  { address, prefix = defaultEtcdPrefix, clock, log }: EtcdPlace,
  run: (client: EtcdClient, prefix: string) => Promise<T>,
): Promise<T> {
  const client = new EtcdClient({ ...address, clock, log });
  try {
    return await run(client, prefix);
  } finally {
    await client.close();
  }
}

/** The epoch of the state that an etcd holds; undefined where it holds none. */
export function epochInEtcd(at: EtcdPlace): Promise<string | undefined> {
  return withClient(at, async (client, prefix) => (await findMeta(client, prefix))?.epoch);
}

/** Takes the whole state away, in one transaction. */
export function clearEtcd(at: EtcdPlace): Promise<void> {
  return withClient(at, async (client, prefix) => {
    await client.write(methods.txn, clearing(prefix));
  });
}

function clearing(prefix: string): Message {
  const range = { key: Buffer.from(`${prefix}/`), range_end: Buffer.from(`${prefix}0`) };
  const records = ['.meta', '.compacted'].map((name) => ({ key: Buffer.from(prefix + name) }));
  return { success: [range, ...records].map((request_delete_range) => ({ request_delete_range })) };
}

/** Reads the state at one revision. Rejects with NotFound where there is none. */
export function readEtcdState(at: EtcdPlace): Promise<StoreState> {
  return withClient(at, async (client, prefix) => {
    const meta = await findMeta(client, prefix);
    if (meta === undefined) throw new ApiError('NotFound', `this etcd holds no state below ${prefix}`);
    const { values, revision } = await readAll(client, new Place(prefix, meta.base), 0);
    const leases = new Map<number, number>();
    for (const { lease } of values)
      if (lease !== undefined && !leases.has(lease)) {
        const answer = await client.read(methods.timeToLive, { ID: lease });
        leases.set(lease, Math.max(1, numberIn(answer, 'TTL')) * 1000);
      }
    return { values, revision, leases };
  });
}

/** Replaces what an etcd holds below the prefix by a state, of this epoch. */
export function writeEtcdState(at: EtcdPlace, state: StoreState, epoch: string): Promise<void> {
  return withClient(at, async (client, prefix) => {
    await client.write(methods.txn, clearing(prefix));
    const now = await client.read(methods.range, { key: Buffer.of(0), count_only: true });
    const base = Math.max(0, state.revision - new Place(prefix, 0).revisionOf(now));
    const place = new Place(prefix, base);
    const leases = await grantAll(client, at.random, state);
    for (const piece of piecesOf(state.values))
      await client.write(methods.txn, {
        success: piece.map(({ key, value, lease }) => ({
          request_put: {
            key: place.keyOf(key),
            value,
            ...(lease === undefined ? {} : { lease: leases.get(lease) ?? 0 }),
          },
        })),
      });
    const meta: Meta = { format: etcdFormat, epoch, base };
    const key = Buffer.from(`${prefix}.meta`);
    await client.write(methods.txn, { success: [{ request_put: { key, value: Buffer.from(JSON.stringify(meta)) } }] });
    await checkWhole(client, place, state);
  });
}

/**
 * Revisions go on so far above those that there were, and history is forgotten: who has seen a revision that this etcd
 * does not know, because it lost what came after another one, is told that it is gone. Nobody else may use the state
 * meanwhile.
 */
export function raiseRevisions(at: EtcdPlace, by: number): Promise<void> {
  return withClient(at, async (client, prefix) => {
    const meta = await findMeta(client, prefix);
    if (meta === undefined) throw new ApiError('NotFound', `this etcd holds no state below ${prefix}`);
    const now = await client.read(methods.range, { key: Buffer.of(0), count_only: true });
    const put = (name: string, value: string) => ({
      request_put: { key: Buffer.from(prefix + name), value: Buffer.from(value) },
    });
    const raised: Meta = { ...meta, base: meta.base + by };
    const upTo = String(new Place(prefix, 0).revisionOf(now));
    await client.write(methods.txn, { success: [put('.meta', JSON.stringify(raised)), put('.compacted', upTo)] });
  });
}

/** By what names etcd knows the leases of the state. */
async function grantAll(client: EtcdClient, random: Random, { leases }: StoreState): Promise<Map<number, number>> {
  const granted = new Map<number, number>();
  for (const [lease, leftMs] of leases) {
    const id = Buffer.from(random.bytes(6)).readUIntBE(0, 6) + 1;
    await client.write(methods.grant, { TTL: Math.max(1, Math.ceil(leftMs / 1000)), ID: id });
    granted.set(lease, id);
  }
  return granted;
}

function* piecesOf(values: readonly StoredValue[]): Generator<StoredValue[]> {
  let piece: StoredValue[] = [];
  let bytes = 0;
  for (const value of values) {
    const length = value.key.length + value.value.length;
    if (piece.length === transactionOperationsMax || (piece.length > 0 && bytes + length > movedBytesMax)) {
      yield piece;
      piece = [];
      bytes = 0;
    }
    piece.push(value);
    bytes += length;
  }
  if (piece.length > 0) yield piece;
}

/** Somebody who writes there at the same time would make another state of it. */
async function checkWhole(client: EtcdClient, place: Place, state: StoreState): Promise<void> {
  const answer = await client.read(methods.range, {
    key: Buffer.from(`${place.prefix}/`),
    range_end: Buffer.from(`${place.prefix}0`),
    count_only: true,
  });
  const lasting = state.values.filter(({ lease }) => lease === undefined).length;
  const count = numberIn(answer, 'count');
  if (count < lasting || count > state.values.length)
    throw new ApiError('Conflict', `etcd has ${count} keys below ${place.prefix}, not ${state.values.length}`);
  const [found = {}] = messagesIn(
    await client.read(methods.range, { key: Buffer.from(`${place.prefix}.meta`) }),
    'kvs',
  );
  if (bytesIn(found, 'value').length === 0) throw new ApiError('Conflict', 'the record of the state is gone again');
}
