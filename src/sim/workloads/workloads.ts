/**
 * What users do during a simulation: each workload sets something up and then changes it at random moments until the
 * faults stop. All chance is the seed's. A workload must leave a state that can become whole.
 */
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import type { PodSpec, PodTemplateSpec, ConfigMap } from '#api/core.v1.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import type { ListOptions } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import { runLeaderElection } from '#client/leader-election.ts';
import { silentLogger } from '#observe/log.ts';
import { between, pick } from '../chance.ts';
import type { Leaders } from '../checkers/one-leader.ts';
import type { Writes } from '../checkers/writes-kept.ts';
import type { Cluster } from '../cluster.ts';
import type { FaultyTransport } from '../faults.ts';
import type { World } from '../world.ts';

export interface Workload {
  name: string;
  setUp(world: World): Promise<void>;
  /** One random change. */ act(world: World): Promise<void>;
  /** No more changes will come. */ end?(world: World): Promise<void>;
}

/** Faults make requests fail: a user tries again another time. */
export async function attempt(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    if (
      isReason(
        error,
        'ServiceUnavailable',
        'Conflict',
        'NotFound',
        'AlreadyExists',
        'Forbidden',
        'TooManyRequests',
        'Timeout',
      )
    )
      return false;
    throw error;
  }
}

/** Set-up repeats until it succeeds. */
async function ensure<T extends KubeObject>(
  cluster: Cluster,
  kind: KindRef<T>,
  object: KubeObject & Manifest<NoInfer<T>>,
): Promise<void> {
  while (
    !(await attempt(async () => {
      try {
        await cluster.client.create<T>(kind, object);
      } catch (error) {
        if (!isReason(error, 'AlreadyExists')) throw error;
      }
    }))
  )
    await cluster.clock.sleep(1_000);
}

/** What is there now; nothing while nobody answers. */
export async function listNow<T extends KubeObject>(
  { client }: Cluster,
  kind: KindRef<T>,
  options: ListOptions,
): Promise<T[]> {
  // The next turn looks again.
  const list = await client.list(kind, options).catch(() => undefined);
  return list?.items ?? [];
}

export function template(app: string, extra: Partial<PodSpec> = {}): PodTemplateSpec {
  return {
    metadata: { labels: { app } },
    spec: {
      terminationGracePeriodSeconds: 5,
      containers: [{ name: 'c', image: 'app:1', resources: { requests: { cpu: '100m', memory: '64Mi' } } }],
      ...extra,
    },
  };
}

/** A patch. */
const image = (n: number): object => ({
  spec: { template: { spec: { containers: [{ name: 'c', image: `app:${n}` }] } } },
});

export function rollouts(): Workload {
  return {
    name: 'rollouts',
    async setUp({ cluster }) {
      for (const [at, strategy] of [
        { type: 'RollingUpdate', rollingUpdate: { maxSurge: 2, maxUnavailable: 0 } },
        { type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: '50%' } },
        { type: 'Recreate' },
      ].entries()) {
        await ensure(cluster, kinds.Deployment, {
          apiVersion: 'apps/v1',
          kind: 'Deployment',
          metadata: { name: `web-${at}`, namespace: 'default' },
          spec: {
            replicas: 4,
            strategy,
            selector: { matchLabels: { app: `web-${at}` } },
            template: template(`web-${at}`),
          },
        });
        await ensure(cluster, kinds.Service, {
          apiVersion: 'v1',
          kind: 'Service',
          metadata: { name: `web-${at}`, namespace: 'default' },
          spec: { type: at === 0 ? 'NodePort' : 'ClusterIP', selector: { app: `web-${at}` }, ports: [{ port: 80 }] },
        });
      }
      await ensure(cluster, kinds.PodDisruptionBudget, {
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'web-0', namespace: 'default' },
        spec: { minAvailable: 2, selector: { matchLabels: { app: 'web-0' } } },
      });
    },
    async act({ cluster }) {
      const name = `web-${between(cluster.random, 0, 2)}`;
      const change = between(cluster.random, 0, 4);
      if (change <= 1)
        await attempt(() =>
          cluster.client.patch(
            kinds.Deployment,
            { name, namespace: 'default' },
            { strategic: image(between(cluster.random, 1, 4)) },
          ),
        );
      else if (change === 2)
        await attempt(() =>
          cluster.client.patch(
            kinds.Deployment,
            { name, namespace: 'default' },
            { merge: { spec: { replicas: between(cluster.random, 1, 8) } } },
          ),
        );
      else if (change === 3) {
        const pods = await listNow(cluster, kinds.Pod, { namespace: 'default', labelSelector: `app=${name}` });
        if (pods.length > 0)
          await attempt(() => cluster.client.delete(kinds.Pod, pick(cluster.random, pods).metadata.name, 'default'));
      } else {
        const pods = await listNow(cluster, kinds.Pod, { namespace: 'default', labelSelector: 'app=web-0' });
        for (const pod of pods.slice(0, 3))
          await attempt(() =>
            cluster.client.createSubresource(kinds.Pod, 'eviction', {
              apiVersion: 'policy/v1',
              kind: 'Eviction',
              metadata: { name: pod.metadata.name, namespace: 'default' },
            }),
          );
      }
    },
  };
}

