/** Two server processes on one etcd: each counts on what the other wrote, and one goes on when the other is killed. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { ConfigMap } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { createKeyRing, type KeyRing } from '#apiserver/keys.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject } from '#base/objects.ts';
import { issueCertificate } from '#base/x509.ts';
import type { Client } from '#client/client.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { freePort } from '#os/test-port.ts';
import type { ServerArguments } from './api-server.ts';
import { etcdPrograms, noEtcd, startEtcd, type TestEtcd } from './etcd.ts';

const stack = new AsyncDisposableStack();
const namespace = 'default';
let etcd: TestEtcd;
let ring: KeyRing;
let ringFile: string;

class TestServer {
  readonly port: number;
  readonly identity: string;
  #child: ChildProcess | undefined;

  constructor(port: number, identity: string) {
    this.port = port;
    this.identity = identity;
  }

  /** Does nothing where it runs. */
  async start(): Promise<void> {
    if (this.#child !== undefined) return;
    const given: ServerArguments = {
      endpoints: etcd.endpoints,
      prefix: '/two',
      port: this.port,
      ring: ringFile,
      identity: this.identity,
    };
    const child = spawn(process.execPath, [join(import.meta.dirname, 'api-server.ts'), JSON.stringify(given)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child = child;
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('close', (code) => reject(new Error(`${this.identity} ended with ${code}`)));
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('close', resolve));
    child.kill(signal);
    await gone;
  }

  client(name: string, organizations: string[] = []): Client {
    const pair = issueCertificate({ commonName: name, organizations, client: true }, ring.ca, realRandom, realClock);
    const transport = createHttpTransport({
      server: `https://127.0.0.1:${this.port}`,
      ca: ring.ca.certificatePem,
      certificate: pair.certificatePem,
      key: pair.keyPem,
      clock: realClock,
    });
    return createClient(transport, name);
  }
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const untilMs = realClock.monotonic() + 60_000;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined) return found;
    } catch (error) {
      if (!isReason(error, 'NotFound', 'ServiceUnavailable', 'Timeout')) throw error;
    }
    assert.ok(realClock.monotonic() < untilMs, `not seen: ${what}`);
    await realClock.sleep(20);
  }
}

const configMap = (name: string): Manifest<ConfigMap> => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace, labels: { test: 'yes' } },
});

/** What a client sees that follows through one server, and goes on at the next one when that is lost. */
class Follower {
  readonly seen: string[] = [];
  readonly #stop = new AbortController();
  readonly done: Promise<void>;

  constructor(clients: readonly Client[], from: string) {
    this.done = this.#follow(clients, from);
  }

  async #follow(clients: readonly Client[], from: string): Promise<void> {
    const { signal } = this.#stop;
    let resourceVersion = from;
    for (let turn = 0; !signal.aborted; turn++)
      try {
        const watch = clients[turn % clients.length]!.watch(kinds.ConfigMap, {
          namespace,
          labelSelector: 'test=yes',
          resourceVersion,
          allowBookmarks: true,
          signal,
        });
        for await (const { type, object } of watch) {
          assert.notEqual(type, 'ERROR', JSON.stringify(object));
          resourceVersion = object.metadata.resourceVersion ?? '';
          if (type !== 'BOOKMARK') this.seen.push(`${type} ${object.metadata.name}`);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!isReason(error, 'ServiceUnavailable', 'Timeout')) throw error;
        await realClock.sleep(20);
      }
  }

  stop(): Promise<void> {
    this.#stop.abort();
    return this.done;
  }
}

