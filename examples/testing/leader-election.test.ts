/**
 * An operator in two copies. The leader loses its network: it stops by itself, and only then the other one takes over.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, runLeaderElection } from 'tiphys/testing';

test('an operator that loses its lease stops before the other copy starts', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const { clock, random, log } = cluster;
  const story: string[] = [];
  const stop = new AbortController();
  const start = (identity: string): ReturnType<typeof cluster.connect> => {
    const connection = cluster.connect(identity); // a client with a network of its own
    void runLeaderElection({
      client: connection.client,
      clock,
      random,
      log,
      name: 'my-operator',
      namespace: 'default',
      identity,
      signal: stop.signal,
      // Your operator's loop goes here; it must end soon after the signal.
      lead: async (signal) => {
        story.push(`${identity} leads`);
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
        story.push(`${identity} stopped`);
      },
    });
    return connection;
  };
  const first = start('first');
  await cluster.advance('5s');
  start('second');
  await cluster.advance('1m');
  assert.deepEqual(story, ['first leads']);

  first.network.cut();
  const waited = await cluster.runUntil(() => story.includes('second leads'));
  assert.deepEqual(story, ['first leads', 'first stopped', 'second leads']);
  assert.ok(waited >= 10_000 && waited <= 20_000, `taken over after ${waited} ms`);

  first.network.heal(); // back again, it only follows
  await cluster.advance('5m');
  assert.deepEqual(story, ['first leads', 'first stopped', 'second leads']);
  stop.abort();
});