export function stateful(): Workload {
  return {
    name: 'stateful',
    async setUp({ cluster }) {
      await ensure(cluster, kinds.StatefulSet, {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name: 'db', namespace: 'default' },
        spec: {
          replicas: 3,
          serviceName: 'db',
          selector: { matchLabels: { app: 'db' } },
          template: template('db'),
          volumeClaimTemplates: [
            {
              metadata: { name: 'data' },
              spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
            },
          ],
        },
      });
      await ensure(cluster, kinds.StatefulSet, {
        apiVersion: 'apps/v1',
        kind: 'StatefulSet',
        metadata: { name: 'peers', namespace: 'default' },
        spec: {
          replicas: 4,
          podManagementPolicy: 'Parallel',
          serviceName: 'peers',
          selector: { matchLabels: { app: 'peers' } },
          template: template('peers'),
        },
      });
    },
    async act({ cluster }) {
      const name = pick(cluster.random, ['db', 'peers']);
      if (cluster.random.float() < 0.5)
        await attempt(() =>
          cluster.client.patch(
            kinds.StatefulSet,
            { name, namespace: 'default' },
            { strategic: image(between(cluster.random, 1, 4)) },
          ),
        );
      else
        await attempt(() =>
          cluster.client.patch(
            kinds.StatefulSet,
            { name, namespace: 'default' },
            { merge: { spec: { replicas: between(cluster.random, 1, 4) } } },
          ),
        );
    },
  };
}

export function jobs(): Workload {
  let count = 0;
  return {
    name: 'jobs',
    async setUp({ cluster }) {
      cluster.scripts.add({
        selector: 'app=job',
        script: ({ pod }) => ({
          exitAfter: `${5 + (pod.metadata.uid.charCodeAt(0) % 20)}s`,
          exitCode: pod.metadata.uid.charCodeAt(1) % 4 === 0 ? 1 : 0,
        }),
      });
      cluster.scripts.add({ selector: 'app=tick', script: { exitAfter: '3s' } });
      await ensure(cluster, kinds.CronJob, {
        apiVersion: 'batch/v1',
        kind: 'CronJob',
        metadata: { name: 'tick', namespace: 'default' },
        spec: {
          schedule: '*/2 * * * *',
          concurrencyPolicy: 'Forbid',
          jobTemplate: { spec: { template: template('tick', { restartPolicy: 'Never' }) } },
        },
      });
    },
    async act({ cluster }) {
      const indexed = cluster.random.float() < 0.4;
      await attempt(() =>
        cluster.client.create(kinds.Job, {
          apiVersion: 'batch/v1',
          kind: 'Job',
          metadata: { name: `job-${count++}`, namespace: 'default' },
          spec: {
            completions: between(cluster.random, 1, 6),
            parallelism: between(cluster.random, 1, 4),
            backoffLimit: 20,
            ...(indexed ? { completionMode: 'Indexed' } : {}),
            template: template('job', { restartPolicy: 'Never' }),
          },
        }),
      );
    },
    async end({ cluster }) {
      while (
        !(await attempt(() =>
          cluster.client.patch(
            kinds.CronJob,
            { name: 'tick', namespace: 'default' },
            { merge: { spec: { suspend: true } } },
          ),
        ))
      )
        await cluster.clock.sleep(1_000);
    },
  };
}

export function daemons(): Workload {
  return {
    name: 'daemons',
    async setUp({ cluster }) {
      await ensure(cluster, kinds.DaemonSet, {
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        metadata: { name: 'agent', namespace: 'kube-system' },
        spec: { selector: { matchLabels: { app: 'agent' } }, template: template('agent') },
      });
    },
    async act({ cluster }) {
      await attempt(() =>
        cluster.client.patch(
          kinds.DaemonSet,
          { name: 'agent', namespace: 'kube-system' },
          { strategic: image(between(cluster.random, 1, 4)) },
        ),
      );
    },
  };
}