describe('two servers on one etcd', { skip: noEtcd }, () => {
  let one: TestServer;
  let two: TestServer;
  before(async () => {
    const [program = ''] = etcdPrograms();
    etcd = stack.use(await startEtcd(program));
    const directory = mkdtempSync(join(tmpdir(), 'tiphys-two-'));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    ring = createKeyRing(realRandom, realClock);
    ringFile = join(directory, 'keys.json');
    writeFileSync(ringFile, JSON.stringify(ring), { mode: 0o600 });
    one = new TestServer(await freePort(), 'one');
    two = new TestServer(await freePort(), 'two');
    for (const server of [one, two]) stack.defer(() => server.end('SIGKILL'));
  });
  beforeEach(async () => {
    for (const server of [one, two]) await server.start();
  });
  after(() => stack.disposeAsync());

  const admin = (server: TestServer): Client => server.client('admin', ['system:masters']);
  const holder = async (client: Client): Promise<string> =>
    (await client.get(kinds.Lease, 'tiphys-control-plane', 'kube-system')).spec.holderIdentity ?? '';
  const roles = async (): Promise<[leader: TestServer, other: TestServer]> => {
    const client = admin(one);
    const leader = await until('a leader', async () => {
      const identity = await holder(client);
      return [one, two].find((server) => server.identity === identity);
    });
    return leader === one ? [one, two] : [two, one];
  };
  const endpointPorts = async (client: Client): Promise<number[]> =>
    ((await client.get(kinds.Endpoints, 'kubernetes', namespace)).subsets ?? []).flatMap((subset) =>
      (subset.ports ?? []).map(({ port }) => port),
    );

  it('names both in the endpoints of kubernetes', async () => {
    const client = admin(one);
    const expected = [one.port, two.port].sort((a, b) => a - b);
    await until('both endpoints', async () =>
      JSON.stringify(await endpointPorts(client)) === JSON.stringify(expected) ? true : undefined,
    );
  });

  it('counts on what the other one was told to do: objects, permissions, and kinds', async () => {
    const jane = two.client('jane');
    await assert.rejects(jane.get(kinds.Secret, 's', namespace), (error) => isReason(error, 'Forbidden'));
    const first = admin(one);
    await first.create(kinds.Secret, {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 's', namespace },
      stringData: { a: 'b' },
    });
    await first.create(kinds.RoleBinding, {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'jane', namespace },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
      subjects: [{ kind: 'User', name: 'jane', apiGroup: 'rbac.authorization.k8s.io' }],
    });
    const secret = await jane.get(kinds.Secret, 's', namespace);
    assert.equal(Buffer.from(secret.data?.['a'] ?? '', 'base64').toString(), 'b');
    await first.delete(kinds.RoleBinding, 'jane', namespace);
    await assert.rejects(jane.get(kinds.Secret, 's', namespace), (error) => isReason(error, 'Forbidden'));

    await first.create(kinds.CustomResourceDefinition, {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'boats.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Cluster',
        names: { kind: 'Boat', plural: 'boats', singular: 'boat', listKind: 'BoatList' },
        versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: { type: 'object' } } }],
      },
    });
    const path = '/apis/example.com/v1/boats';
    const boat = { apiVersion: 'example.com/v1', kind: 'Boat', metadata: { name: 'argo' } };
    await until('the kind at the other server', async () => admin(two).raw('POST', path, boat));
    assert.equal((await first.raw<KubeObject>('GET', `${path}/argo`)).metadata.name, 'argo');
  });

  it('loses no write, shows each event once, and has its controllers go on when the leader is killed', async () => {
    const [leader, other] = await roles();
    const [first, second] = [admin(leader), admin(other)];
    const { metadata } = await second.list(kinds.ConfigMap, { namespace });
    const from = metadata.resourceVersion ?? '';
    const followers = [new Follower([second], from), new Follower([first, second], from)];
    const acknowledged: string[] = [];
    const unknown: string[] = [];
    let stopped = false;
    const writers = Array.from({ length: 6 }, async (_, writer) => {
      for (let n = 0; !stopped; n++) {
        const name = `w${writer}-${n}`;
        try {
          await (n % 2 === 0 ? first : second).create(kinds.ConfigMap, configMap(name));
          acknowledged.push(name);
        } catch (error) {
          assert.ok(isReason(error, 'ServiceUnavailable', 'Timeout'), String(error));
          unknown.push(name);
          await realClock.sleep(5);
        }
      }
    });
    while (acknowledged.length < 300) await realClock.sleep(5);
    await leader.end('SIGKILL');
    const before = acknowledged.length;
    while (acknowledged.length < before + 300) await realClock.sleep(5);
    stopped = true;
    await Promise.all(writers);

    const items = (await second.list(kinds.ConfigMap, { namespace, labelSelector: 'test=yes' })).items;
    const there = new Set(items.map((item) => item.metadata.name));
    assert.deepEqual(
      acknowledged.filter((name) => !there.has(name)),
      [],
    );
    assert.deepEqual(
      [...there].filter((name) => !acknowledged.includes(name) && !unknown.includes(name)),
      [],
    );
    const expected = items
      .sort((a, b) => Number(a.metadata.resourceVersion) - Number(b.metadata.resourceVersion))
      .map((item) => `ADDED ${item.metadata.name}`);
    for (const follower of followers) {
      await until('all events', async () => (follower.seen.length >= expected.length ? true : undefined));
      await follower.stop();
      assert.deepEqual(follower.seen, expected);
    }

    await second.create(kinds.Deployment, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'app', namespace },
      spec: {
        replicas: 2,
        selector: { matchLabels: { app: 'app' } },
        template: { metadata: { labels: { app: 'app' } }, spec: { containers: [{ name: 'a', image: 'a' }] } },
      },
    });
    await until('Pods made by the other controllers', async () =>
      (await second.list(kinds.Pod, { namespace, labelSelector: 'app=app' })).items.length === 2 ? true : undefined,
    );
    assert.equal(await holder(second), other.identity);
    await until('one endpoint', async () => ((await endpointPorts(second)).length === 1 ? true : undefined));
  });

  it('hands over when the leader is told to end', async () => {
    const [leader, other] = await roles();
    const client = admin(other);
    await leader.end('SIGTERM');
    await until('the other leader', async () => ((await holder(client)) === other.identity ? true : undefined));
    await until('one endpoint', async () =>
      JSON.stringify(await endpointPorts(client)) === JSON.stringify([other.port]) ? true : undefined,
    );
  });

  it('answers without a majority from what it has seen, for so long as permissions count, and comes back', async () => {
    const first = admin(one);
    const joe = one.client('joe');
    await first.create(kinds.ConfigMap, configMap('kept'));
    await first.create(kinds.RoleBinding, {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'joe', namespace },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
      subjects: [{ kind: 'User', name: 'joe', apiGroup: 'rbac.authorization.k8s.io' }],
    });
    const any = { namespace, resourceVersion: '0' };
    assert.ok((await joe.list(kinds.ConfigMap, any)).items.length > 0);
    etcd.signalMember(0, 'SIGSTOP');
    try {
      const refused = (error: unknown): boolean => isReason(error, 'Timeout', 'ServiceUnavailable');
      assert.ok((await joe.list(kinds.ConfigMap, any)).items.length > 0);
      await Promise.all([
        assert.rejects(first.get(kinds.ConfigMap, 'kept', namespace), refused),
        assert.rejects(first.create(kinds.ConfigMap, configMap('lost')), refused),
      ]);
      await until('joe refused', async () => {
        try {
          await joe.list(kinds.ConfigMap, any);
          return undefined;
        } catch (error) {
          assert.ok(isReason(error, 'ServiceUnavailable'), String(error));
          return true;
        }
      });
      assert.ok((await first.list(kinds.ConfigMap, any)).items.length > 0);
    } finally {
      etcd.signalMember(0, 'SIGCONT');
    }
    await until('a write', async () => first.create(kinds.ConfigMap, configMap('after')));
    assert.ok((await joe.list(kinds.ConfigMap, { namespace })).items.some((item) => item.metadata.name === 'after'));
  });
});
