/**
 * How cost grows: nodes with 30 Pods each through create, roll-out, node loss and delete; times are real, the cluster's
 * own are virtual.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { DeploymentStatus } from '#api/apps.v1.ts';
import type { ApiHandler } from '#base/api-request.ts';
import { kinds } from '#base/kinds.ts';
import { realClock } from '#os/clock.real.ts';
import { type Cluster, createCluster } from './cluster.ts';

const podsPerDeployment = 300;
/**
 * Thrice what V8 takes by itself: most of what thousands of Pods that change at once leave behind is then dead before
 * it is copied.
 */
const youngGenerationMb = 192;
const verbs: Record<string, string> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

/** Real time from a request's arrival to its answer, watches left out, and how many Pods were bound to nodes. */
class Latencies {
  #byVerb = new Map<string, number[]>();
  bound = 0;

  readonly observe =
    (handle: ApiHandler): ApiHandler =>
    async (request) => {
      const start = realClock.monotonic();
      const answer = await handle(request);
      const isList =
        request.method === 'GET' && !/\/[^/]+\/[^/]+$/.test(request.path.slice(request.path.indexOf('/v1') + 3));
      if (answer.events !== undefined || answer.status >= 400) return answer;
      if (request.path.endsWith('/binding')) this.bound++;
      const verb = verbs[request.method] ?? (isList ? 'list' : 'get');
      const held = this.#byVerb.get(verb);
      if (held === undefined) this.#byVerb.set(verb, [realClock.monotonic() - start]);
      else held.push(realClock.monotonic() - start);
      return answer;
    };

  /** `verb count p50/p99 ms`, and begins anew. */
  take(): string {
    const at = (sorted: Float64Array, share: number): string =>
      (sorted[Math.floor((sorted.length - 1) * share)] ?? NaN).toFixed(2);
    const text = [...this.#byVerb]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([verb, times]) => {
        const sorted = Float64Array.from(times).sort();
        return `${verb} ${at(sorted, 0.5)}/${at(sorted, 0.99)} (${sorted.length})`;
      })
      .join(', ');
    this.#byVerb = new Map();
    this.bound = 0;
    return text;
  }
}

interface Size {
  nodes: number;
  podsPerNode: number;
}

async function allDeployments(
  cluster: Cluster,
  holds: (status: DeploymentStatus, replicas: number, generation: number) => boolean,
): Promise<boolean> {
  const { items } = await cluster.client.list(kinds.Deployment, { namespace: 'default' });
  return items.every(({ status, spec, metadata }) => holds(status ?? {}, spec.replicas ?? 1, metadata.generation ?? 0));
}

async function measure({ nodes, podsPerNode }: Size, print: (line: string) => void): Promise<void> {
  let startMs = realClock.monotonic();
  let cpu = process.cpuUsage();
  const latencies = new Latencies();
  await using cluster = await createCluster({
    nodes: Array.from({ length: nodes }, (_, i) => ({ zone: `zone-${i % 3}` })),
    events: false,
    managedFields: false,
    observe: latencies.observe,
  });
  let transactions = 0;
  const lap = (what: string, pods: number): void => {
    const seconds = (realClock.monotonic() - startMs) / 1000;
    const used = process.cpuUsage(cpu);
    const done = cluster.observed.transactions - transactions;
    print(
      `${String(nodes).padStart(5)} nodes ${what.padEnd(10)} ${seconds.toFixed(2).padStart(8)} s  ${((used.user + used.system) / 1e6).toFixed(1).padStart(6)} CPU s  ${Math.round(process.memoryUsage.rss() / 1e6)} MB  ${done} transactions (${((seconds * 1000) / Math.max(1, done)).toFixed(3)} ms each)${pods === 0 ? '' : `  ${Math.round(pods / seconds)} Pods/s`}${latencies.bound === 0 ? '' : `  ${Math.round(latencies.bound / seconds)} scheduled/s`}`,
    );
    if (pods > 0) print(`              ms p50/p99: ${latencies.take()}`);
    latencies.bound = 0;
    startMs = realClock.monotonic();
    cpu = process.cpuUsage();
    transactions = cluster.observed.transactions;
  };
  lap('start', 0);
  const total = nodes * podsPerNode;
  const count = Math.max(1, Math.round(total / podsPerDeployment));
  for (let i = 0; i < count; i++) {
    await cluster.client.create(kinds.Deployment, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: `app-${i}`, namespace: 'default' },
      spec: {
        replicas: total / count,
        selector: { matchLabels: { app: `app-${i}` } },
        template: {
          metadata: { labels: { app: `app-${i}` } },
          spec: {
            containers: [{ name: 'c', image: 'app:1', resources: { requests: { cpu: '100m', memory: '128Mi' } } }],
          },
        },
      },
    });
  }
  await cluster.runUntil(
    () => allDeployments(cluster, (status, replicas) => status['availableReplicas'] === replicas),
    { every: '500ms' },
  );
  lap('create', total);
  for (let i = 0; i < count; i++)
    await cluster.client.patch(
      kinds.Deployment,
      { name: `app-${i}`, namespace: 'default' },
      { strategic: { spec: { template: { spec: { containers: [{ name: 'c', image: 'app:2' }] } } } } },
    );
  await cluster.runUntil(
    () =>
      allDeployments(
        cluster,
        (status, replicas, generation) =>
          status['observedGeneration'] === generation &&
          status['updatedReplicas'] === replicas &&
          status['replicas'] === replicas &&
          status['availableReplicas'] === replicas,
      ),
    { every: '500ms' },
  );
  lap('roll-out', total);
  const lost = Math.max(1, Math.floor(nodes / 20));
  for (let i = 0; i < lost; i++) cluster.nodes.kill(`node-${i}`);
  await cluster.advance('50s');
  await cluster.runUntil(
    () => allDeployments(cluster, (status, replicas) => status['availableReplicas'] === replicas),
    { every: '5s' },
  );
  lap('node loss', lost * podsPerNode);
  for (let i = 0; i < count; i++) await cluster.client.delete(kinds.Deployment, `app-${i}`, 'default');
  for (let i = 0; i < lost; i++) cluster.nodes.boot(`node-${i}`);
  await cluster.runUntil(
    async () => (await cluster.client.list(kinds.Pod, { namespace: 'default', limit: 1 })).items.length === 0,
    { every: '1s' },
  );
  lap('delete', total);
}

/** On a thread of its own, with a heap that nothing else has used. */
export async function runScale(size: Size, print: (line: string) => void): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: size,
    resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMb },
  });
  worker.on('message', print);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  worker.on('error', reject);
  worker.on('exit', (code) => {
    if (code === 0) resolve();
    else reject(new Error(`the run with ${size.nodes} nodes ended with code ${code}`));
  });
  await promise;
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  const size: Size = workerData;
  await measure(size, (line) => port.postMessage(line));
}
