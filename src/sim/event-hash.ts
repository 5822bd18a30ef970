/**
 * A running hash over everything that is committed: two runs of one seed must agree to the last byte. Wraps any store.
 */
import { createHash, type Hash } from 'node:crypto';
import { bytesOf } from '#store/store.ts';
import type { Compare, LateBytes, Operation, Store, TxnResult } from '#store/store.ts';

export interface CommittedOperation {
  revision: number;
  type: 'put' | 'delete';
  key: string;
  value: Uint8Array | LateBytes | undefined;
}

export class ObservedStore {
  readonly #hash: Hash | undefined;
  readonly #onCommit: ((operation: CommittedOperation) => void)[] = [];
  transactions = 0;
  #revision = 0;

  constructor(withHash: boolean) {
    if (withHash) this.#hash = createHash('sha1');
  }

  onCommit(listen: (operation: CommittedOperation) => void): void {
    this.#onCommit.push(listen);
  }

  /** The hash so far. */
  digest(): string {
    return this.#hash === undefined ? '' : this.#hash.copy().digest('hex');
  }

  wrap<T extends Store>(store: T): T {
    // Every request comes through here several times: what was bound once stays bound.
    const bound = new Map<string | symbol, unknown>([
      ['txn', (compares: Compare[], operations: Operation[]) => this.#txn(store, compares, operations)],
    ]);
    return new Proxy(store, {
      get: (target, property) => {
        const known = bound.get(property);
        if (known !== undefined) return known;
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== 'function') return value;
        const method: unknown = value.bind(target);
        bound.set(property, method);
        return method;
      },
    });
  }

  async #txn(store: Store, compares: Compare[], operations: Operation[]): Promise<TxnResult> {
    const result = await store.txn(compares, operations);
    if (result.succeeded && operations.length > 0) {
      this.transactions++;
      this.#revision = result.revision;
      for (const operation of operations)
        this.#see(
          result.revision,
          operation.type,
          operation.key,
          operation.type === 'put' ? operation.value : undefined,
        );
    }
    return result;
  }

  #see(revision: number, type: 'put' | 'delete', key: string, value: Uint8Array | LateBytes | undefined): void {
    if (this.#hash !== undefined) {
      this.#hash.update(`${revision} ${type} ${key}\n`);
      if (value !== undefined) this.#hash.update(bytesOf(value));
    }
    for (const listen of this.#onCommit) listen({ revision, type, key, value });
  }

  /** A store that came up again may hold what was written and never answered. */
  async catchUp(store: Store): Promise<void> {
    const until = store.currentRevision();
    if (until <= this.#revision) return;
    for await (const events of store.watch('/', this.#revision)) {
      for (const { revision, type, key, value } of events) {
        this.#see(revision, type, key, value?.value);
        this.#revision = revision;
      }
      if (this.#revision >= until) break;
    }
  }
}
