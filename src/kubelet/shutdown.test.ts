import type { Pod } from '#api/core.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { TestJson } from '#base/testing.ts';
import type { Client } from '#client/client.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock } from '#os/clock.real.ts';
import type { Refusal } from './status.ts';
import { shutDownPods } from './shutdown.ts';
import { stored } from './stored.testing.ts';

const pod = (name: string, owners: TestJson[] = []): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name, namespace: 'default', uid: name, ownerReferences: owners },
  spec: { containers: [] },
  status: {},
});

async function shutDown(
  hostGoesDown: boolean,
  failing = false,
): Promise<{ farewells: Map<string, Refusal | undefined>; conditions: TestJson[] }> {
  const farewells = new Map<string, Refusal | undefined>();
  const conditions: TestJson[] = [];
  const client = {
    async patch(_kind: unknown, _object: unknown, { strategic: body }: TestJson) {
      if (failing) throw new Error('no API server');
      conditions.push(...body.status.conditions);
    },
  } as unknown as Client;
  const worker = (subject: Pod) => ({
    pod: subject,
    async shutDown(_graceMs: number, farewell: Refusal | undefined) {
      farewells.set(subject.metadata.name, farewell);
      if (subject.metadata.name === 'broken') throw new Error('broken');
    },
  });
  const workers = [
    worker(pod('bare')),
    worker(pod('broken')),
    worker(pod('owned', [{ kind: 'ReplicaSet', name: 'r', uid: 'u', controller: true }])),
    worker(pod('kept', [{ kind: 'ConfigMap', name: 'c', uid: 'v' }])),
  ];
  await shutDownPods(
    { client, clock: realClock, log: silentLogger, nodeName: 'n', workers: () => workers },
    { hostGoesDown, graceMsMax: 1_000 },
  );
  return { farewells, conditions };
}

test('when the machine goes down, the node says so, and Pods that a controller answers for are over', async () => {
  const { farewells, conditions } = await shutDown(true);
  assert.deepEqual(
    conditions.map((condition) => [condition.type, condition.status, condition.message]),
    [['Ready', 'False', 'node is shutting down']],
  );
  assert.equal(farewells.get('owned')?.reason, 'Terminated');
  assert.equal(farewells.get('owned')?.disrupted, true);
  assert.deepEqual(
    ['bare', 'broken', 'kept'].map((name) => [farewells.has(name), farewells.get(name)]),
    [
      [true, undefined],
      [true, undefined],
      [true, undefined],
    ],
  );
});

test('when the platform alone goes down, Pods wait for it', async () => {
  const { farewells, conditions } = await shutDown(false);
  assert.deepEqual(conditions, []);
  assert.equal(farewells.get('owned'), undefined);
});

test('without an API server containers are stopped all the same', async () => {
  assert.equal((await shutDown(true, true)).farewells.size, 4);
});

test('an API server that does not answer holds nothing up', async () => {
  const stopped: string[] = [];
  const clock = { ...realClock, now: () => 0, sleep: async () => undefined } as unknown as typeof realClock;
  const client = { patch: () => new Promise(() => undefined) } as unknown as Client;
  await shutDownPods(
    {
      client,
      clock,
      log: silentLogger,
      nodeName: 'n',
      workers: () => [
        {
          pod: pod('p'),
          async shutDown() {
            stopped.push('p');
          },
        },
      ],
    },
    { hostGoesDown: true, graceMsMax: 1_000 },
  );
  assert.deepEqual(stopped, ['p']);
});
