import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import type { KubeObject, WatchEvent } from '#base/objects.ts';
import { AsyncQueue } from '#base/queue.ts';
import { silentLogger } from '#observe/log.ts';
import { settle, SimClock, SimRandom } from '#os/clock.sim.ts';
import type { Client } from './client.ts';
import { indexes, Informer } from './informer.ts';
import { kinds } from '#base/kinds.ts';

function pod(name: string, version: number, extra: Record<string, unknown> = {}, uid = name): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', uid, resourceVersion: String(version) },
    ...extra,
  };
}

class FakeServer {
  objects: KubeObject[] = [];
  version = 1;
  lists = 0;
  watches: { from: string | undefined; queue: AsyncQueue<WatchEvent[]> }[] = [];
  client = {
    list: async () => {
      this.lists++;
      return {
        apiVersion: 'v1',
        kind: 'PodList',
        metadata: { resourceVersion: String(this.version) },
        items: [...this.objects],
      };
    },
    watchBatches: (_kind: unknown, options: { resourceVersion?: string; signal?: AbortSignal }) => {
      const queue = new AsyncQueue<WatchEvent[]>(100);
      options.signal?.addEventListener('abort', () => queue.close());
      this.watches.push({ from: options.resourceVersion, queue });
      return queue;
    },
  } as unknown as Client;
  send(type: WatchEvent['type'], object: KubeObject): void {
    this.watches.at(-1)!.queue.push([{ type, object }]);
  }
}

function setUp(): { server: FakeServer; clock: SimClock; informer: Informer; seen: string[] } {
  const server = new FakeServer();
  const clock = new SimClock(0);
  const informer = new Informer(kinds.Pod, {
    client: server.client,
    clock,
    random: new SimRandom(1),
    log: silentLogger,
  }).addIndex('node', indexes.node);
  const seen: string[] = [];
  informer.addHandler({
    added: (o) => {
      seen.push(`+${o.metadata.name}`);
    },
    updated: (o, p) => {
      seen.push(`~${o.metadata.name} ${p.metadata.resourceVersion}>${o.metadata.resourceVersion}`);
    },
    deleted: (o) => {
      seen.push(`-${o.metadata.name}`);
    },
  });
  return { server, clock, informer, seen };
}

test('an informer lists, follows the watch and keeps its indexes', async () => {
  const { server, informer, seen } = setUp();
  server.objects = [pod('a', 1)];
  informer.start();
  await settle();
  assert.equal(informer.hasSynced, true);
  assert.equal(server.watches[0]!.from, '1');
  server.send('ADDED', pod('b', 2, { spec: { nodeName: 'n1' } }));
  server.send('MODIFIED', pod('a', 3, { spec: { nodeName: 'n1' } }));
  await settle();
  assert.deepEqual(
    [...informer.by('node', 'n1')].map((o) => o.metadata.name),
    ['b', 'a'],
  );
  server.send('DELETED', pod('b', 4));
  await settle();
  assert.deepEqual(
    [...informer.by('node', 'n1')].map((o) => o.metadata.name),
    ['a'],
  );
  assert.deepEqual(seen, ['+a', '+b', '~a 1>3', '-b']);
  await informer.stop();
});

test('a watch that ends is resumed and one that is too old lists again', async () => {
  const { server, clock, informer, seen } = setUp();
  server.objects = [pod('a', 1)];
  informer.start();
  await settle();
  server.send('BOOKMARK', pod('', 7));
  server.watches[0]!.queue.close();
  await settle();
  await clock.advance(1000);
  assert.equal(server.watches[1]!.from, '7');
  assert.equal(server.lists, 1);
  server.objects = [pod('c', 9)];
  server.version = 9;
  server.watches[1]!.queue.fail(new ApiError('Expired', 'too old resource version'));
  await settle();
  assert.equal(server.lists, 2);
  assert.equal(server.watches[2]!.from, '9');
  assert.deepEqual(seen, ['+a', '+c', '-a']);
  await informer.stop();
});

test('own writes show at once and are announced once', async () => {
  const { server, informer, seen } = setUp();
  informer.start();
  await settle();
  informer.absorb(pod('a', 5));
  assert.deepEqual(seen, ['+a']);
  server.send('ADDED', pod('a', 5));
  await settle();
  informer.absorbDeletion(pod('a', 6));
  server.send('MODIFIED', pod('a', 6));
  server.send('DELETED', pod('a', 7));
  await settle();
  assert.deepEqual(seen, ['+a', '-a']);
  // What the watch has already passed is not brought back.
  informer.absorb(pod('a', 5));
  assert.equal(informer.size, 0);
  await informer.stop();
});

test('an object made again under its name is seen as deleted and added', async () => {
  const { server, informer, seen } = setUp();
  server.objects = [pod('a', 1)];
  informer.start();
  await settle();
  server.send('MODIFIED', pod('a', 5, {}, 'other'));
  await settle();
  assert.deepEqual(seen, ['+a', '-a', '+a']);
  await informer.stop();
});

test('failures wait longer each time', async () => {
  const { server, clock, informer } = setUp();
  let calls = 0;
  server.client.list = async () => {
    calls++;
    throw new ApiError('ServiceUnavailable', 'down');
  };
  informer.start();
  await clock.advance(2000);
  assert.ok(calls >= 3 && calls <= 7, String(calls));
  await informer.stop();
});
