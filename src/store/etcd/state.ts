/** What an etcd holds of a store when a server begins: its format and base, and all of its keys. */
import { ApiError } from '#base/errors.ts';
import { isObject } from '#base/unknown.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { bytesIn, messageIn, messagesIn, numberIn, type Message } from '#grpc/fields.ts';
import type { Random } from '#os/clock.ts';
import type { StoredValue } from '../store.ts';
import type { EtcdClient } from './client.ts';
import { pageBytesWanted, pageKeysMax, pageKeysMin } from './limits.ts';
import { methods, type Place } from './requests.ts';

export const etcdFormat = 1;

export interface Meta {
  format: number;
  /** Of this state; another one after it was brought here from elsewhere. */
  epoch: string;
  /** What is added to etcd's revisions. */
  base: number;
}

function parseMeta(text: string): Meta {
  const found: unknown = JSON.parse(text);
  const { format, epoch, base } = isObject(found) ? found : {};
  if (typeof format !== 'number' || typeof epoch !== 'string' || typeof base !== 'number')
    throw new ApiError('InternalError', 'what etcd holds of the store is damaged');
  if (format > etcdFormat)
    throw new ApiError(
      'BadRequest',
      `what etcd holds has format ${format}; this program knows ${etcdFormat}: use a newer one`,
    );
  return { format, epoch, base };
}

async function readKey(client: EtcdClient, key: string): Promise<Message | undefined> {
  const answer = await client.read(methods.range, { key: Buffer.from(key) });
  return messagesIn(answer, 'kvs')[0];
}

/** Undefined where there is no state. Throws BadRequest where its format is newer. */
export async function findMeta(client: EtcdClient, prefix: string): Promise<Meta | undefined> {
  const found = await readKey(client, `${prefix}.meta`);
  return found === undefined ? undefined : parseMeta(bytesIn(found, 'value').toString());
}

/** The state's format and base; made where there is none. Of several servers that make it one succeeds. */
export async function readMeta(client: EtcdClient, prefix: string, random: Random): Promise<Meta> {
  const key = `${prefix}.meta`;
  const found = await findMeta(client, prefix);
  if (found !== undefined) return found;
  const made: Meta = { format: etcdFormat, epoch: random.uuid(), base: 0 };
  const answer = await client.write(methods.txn, {
    compare: [{ key: Buffer.from(key), result: 0, target: 1, create_revision: 0 }],
    success: [{ request_put: { key: Buffer.from(key), value: Buffer.from(JSON.stringify(made)) } }],
    failure: [{ request_range: { key: Buffer.from(key) } }],
  });
  if (answer['succeeded'] === true) return made;
  const [other = {}] = messagesIn(answer, 'responses').flatMap((one) =>
    messagesIn(messageIn(one, 'response_range'), 'kvs'),
  );
  return parseMeta(bytesIn(other, 'value').toString());
}

/** Up to which revision of etcd history was forgotten, and the revision of the record. */
export async function readCompacted(
  client: EtcdClient,
  prefix: string,
): Promise<{ revision: number; modRevision: number }> {
  const found = await readKey(client, `${prefix}.compacted`);
  return found === undefined
    ? { revision: 0, modRevision: 0 }
    : { revision: Number(bytesIn(found, 'value').toString()), modRevision: numberIn(found, 'mod_revision') };
}

/**
 * All keys at one revision: `etcdRevision` of etcd, so that history since then can be read too, or the current one
 * where that is 0 or forgotten.
 */
export async function readAll(
  client: EtcdClient,
  place: Place,
  etcdRevision: number,
): Promise<{ values: StoredValue[]; revision: number }> {
  const attempts = 3;
  for (let attempt = 1; ; attempt++)
    try {
      return await readAt(client, place, attempt === 1 ? etcdRevision : 0);
    } catch (error) {
      // History was forgotten before, or while it was read.
      if (attempt === attempts || !(error instanceof GrpcError && error.status === code.outOfRange)) throw error;
    }
}

/** A page; a smaller one where it does not fit into a message. */
async function readPage(client: EtcdClient, request: Message, limit: number): Promise<Message> {
  try {
    return await client.read(methods.range, { ...request, limit });
  } catch (error) {
    if (limit === 1 || !(error instanceof GrpcError && error.status === code.resourceExhausted)) throw error;
    return readPage(client, request, Math.ceil(limit / 8));
  }
}

async function readAt(
  client: EtcdClient,
  place: Place,
  etcdRevision: number,
): Promise<{ values: StoredValue[]; revision: number }> {
  const values: StoredValue[] = [];
  const end = Buffer.from(`${place.prefix}0`);
  let start = Buffer.from(`${place.prefix}/`);
  let revision = etcdRevision;
  let limit = pageKeysMin;
  for (;;) {
    const answer = await readPage(client, { key: start, range_end: end, revision }, limit);
    if (revision === 0) revision = place.revisionOf(answer) - place.base;
    const page = place.values(answer);
    values.push(...page);
    if (answer['more'] !== true) return { values, revision: revision + place.base };
    const last = bytesIn(messagesIn(answer, 'kvs').at(-1) ?? {}, 'key');
    start = Buffer.concat([last, Buffer.of(0)]);
    const bytes = page.reduce((sum, { value }) => sum + value.length, 0);
    limit = Math.min(pageKeysMax, Math.max(1, bytes > pageBytesWanted ? limit >> 1 : limit * 2));
  }
}
