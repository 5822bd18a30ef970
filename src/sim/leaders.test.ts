/** Leader election on networks that are slow: nobody leads after its term, whatever it still waits for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Cluster, createCluster, runLeaderElection } from './testing.ts';

interface Candidate {
  network: ReturnType<Cluster['connect']>['network'];
  stop: AbortController;
  ended: Promise<void>;
}

/** Campaigns, and notes in the story when it leads and when it is told to stop. */
function campaign(cluster: Cluster, identity: string, story: string[]): Candidate {
  const { client, network } = cluster.connect(identity);
  const stop = new AbortController();
  const ended = runLeaderElection({
    client,
    clock: cluster.clock,
    random: cluster.random,
    log: cluster.log,
    name: 'election',
    namespace: 'default',
    identity,
    signal: stop.signal,
    lead: async (signal) => {
      story.push(`${identity} leads`);
      if (!signal.aborted)
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => resolve(), { once: true });
        });
      story.push(`${identity} stops`);
    },
  });
  return { network, stop, ended };
}

test('a leader whose renewal is not answered stops before another one leads', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const story: string[] = [];
  const a = campaign(cluster, 'a', story);
  await cluster.advance('3s');
  campaign(cluster, 'b', story);
  await cluster.advance('10s');
  const send = a.network.send.bind(a.network);
  a.network.send = async (request) => {
    await cluster.clock.sleep(40_000);
    return send(request);
  };
  await cluster.advance('30s');
  assert.deepEqual(story, ['a leads', 'a stops', 'b leads']);
});

test('a term counts from when its renewal was sent, not from its late answer', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const story: string[] = [];
  const a = campaign(cluster, 'a', story);
  await cluster.advance('3s');
  campaign(cluster, 'b', story);
  await cluster.advance('10s');
  const send = a.network.send.bind(a.network);
  let renewals = 0;
  a.network.send = async (request) => {
    const answer = await send(request);
    if (request.method === 'PUT' && renewals++ === 0) await cluster.clock.sleep(9_000);
    else if (renewals > 0) await new Promise(() => undefined);
    return answer;
  };
  await cluster.advance('1m');
  assert.deepEqual(story, ['a leads', 'a stops', 'b leads']);
});

test('a lease that is granted too late is given up, and one who is slow but answered leads', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const story: string[] = [];
  const slow = campaign(cluster, 'slow', story);
  slow.network.faults.delayMsMax = 800;
  await cluster.advance('1m');
  assert.deepEqual(story, ['slow leads']);
  slow.stop.abort();
  await cluster.advance('10s');
  await slow.ended;
  assert.deepEqual(story, ['slow leads', 'slow stops']);

  const late = campaign(cluster, 'late', story);
  const send = late.network.send.bind(late.network);
  late.network.send = async (request) => {
    const answer = await send(request);
    await cluster.clock.sleep(12_000);
    return answer;
  };
  await cluster.advance('25s');
  campaign(cluster, 'other', story);
  await cluster.advance('3m');
  assert.deepEqual(story.slice(2), ['other leads']);
});