/** Namespaces with quotas that come and go with all that is in them. */
export function tenants(): Workload {
  let count = 0;
  return {
    name: 'tenants',
    async setUp() {
      /* Tenants come with time. */
    },
    async act({ cluster }) {
      const name = `tenant-${count++}`;
      await attempt(async () => {
        await cluster.client.create(kinds.Namespace, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
        await cluster.client.create(kinds.ResourceQuota, {
          apiVersion: 'v1',
          kind: 'ResourceQuota',
          metadata: { name: 'q', namespace: name },
          spec: {
            hard: {
              pods: '3',
              'requests.cpu': '350m',
              'count/configmaps': '3',
              services: '1',
              'services.nodeports': '1',
            },
          },
        });
        await cluster.client.create(kinds.Deployment, {
          apiVersion: 'apps/v1',
          kind: 'Deployment',
          metadata: { name: 'app', namespace: name },
          spec: {
            replicas: between(cluster.random, 1, 3),
            selector: { matchLabels: { app: 'app' } },
            strategy: { type: 'Recreate' },
            template: template('app'),
          },
        });
      });
      const some = `tenant-${between(cluster.random, Math.max(0, count - 3), count - 1)}`;
      if (cluster.random.float() < 0.6)
        await attempt(() =>
          cluster.client.create(kinds.ConfigMap, {
            apiVersion: 'v1',
            kind: 'ConfigMap',
            metadata: { generateName: 'c-', namespace: some },
          }),
        );
      if (cluster.random.float() < 0.6)
        await attempt(() =>
          cluster.client.create(kinds.Service, {
            apiVersion: 'v1',
            kind: 'Service',
            metadata: { generateName: 's-', namespace: some },
            spec: {
              type: pick(cluster.random, ['ClusterIP', 'NodePort']),
              selector: { app: 'app' },
              ports: [{ port: 80 }],
            },
          }),
        );
      const old = `tenant-${count - 3}`;
      if (count >= 3) await attempt(() => cluster.client.delete(kinds.Namespace, old));
      // What a failed request left half made must still be able to become whole: it is.
    },
  };
}

/**
 * ConfigMaps that are written, added to by many at once, made and deleted; the checker is told what was acknowledged.
 */
export function counters(writes: Writes): Workload {
  let value = 0;
  let made = 0;
  const configMap = (name: string): Manifest<ConfigMap> => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: 'default' },
    data: { value: '0' },
  });
  const present = new Map<string, string>();
  const add = async ({ client }: Cluster): Promise<void> => {
    // Not made yet, or a server that is away: the next turn looks again.
    const held = await client.get(kinds.ConfigMap, 'sum', 'default').catch(() => undefined);
    if (held === undefined) return;
    try {
      await client.update(kinds.ConfigMap, { ...held, data: { value: String(Number(held.data?.value) + 1) } });
      writes.added('sum', true);
    } catch (error) {
      if (!isReason(error, 'Conflict', 'ServiceUnavailable', 'Timeout')) throw error;
      if (!isReason(error, 'Conflict')) writes.added('sum', undefined);
    }
  };
  return {
    name: 'counters',
    async setUp({ cluster }) {
      for (const name of ['write-0', 'write-1', 'write-2', 'sum'])
        await ensure(cluster, kinds.ConfigMap, configMap(name));
    },
    async act({ cluster }) {
      const { client } = cluster;
      await Promise.all(Array.from({ length: between(cluster.random, 0, 3) }, () => add(cluster)));
      const temporary = `temporary-${made++}`;
      await attempt(async () => {
        const { uid } = (await client.create(kinds.ConfigMap, configMap(temporary))).metadata;
        present.set(temporary, uid);
        writes.made(temporary, uid);
      });
      const [oldest] = present;
      if (oldest !== undefined && present.size > 3) {
        writes.leaving(oldest[0]);
        // Without an answer the next attempt tells.
        if (
          await attempt(() =>
            client.delete(kinds.ConfigMap, oldest[0], 'default').catch((error: unknown) => {
              if (!isReason(error, 'NotFound')) throw error;
            }),
          )
        ) {
          present.delete(oldest[0]);
          writes.deleted(...oldest);
        }
      }
      const name = `write-${between(cluster.random, 0, 2)}`;
      const next = ++value;
      if (
        await attempt(() =>
          client.patch(kinds.ConfigMap, { name, namespace: 'default' }, { merge: { data: { value: String(next) } } }),
        )
      )
        writes.acknowledged(name, next);
    },
  };
}

/**
 * Candidates on networks of their own, each of which is cut, slow (longer than a lease lasts) or well; the checker is
 * told who leads.
 */
export function leaders(checker: Leaders): Workload {
  const stop = new AbortController();
  const networks: FaultyTransport[] = [];
  return {
    name: 'leaders',
    async setUp(world) {
      const { cluster } = world;
      for (const identity of ['a', 'b', 'c']) {
        const { client, network } = cluster.connect(`candidate-${identity}`);
        networks.push(network);
        void runLeaderElection({
          client,
          clock: cluster.clock,
          random: cluster.random,
          log: silentLogger,
          name: 'election',
          namespace: 'default',
          identity,
          signal: stop.signal,
          lead: async (signal) => {
            checker.started(world, identity);
            await new Promise<void>((resolve) => {
              signal.addEventListener('abort', () => resolve(), { once: true });
            });
            checker.ended(identity);
          },
          // A candidate that cannot go on is one that another takes over from.
        }).catch(() => {});
      }
    },
    async act({ cluster }) {
      const network = pick(cluster.random, networks);
      const fault = between(cluster.random, 0, 3);
      network.heal();
      if (fault === 0) network.cut();
      else if (fault === 1) network.faults.delayMsMax = between(cluster.random, 1, 30) * 1_000;
      else if (fault === 2) network.faults.replyLoss = cluster.random.float();
    },
    async end() {
      for (const network of networks) network.heal();
      stop.abort();
    },
  };
}
