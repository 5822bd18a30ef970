/** Live views: what they hold after writes, after lost history, and while the store does not answer. */
import type { PriorityClass } from '#api/scheduling.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import { silentLogger } from '#observe/log.ts';
import { createFakeClock, type FakeClock } from '#store/fake-clock.ts';
import { createMemoryStore, type MemoryStore } from '#store/memory.ts';
import type { ListResult, Store } from '#store/store.ts';
import { createTestApi, seededRandom } from './fixture.ts';
import { relistDelayMs } from './limits.ts';
import { LiveKind, type LiveEntry } from './live-kind.ts';
import { Objects } from './stored-objects.ts';

const prefix = '/registry/things/';
const bytesOf = (name: string, value: number): Buffer =>
  Buffer.from(JSON.stringify({ apiVersion: 'v1', kind: 'Thing', metadata: { name }, value }));

interface Bench {
  clock: FakeClock;
  store: MemoryStore;
  view: LiveKind<PriorityClass>;
  changes: string[];
  put(key: string, value: number): Promise<unknown>;
  remove(key: string): Promise<unknown>;
  shown(namespace?: string): Promise<Record<string, number>>;
}

function bench(wrap: (store: MemoryStore) => Store = (store) => store): Bench {
  const clock = createFakeClock();
  const store = createMemoryStore(clock);
  const objects = new Objects([], seededRandom());
  const view = new LiveKind(
    { store: wrap(store), objects, clock, log: silentLogger },
    prefix,
    (entries: readonly LiveEntry<PriorityClass>[]) => entries,
  );
  const changes: string[] = [];
  view.subscribe((namespace, name, object) => changes.push(`${namespace}/${name}=${object?.value ?? 'none'}`));
  return {
    clock,
    store,
    view,
    changes,
    put: (key, value) =>
      store.txn([], [{ type: 'put', key: prefix + key, value: bytesOf(key.split('/').at(-1)!, value) }]),
    remove: (key) => store.txn([], [{ type: 'delete', key: prefix + key }]),
    shown: async (namespace) =>
      Object.fromEntries(
        (await view.current()).in(namespace).map(({ object }) => [object.metadata.name, Number(object.value)]),
      ),
  };
}

test('a view holds each write that was acknowledged before it was read, and says at which revision', async () => {
  const { put, remove, shown, view, store, changes } = bench();
  assert.deepEqual(await shown(), {});
  await put('b', 1);
  await put('a', 2);
  await put('x/c', 3);
  assert.ok(view.current() === view, 'nothing has to be waited for');
  assert.equal(view.revision, store.currentRevision());
  assert.deepEqual(await shown(), { a: 2, b: 1 });
  assert.deepEqual(await shown('x'), { c: 3 });
  await remove('b');
  await put('a', 4);
  assert.deepEqual(await shown(), { a: 4 });
  assert.equal((await view.current()).get('x', 'c')?.value, 3);
  assert.deepEqual(changes, ['/b=1', '/a=2', 'x/c=3', '/b=none', '/a=4']);
});

test('a view whose history was forgotten lists again and tells only of what differs', async () => {
  const { put, remove, shown, store, view, changes } = bench();
  await put('kept', 1);
  await put('changed', 1);
  await put('gone', 1);
  assert.deepEqual(await shown(), { changed: 1, gone: 1, kept: 1 });
  // More than a watch keeps for one who does not take it.
  for (let value = 2; value < 5000; value++) await put('changed', value);
  await remove('gone');
  await put('new', 1);
  await store.compact(store.currentRevision());
  changes.length = 0;
  assert.ok(view.current() instanceof Promise, 'it has to be listed');
  assert.deepEqual(await shown(), { changed: 4999, kept: 1, new: 1 });
  assert.deepEqual(changes.sort(), ['/changed=4999', '/gone=none', '/new=1']);
});

