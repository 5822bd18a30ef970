/**
 * What is asked of etcd and what it answers, in the store's words. Revisions of the store are etcd's plus a base: a
 * state that came from elsewhere begins above the revisions that it had there. Keys lie below a prefix.
 */
import { ownCopy } from '#base/bytes.ts';
import { bytesIn, messageIn, messagesIn, numberIn, type Message } from '#grpc/fields.ts';
import { bytesOf, type Compare, type Operation, type StoredValue, type TxnResult } from '../store.ts';

export const methods = {
  range: '/etcdserverpb.KV/Range',
  txn: '/etcdserverpb.KV/Txn',
  compact: '/etcdserverpb.KV/Compact',
  watch: '/etcdserverpb.Watch/Watch',
  grant: '/etcdserverpb.Lease/LeaseGrant',
  revoke: '/etcdserverpb.Lease/LeaseRevoke',
  keepAlive: '/etcdserverpb.Lease/LeaseKeepAlive',
  timeToLive: '/etcdserverpb.Lease/LeaseTimeToLive',
} as const;

/** Below which the keys lie where nothing else is said. */
export const defaultEtcdPrefix = '/tiphys';

const equal = 0;
const [createTarget, modTarget] = [1, 2];
/** No key has it. */
const revisionMax = Number.MAX_SAFE_INTEGER;

/** Where in an etcd the store lies. */
export class Place {
  readonly prefix: string;
  base: number;

  constructor(prefix: string, base: number) {
    this.prefix = prefix;
    this.base = base;
  }

  keyOf(key: string): Buffer {
    return Buffer.from(this.prefix + key);
  }

  /** The store's key; undefined where it is not the store's. */
  ownKey(key: Buffer): string | undefined {
    const text = key.toString();
    return text.startsWith(`${this.prefix}/`) ? text.slice(this.prefix.length) : undefined;
  }

  valueOf(key: string, pair: Message): StoredValue {
    const lease = numberIn(pair, 'lease');
    return {
      key,
      // Not a part of the message that it came in.
      value: ownCopy(bytesIn(pair, 'value')),
      createRevision: numberIn(pair, 'create_revision') + this.base,
      modRevision: numberIn(pair, 'mod_revision') + this.base,
      ...(lease === 0 ? {} : { lease }),
    };
  }

  values(answer: Message): StoredValue[] {
    return messagesIn(answer, 'kvs').flatMap((pair) => {
      const key = this.ownKey(bytesIn(pair, 'key'));
      return key === undefined ? [] : [this.valueOf(key, pair)];
    });
  }

  revisionOf(answer: Message): number {
    return numberIn(messageIn(answer, 'header'), 'revision') + this.base;
  }

  #compare(compare: Compare): Message {
    const key = this.keyOf(compare.key);
    // A revision from before the base is none of etcd's: nothing holds it.
    const at = (revision: number): number =>
      revision === 0 ? 0 : revision > this.base ? revision - this.base : revisionMax;
    return 'modRevision' in compare
      ? { key, result: equal, target: modTarget, mod_revision: at(compare.modRevision) }
      : { key, result: equal, target: createTarget, create_revision: at(compare.createRevision) };
  }

  #operation(operation: Operation): Message {
    const key = this.keyOf(operation.key);
    if (operation.type === 'delete') return { request_delete_range: { key } };
    const { value, lease } = operation;
    return { request_put: { key, value: bytesOf(value), ...(lease === undefined ? {} : { lease }) } };
  }

  txn(compares: readonly Compare[], operations: readonly Operation[]): Message {
    const compared = [...new Set(compares.map(({ key }) => key))];
    return {
      compare: compares.map((compare) => this.#compare(compare)),
      success: operations.map((operation) => this.#operation(operation)),
      failure: compared.map((key) => ({ request_range: { key: this.keyOf(key) } })),
    };
  }

  /** `isChanged`: etcd's revision grew. */
  txnResult(answer: Message): TxnResult & { isChanged: boolean } {
    const succeeded = answer['succeeded'] === true;
    const responses = messagesIn(answer, 'responses');
    return {
      succeeded,
      revision: this.revisionOf(answer),
      current: succeeded ? [] : responses.flatMap((one) => this.values(messageIn(one, 'response_range'))),
      isChanged:
        succeeded &&
        responses.some(
          (one) =>
            one['response_put'] !== undefined || numberIn(messageIn(one, 'response_delete_range'), 'deleted') > 0,
        ),
    };
  }
}

/** Of several operations on one key the last counts; etcd refuses the others. */
export function lastOfEach(operations: readonly Operation[]): Operation[] {
  return [...new Map(operations.map((operation) => [operation.key, operation])).values()];
}
