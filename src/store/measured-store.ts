/** A store whose calls are timed, with the name that Kubernetes has for those to its store. */
import type { Family, Histogram, Metrics } from '#observe/metrics.ts';
import type { Clock } from '#os/clock.ts';
import type { Compare, ListOptions, ListResult, Operation, Store, StoredValue, TxnResult } from './store.ts';

/** The same store: its methods `get`, `list` and `txn` tell how long they took. */
export function measureStore<T extends Store>(store: T, metrics: Metrics, clock: Clock): T {
  const seconds: Family<Histogram> = metrics.histogram({
    name: 'etcd_request_duration_seconds',
    help: 'Latency in seconds of requests to the store, for each operation.',
    labels: ['operation'],
  });
  const [gets, lists] = [seconds.of('get'), seconds.of('list')];
  const [creates, updates, deletes] = [seconds.of('create'), seconds.of('update'), seconds.of('delete')];
  const [get, list, txn] = [store.get.bind(store), store.list.bind(store), store.txn.bind(store)];
  const timed = async <R>(histogram: Histogram, work: Promise<R>): Promise<R> => {
    const begunMs = clock.monotonic();
    const result = await work;
    histogram.observe((clock.monotonic() - begunMs) / 1000);
    return result;
  };
  store.get = (key: string, revision?: number): Promise<StoredValue | undefined> => timed(gets, get(key, revision));
  store.list = (prefix: string, options?: ListOptions): Promise<ListResult> => timed(lists, list(prefix, options));
  store.txn = (compares: Compare[], operations: Operation[]): Promise<TxnResult> => {
    const [first] = operations;
    const isCreate = compares.some((compare) => 'modRevision' in compare && compare.modRevision === 0);
    return timed(first?.type === 'delete' ? deletes : isCreate ? creates : updates, txn(compares, operations));
  };
  return store;
}