test('a listing under way never replaces something newer', async () => {
  let release: () => void = () => undefined;
  let listings = 0;
  const { put, shown, view } = bench(
    (store) =>
      new Proxy(store, {
        get(target, property) {
          if (property !== 'list') {
            const value = Reflect.get(target, property, target) as unknown;
            return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          }
          return async (directory: string): Promise<ListResult> => {
            listings++;
            const result = await target.list(directory);
            await new Promise<void>((resolve) => (release = resolve));
            return result;
          };
        },
      }),
  );
  await put('a', 1);
  const [first, second] = [shown(), shown()];
  await new Promise((resolve) => setImmediate(resolve));
  await put('a', 2);
  await put('b', 1);
  release();
  assert.deepEqual(await first, { a: 2, b: 1 });
  assert.deepEqual(await second, { a: 2, b: 1 });
  assert.equal(listings, 1, 'one listing serves both');
  assert.equal(view.get('', 'a')?.value, 2);
});

test('while the store does not answer readers are told to come back, and it is asked again later and later', async () => {
  let [isDown, asked] = [true, 0];
  const { put, shown, clock, changes } = bench((store) =>
    Object.assign(Object.create(store) as MemoryStore, {
      get: store.get.bind(store),
      txn: store.txn.bind(store),
      watch: store.watch.bind(store),
      currentRevision: store.currentRevision.bind(store),
      list: async (directory: string) => {
        asked++;
        if (isDown) throw new Error('no answer');
        return store.list(directory);
      },
    }),
  );
  await put('a', 1);
  const refused = (error: unknown): boolean => error instanceof ApiError && error.reason === 'ServiceUnavailable';
  await assert.rejects(shown(), refused);
  await assert.rejects(shown(), refused);
  assert.equal(asked, 1);
  clock.advance(relistDelayMs);
  await assert.rejects(shown(), refused);
  assert.equal(asked, 2);
  clock.advance(relistDelayMs);
  await assert.rejects(shown(), refused);
  assert.equal(asked, 2, 'the second wait is longer');
  isDown = false;
  clock.advance(relistDelayMs);
  assert.deepEqual(await shown(), { a: 1 });
  assert.deepEqual(changes, ['/a=1']);
});

test('a followed view tells of changes without readers, also after history was forgotten', async () => {
  const { put, view, store, changes } = bench();
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  const following = view.follow();
  await turns();
  await put('a', 1);
  await turns();
  assert.deepEqual(changes, ['/a=1']);
  for (let value = 2; value < 5000; value++)
    await store.txn([], [{ type: 'put', key: `${prefix}a`, value: bytesOf('a', value) }]);
  await store.compact(store.currentRevision());
  await turns();
  assert.equal(changes.at(-1), '/a=4999');
  view.close();
  await following;
});

test('a role, a namespace and a quota hold in the request after the one that made them', async () => {
  await using api = await createTestApi();
  const jane = { name: 'jane', groups: ['system:authenticated'] };
  const list = '/api/v1/namespaces/fresh/configmaps';
  assert.equal((await api.call('GET', list, undefined, { user: jane })).status, 403);
  await api.make('/api/v1/namespaces', { metadata: { name: 'fresh' } });
  const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces/fresh';
  await api.make(`${rbac}/roles`, {
    metadata: { name: 'reader' },
    rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['*'] }],
  });
  await api.make(`${rbac}/rolebindings`, {
    metadata: { name: 'jane' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'jane' }],
  });
  assert.equal((await api.call('GET', list, undefined, { user: jane })).status, 200);
  await api.make('/api/v1/namespaces/fresh/resourcequotas', {
    metadata: { name: 'few' },
    spec: { hard: { 'count/configmaps': '1' } },
  });
  await api.make(list, { metadata: { name: 'one' } });
  assert.equal((await api.call('POST', list, { metadata: { name: 'two' } }, { user: jane })).status, 403);
  await api.call('DELETE', `${rbac}/rolebindings/jane`);
  assert.equal((await api.call('GET', list, undefined, { user: jane })).status, 403);
});
