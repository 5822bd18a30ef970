/**
 * `tiphys rehearse`: the user's own manifests, run by the real controllers in virtual time while nodes die, are drained, or pull images slowly.
 *
 * The cluster is set up once and comes to rest; every seed is a fork of it, in which chance chooses the node that is hit and the delays. What is seen
 * of each workload's Pods becomes a verdict: how few were ready, for how long too few, what restarted, what never ran and why, which disruption budgets were
 * undercut. Nothing here changes what controllers do; it only looks, through informers of its own.
 */
import { isReason } from '#base/errors.ts';
import type { Json, KindRef, KubeObject } from '#base/objects.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { InformerFactory, keyOf, type Informer } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { createCluster, type Cluster } from './cluster.ts';
import type { NodeOptions } from './nodes.ts';

export type Fault = { kind: 'kill-node'; atMs: number } | { kind: 'drain'; atMs: number };
export interface RehearseOptions {
  manifests: readonly KubeObject[];
  nodes: number | readonly NodeOptions[];
  faults: readonly Fault[];
  /** Every image takes this long to pull, from the first fault on. */
  slowPullMs?: number;
  forMs: number;
  seeds: readonly number[];
}

export type Verdict = 'ok' | 'degraded' | 'unavailable' | 'not whole at the end' | 'never ran';
export interface WorkloadReport {
  /** `Deployment default/web`. */
  name: string;
  wanted: number;
  lowestReady: number;
  /** Seconds with fewer Pods ready than wanted, and with none, after it was whole the first time. */
  belowSeconds: number;
  downSeconds: number;
  restarts: number;
  /** Pods that do not run at the end, with the reason. */
  stuck: { pod: string; why: string }[];
  verdict: Verdict;
}
export interface BudgetReport { name: string; /** Seconds with fewer healthy Pods than the budget wants. */ brokenSeconds: number }
export interface TimelineEntry { atSeconds: number; what: string }
export interface Rehearsal { seed: number; workloads: WorkloadReport[]; budgets: BudgetReport[]; timeline: TimelineEntry[]; virtualSeconds: number }

const settleMsMax = 15 * 60_000;
const drainRetryMs = 5_000;
const drainMsMax = 30 * 60_000;
const workloadKinds: [KindRef, string][] = [[kinds.Deployment, 'Deployment'], [kinds.StatefulSet, 'StatefulSet'], [kinds.DaemonSet, 'DaemonSet']];

/** Fewer ready and longer down is worse. */
export function badness(rehearsal: Rehearsal): number {
  const rank: Record<Verdict, number> = { ok: 0, degraded: 1, unavailable: 2, 'not whole at the end': 3, 'never ran': 4 };
  return rehearsal.workloads.reduce((sum, report) => sum + rank[report.verdict] * 1e9 + report.downSeconds * 1e4 + report.belowSeconds, 0) + rehearsal.budgets.reduce((sum, budget) => sum + budget.brokenSeconds * 1e3, 0);
}

/** Runs every seed; the caller picks the worst by `badness`. */
export async function rehearse(options: RehearseOptions, onSeed?: (rehearsal: Rehearsal) => void): Promise<Rehearsal[]> {
  await using base = await createCluster({ nodes: options.nodes, seed: 1, events: false });
  const namespaces = new Set(options.manifests.filter((object) => object.kind === 'Namespace').map((object) => object.metadata.name!));
  for (const namespace of new Set(options.manifests.map((object) => object.metadata.namespace))) {
    if (namespace === undefined || namespaces.has(namespace) || namespace === 'default') continue;
    await base.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
  }
  // Namespaces first, whatever the order of the files.
  const order = (object: KubeObject): number => (object.kind === 'Namespace' ? 0 : object.kind === 'CustomResourceDefinition' ? 1 : 2);
  await base.apply([...options.manifests].sort((a, b) => order(a) - order(b)));
  await base.runUntil(() => isWhole(base), { timeout: settleMsMax, every: '5s' }).catch(() => undefined);
  const results: Rehearsal[] = [];
  for (const seed of options.seeds) {
    await using cluster = base.fork({ seed });
    const result = await runSeed(cluster, options, seed);
    results.push(result);
    onSeed?.(result);
  }
  return results;
}

