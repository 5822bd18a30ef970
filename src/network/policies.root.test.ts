/**
 * A node's policies under load, in a network namespace of the test's own: a real API server's objects, the real
 * kernel's tables. The times are said, and judged by nobody here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetworkPolicySpec } from '#api/networking.v1.ts';
import { createTestApi } from '#apiserver/fixture.ts';
import { kinds } from '#base/kinds.ts';
import type { Client } from '#client/client.ts';
import { InformerFactory } from '#client/informer.ts';
import { createClient } from '#client/rest-client.ts';
import { createDirectTransport } from '#client/transport-direct.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { runPolicyEnforcer } from './policies.ts';

const policiesCount = 1_000;
const podsCount = 300;
const namespacesCount = 10;
const table = 'tiphys_test_policies';

interface Bench extends AsyncDisposable {
  client: Client;
  /** Resolves when the kernel has taken the next transaction that is there after this many. */
  applied(count: number): Promise<void>;
  /** Transactions so far, and the commands of the last. */
  readonly count: number;
  readonly last: string;
  list(what: string): Promise<string>;
  startInformers(): Promise<void>;
}

async function openBench(): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const namespace = `tiphys-policies-${process.pid}`;
  assert.equal((await linuxProcesses.run('ip', ['netns', 'add', namespace])).code, 0);
  stack.defer(async () => {
    await linuxProcesses.run('ip', ['netns', 'del', namespace]);
  });
  const api = stack.use(await createTestApi());
  const admin = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
  const client = createClient(createDirectTransport(api.api.handle, admin), 'admin');
  const door = createNetworkDoor();
  stack.defer(() => door.close());
  let count = 0;
  let last = '';
  let wake: (() => void)[] = [];
  const informers = stack.use(new InformerFactory({ client, clock: realClock, random: realRandom, log: silentLogger }));
  const enforcer = stack.use(
    runPolicyEnforcer({
      informers,
      nft: {
        list: door.nft.list,
        async run(text) {
          await door.nft.run(text, `/run/netns/${namespace}`);
          count++;
          last = text;
          for (const resolve of wake) resolve();
          wake = [];
        },
      },
      clock: realClock,
      log: silentLogger,
      nodeName: 'a',
      table,
    }),
  );
  const owned = stack.move();
  return {
    client,
    get count() {
      return count;
    },
    get last() {
      return last;
    },
    async applied(before) {
      while (count <= before) await new Promise<void>((resolve) => wake.push(resolve));
    },
    list: async (what) =>
      (await linuxProcesses.run('ip', ['netns', 'exec', namespace, 'nft', 'list', ...what.split(' ')])).stdout,
    async startInformers() {
      informers.start();
      await enforcer.ready;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function addPolicy(client: Client, at: number, spec: NetworkPolicySpec): Promise<void> {
  await client.create(kinds.NetworkPolicy, {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: `p${at}`, namespace: `n${at % namespacesCount}` },
    spec,
  });
}

/** Each selects a third of its namespace's Pods, and lets in what carries one of fifty labels. */
function someSpec(at: number): NetworkPolicySpec {
  return {
    podSelector: { matchLabels: { third: String(at % 3) } },
    ingress: [
      {
        from: [
          { namespaceSelector: {}, podSelector: { matchLabels: { fifty: String(at % 50) } } },
          { ipBlock: { cidr: `172.${at % 200}.0.0/16`, except: [`172.${at % 200}.3.0/24`] } },
        ],
        ports: [{ port: 1 + at }, { port: 'web' }],
      },
    ],
    egress: [{ to: [{ podSelector: {} }] }],
  };
}

async function fill(client: Client): Promise<void> {
  for (let at = 0; at < namespacesCount; at++) {
    await client.create(kinds.Namespace, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: `n${at}` } });
    const metadata = { name: 'default', namespace: `n${at}` };
    await client.create(kinds.ServiceAccount, { apiVersion: 'v1', kind: 'ServiceAccount', metadata });
  }
  for (let at = 0; at < podsCount; at++) {
    const made = await client.create(kinds.Pod, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: `pod${at}`,
        namespace: `n${at % namespacesCount}`,
        labels: { third: String(Math.floor(at / namespacesCount) % 3), fifty: String(at % 50) },
      },
      spec: { nodeName: 'a', containers: [{ name: 'c', image: 'x', ports: [{ name: 'web', containerPort: 8080 }] }] },
    });
    const podIP = `10.1.${at >> 8}.${at & 255}`;
    await client.update(
      kinds.Pod,
      { ...made, status: { ...made.status, podIP, podIPs: [{ ip: podIP }] } },
      { subresource: 'status' },
    );
  }
  for (let at = 0; at < policiesCount; at++) await addPolicy(client, at, someSpec(at));
}

const isRoot = process.getuid?.() === 0;
const skip = !isRoot ? 'needs root' : linuxProcesses.find('ip') === undefined && 'needs iproute2';

test('1,000 policies over 300 Pods: a change is a small transaction', { skip, timeout: 300_000 }, async (t) => {
  await using bench = await openBench();
  const { client } = bench;
  await fill(client);
  const begin = realClock.monotonic();
  await bench.startInformers();
  t.diagnostic(`all of it: ${Math.round(realClock.monotonic() - begin)} ms`);
  assert.equal((await bench.list(`map ip ${table} arriving`)).match(/goto/g)?.length, podsCount);

  const times = new Map<string, number[]>();
  const measure = async (what: string, change: () => Promise<unknown>): Promise<string> => {
    const before = bench.count;
    const start = realClock.monotonic();
    await change();
    await bench.applied(before);
    times.set(what, [...(times.get(what) ?? []), realClock.monotonic() - start]);
    return bench.last;
  };
  for (let round = 0; round < 10; round++) {
    const [name, namespace] = [`p${round}`, `n${round}`];
    const updated = await measure('a policy is updated', async () => {
      const held = await client.get(kinds.NetworkPolicy, name, namespace);
      await client.update(kinds.NetworkPolicy, {
        ...held,
        spec: { ...held.spec, ingress: [{ ports: [{ port: 7 }] }] },
      });
    });
    assert.ok(updated.split('\n').length <= 5, updated);
    const relabelled = await measure('a Pod gets a label that peers are chosen by', async () => {
      const held = await client.get(kinds.Pod, `pod${round}`, namespace);
      const labels = { ...held.metadata.labels, fifty: String(49 - round) };
      await client.update(kinds.Pod, { ...held, metadata: { ...held.metadata, labels } });
    });
    assert.ok(relabelled.split('\n').length <= 2, relabelled);
    await measure('a policy comes', () => addPolicy(client, policiesCount + round, someSpec(policiesCount + round)));
    await measure('a policy goes', () => client.delete(kinds.NetworkPolicy, name, namespace));
  }
  for (const [what, all] of times) {
    const sorted = all.toSorted((a, b) => a - b).map(Math.round);
    t.diagnostic(`${what}: median ${sorted[5]} ms, most ${sorted.at(-1)} ms`);
  }
});