async function isWhole(cluster: Cluster): Promise<boolean> {
  for (const [kind] of workloadKinds) {
    for (const object of (await cluster.client.list(kind)).items) if (readyOf(object) < wantedOf(object) || object.status?.observedGeneration === undefined) return false;
  }
  return true;
}

function wantedOf(object: KubeObject): number {
  return object.kind === 'DaemonSet' ? object.status?.desiredNumberScheduled ?? 0 : object.spec.replicas ?? 1;
}

function readyOf(object: KubeObject): number {
  return (object.kind === 'DaemonSet' ? object.status?.numberReady : object.status?.readyReplicas) ?? 0;
}

function isReady(pod: KubeObject): boolean {
  return pod.metadata.deletionTimestamp === undefined && (pod.status?.conditions ?? []).some((condition: Json) => condition.type === 'Ready' && condition.status === 'True');
}

/** Time spent below a bound, counted from change to change. */
class Deficit {
  #since: number | undefined;
  #totalMs = 0;
  set(below: boolean, nowMs: number): void {
    if (below && this.#since === undefined) this.#since = nowMs;
    else if (!below && this.#since !== undefined) { this.#totalMs += nowMs - this.#since; this.#since = undefined; }
  }
  seconds(nowMs: number): number { return Math.ceil((this.#totalMs + (this.#since === undefined ? 0 : nowMs - this.#since)) / 1000); }
}

interface Tracked { lowest: number; below: Deficit; down: Deficit; wasWhole: boolean; last: number | undefined }

/** Looks at Pods and workloads as they change, and keeps the counts. */
class Observer {
  readonly timeline: TimelineEntry[] = [];
  readonly #cluster: Cluster;
  readonly #startMs: number;
  readonly #informers: InformerFactory;
  readonly #pods: Informer;
  readonly #sets: Informer;
  readonly #budgets: Informer;
  readonly #workloads: { kind: string; informer: Informer }[];
  readonly #tracked = new Map<string, Tracked>();
  readonly #brokenBudgets = new Map<string, Deficit>();
  readonly #restarts = new Map<string, Map<string, number>>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#startMs = cluster.now;
    this.#informers = new InformerFactory({ client: cluster.client, clock: cluster.clock, random: cluster.random, log: cluster.log });
    this.#pods = this.#informers.informer(kinds.Pod);
    this.#sets = this.#informers.informer(kinds.ReplicaSet);
    this.#budgets = this.#informers.informer(kinds.PodDisruptionBudget);
    this.#workloads = workloadKinds.map(([kind, name]) => ({ kind: name, informer: this.#informers.informer(kind) }));
  }

  async start(): Promise<void> {
    this.#informers.start();
    await this.#cluster.settle();
    await this.#informers.synced();
    const look = (pod: KubeObject): void => { this.#countRestarts(pod); this.#look(); };
    this.#pods.addHandler({ added: look, updated: look, deleted: () => this.#look() });
    for (const { informer } of this.#workloads) informer.addHandler({ updated: () => this.#look(), deleted: () => this.#look() });
  }

  note(what: string): void {
    this.timeline.push({ atSeconds: Math.round((this.#cluster.now - this.#startMs) / 1000), what });
  }

  /** `Deployment default/web`, through the ReplicaSet that stands between. */
  #workloadOf(pod: KubeObject): string | undefined {
    const owner = pod.metadata.ownerReferences?.find((reference) => reference.controller === true);
    if (owner === undefined) return undefined;
    if (owner.kind !== 'ReplicaSet') return `${owner.kind} ${pod.metadata.namespace}/${owner.name}`;
    const above = this.#sets.get(`${pod.metadata.namespace}/${owner.name}`)?.metadata.ownerReferences?.find((reference) => reference.controller === true);
    return above === undefined ? `ReplicaSet ${pod.metadata.namespace}/${owner.name}` : `${above.kind} ${pod.metadata.namespace}/${above.name}`;
  }

  #countRestarts(pod: KubeObject): void {
    const name = this.#workloadOf(pod);
    if (name === undefined) return;
    const counts = this.#restarts.get(name) ?? new Map<string, number>();
    this.#restarts.set(name, counts);
    counts.set(pod.metadata.uid!, (pod.status?.containerStatuses ?? []).reduce((sum: number, status: Json) => sum + (status.restartCount ?? 0), 0));
  }

  #look(): void {
    const now = this.#cluster.now;
    const ready = new Map<string, number>();
    for (const pod of this.#pods.values()) if (isReady(pod)) { const name = this.#workloadOf(pod); if (name !== undefined) ready.set(name, (ready.get(name) ?? 0) + 1); }
    for (const { kind, informer } of this.#workloads) for (const object of informer.values()) this.#lookAt(`${kind} ${keyOf(object)}`, wantedOf(object), ready, now);
    for (const budget of this.#budgets.values()) this.#lookAtBudget(budget, now);
  }

  #lookAt(name: string, wanted: number, readyByName: Map<string, number>, now: number): void {
    const ready = readyByName.get(name) ?? 0;
    let tracked = this.#tracked.get(name);
    if (tracked === undefined) { tracked = { lowest: Infinity, below: new Deficit(), down: new Deficit(), wasWhole: false, last: undefined }; this.#tracked.set(name, tracked); }
    if (ready >= wanted) tracked.wasWhole = true;
    if (!tracked.wasWhole) return;
    tracked.lowest = Math.min(tracked.lowest, ready);
    tracked.below.set(ready < wanted, now);
    tracked.down.set(ready === 0 && wanted > 0, now);
    if (tracked.last !== ready && (ready < wanted || (tracked.last ?? wanted) < wanted)) this.note(`${name}: ${ready} of ${wanted} ready`);
    tracked.last = ready;
  }

  #lookAtBudget(budget: KubeObject, now: number): void {
    const wanted: number | undefined = budget.status?.desiredHealthy;
    if (wanted === undefined) return;
    let healthy = 0;
    for (const pod of this.#pods.values()) if (pod.metadata.namespace === budget.metadata.namespace && isReady(pod) && matchesSelectorObject(budget.spec.selector, pod.metadata.labels)) healthy += 1;
    const name = keyOf(budget);
    let broken = this.#brokenBudgets.get(name);
    if (broken === undefined) { broken = new Deficit(); this.#brokenBudgets.set(name, broken); }
    broken.set(healthy < wanted, now);
  }

  pods(): KubeObject[] { return this.#pods.list(); }

  report(seed: number): Rehearsal {
    const now = this.#cluster.now;
    this.#look();
    const workloads = this.#workloads.flatMap(({ kind, informer }) => informer.list().map((object) => this.#report(`${kind} ${keyOf(object)}`, object, now)));
    const budgets = this.#budgets.list().map((budget) => ({ name: keyOf(budget), brokenSeconds: this.#brokenBudgets.get(keyOf(budget))?.seconds(now) ?? 0 }));
    return { seed, workloads, budgets, timeline: this.timeline, virtualSeconds: Math.round((now - this.#startMs) / 1000) };
  }

  #report(name: string, object: KubeObject, now: number): WorkloadReport {
    const tracked = this.#tracked.get(name);
    const wanted = wantedOf(object);
    const stuck = this.#pods.list().filter((pod) => this.#workloadOf(pod) === name && !isReady(pod) && pod.metadata.deletionTimestamp === undefined).map((pod) => ({ pod: keyOf(pod), why: whyNotReady(pod) }));
    const belowSeconds = tracked?.below.seconds(now) ?? 0;
    const downSeconds = tracked?.down.seconds(now) ?? 0;
    const isWholeNow = tracked?.wasWhole === true && (tracked.last ?? wanted) >= wanted;
    const verdict: Verdict = tracked?.wasWhole !== true ? 'never ran' : !isWholeNow ? 'not whole at the end' : downSeconds > 0 ? 'unavailable' : belowSeconds > 0 ? 'degraded' : 'ok';
    return { name, wanted, lowestReady: Math.min(tracked?.lowest ?? 0, wanted), belowSeconds, downSeconds, restarts: [...(this.#restarts.get(name)?.values() ?? [])].reduce((sum, count) => sum + count, 0), stuck, verdict };
  }

  async stop(): Promise<void> { await this.#informers[Symbol.asyncDispose](); }
}

function whyNotReady(pod: KubeObject): string {
  const unscheduled = (pod.status?.conditions ?? []).find((condition: Json) => condition.type === 'PodScheduled' && condition.status === 'False');
  if (unscheduled !== undefined) return unscheduled.message ?? 'not scheduled';
  const waiting = (pod.status?.containerStatuses ?? []).map((status: Json) => status.state?.waiting).find((state: Json) => state !== undefined);
  if (waiting !== undefined) return `${waiting.reason}${waiting.message === undefined ? '' : `: ${waiting.message}`}`;
  return `${pod.status?.phase ?? 'Pending'} on ${pod.spec.nodeName ?? 'no node'}, not ready`;
}

async function runSeed(cluster: Cluster, options: RehearseOptions, seed: number): Promise<Rehearsal> {
  await cluster.ready();
  const observer = new Observer(cluster);
  await observer.start();
  const startMs = cluster.now;
  const endMs = startMs + options.forMs;
  for (const fault of [...options.faults].sort((a, b) => a.atMs - b.atMs)) {
    if (startMs + fault.atMs > endMs) break;
    await cluster.advance(Math.max(0, startMs + fault.atMs - cluster.now));
    if (options.slowPullMs !== undefined) cluster.scripts.add({ script: { startAfter: options.slowPullMs } });
    await strike(cluster, fault, observer, endMs);
  }
  await cluster.advance(Math.max(0, endMs - cluster.now));
  const result = observer.report(seed);
  await observer.stop();
  return result;
}

/** A node in use, by chance; those already down are left out. */
async function pickNode(cluster: Cluster, observer: Observer): Promise<string | undefined> {
  const nodes = (await cluster.client.list(kinds.Node)).items.map((node) => node.metadata.name!).filter((name) => cluster.nodes.get(name)?.isUp === true).sort();
  const used = nodes.filter((name) => observer.pods().some((pod) => pod.spec.nodeName === name));
  const from = used.length > 0 ? used : nodes;
  return from[Math.floor(cluster.random.float() * from.length)];
}

async function strike(cluster: Cluster, fault: Fault, observer: Observer, endMs: number): Promise<void> {
  const node = await pickNode(cluster, observer);
  if (node === undefined) { observer.note(`${fault.kind}: no node is left`); return; }
  if (fault.kind === 'kill-node') { observer.note(`node ${node} dies`); cluster.nodes.kill(node); return; }
  observer.note(`node ${node} is drained`);
  await cluster.client.patch(kinds.Node, node, undefined, 'merge', { spec: { unschedulable: true } });
  await drain(cluster, node, observer, Math.min(endMs, cluster.now + drainMsMax));
  await cluster.client.patch(kinds.Node, node, undefined, 'merge', { spec: { unschedulable: null } });
}

/** As `kubectl drain` does: evictions, again while a budget refuses them; Pods of DaemonSets stay. */
async function drain(cluster: Cluster, node: string, observer: Observer, deadlineMs: number): Promise<void> {
  for (;;) {
    const left = (await cluster.client.list(kinds.Pod, { fieldSelector: `spec.nodeName=${node}` })).items.filter((pod) => pod.metadata.ownerReferences?.some((owner) => owner.kind === 'DaemonSet') !== true);
    if (left.length === 0) { observer.note(`node ${node} is empty`); return; }
    for (const pod of left) {
      if (pod.metadata.deletionTimestamp !== undefined) continue;
      const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name: pod.metadata.name, namespace: pod.metadata.namespace } };
      await cluster.client.raw('POST', `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}/eviction`, eviction).catch((error: unknown) => { if (!isReason(error, 'TooManyRequests', 'NotFound')) throw error; });
    }
    if (cluster.now >= deadlineMs) { observer.note(`node ${node} could not be emptied: ${left.map(keyOf).join(', ')}`); return; }
    await cluster.advance(drainRetryMs);
  }
}
