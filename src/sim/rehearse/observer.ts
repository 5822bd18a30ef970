/**
 * Looks on while a cluster is rehearsed: informers on a connection of their own (no fault touches it), whose events go
 * to those who judge. It changes nothing that controllers do.
 */
import type { ReplicaSet } from '#api/apps.v1.ts';
import type { ConfigMap, Event, Pod, Secret } from '#api/core.v1.ts';
import type { OwnerReference } from '#api/meta.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { indexes, InformerFactory, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Cluster } from '../cluster.ts';
import { watchSecondsMax } from '../limits.ts';
import { Budgets } from './budgets.ts';
import { missingConfig } from './config-refs.ts';
import { Jobs } from './jobs.ts';
import { isServing, nameOf, serverKinds, Servers } from './servers.ts';
import type { Rehearsal, TimelineEntry } from './types.ts';
import { whyNotReady, whyNotScheduled } from './why.ts';

function ownerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find(({ controller }) => controller === true);
}

export class Observer {
  readonly timeline: TimelineEntry[] = [];
  readonly servers: Servers;
  readonly jobs: Jobs;
  readonly budgets: Budgets;
  readonly startMs: number;
  readonly pods: Informer<Pod>;
  readonly #cluster: Cluster;
  readonly #informers: InformerFactory;
  readonly #sets: Informer<ReplicaSet>;
  readonly #configMaps: Informer<ConfigMap>;
  readonly #secrets: Informer<Secret>;
  /** Pods of which the scheduler has said that they find no node: its later words differ in numbers only. */
  readonly #unscheduled = new Set<string>();
  /** The last failure to make a Pod, by workload. */
  readonly #failures = new Map<string, string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.startMs = cluster.now;
    const { client } = cluster.connect('rehearsal');
    this.#informers = new InformerFactory({
      client,
      clock: cluster.clock,
      random: cluster.random.split(),
      log: cluster.log,
      bookmarks: false,
      watchSeconds: watchSecondsMax,
    });
    this.pods = this.#informers.informer(kinds.Pod).addIndex('node', indexes.node);
    this.#sets = this.#informers.informer(kinds.ReplicaSet);
    this.#configMaps = this.#informers.informer(kinds.ConfigMap);
    this.#secrets = this.#informers.informer(kinds.Secret);
    const now = (): number => cluster.now;
    const note = (what: string): void => this.note(what);
    this.servers = new Servers(now, note, this.isUp);
    this.jobs = new Jobs(now, note);
    this.budgets = new Budgets(now, note, this.isUp);
  }

  readonly isUp = (node: string): boolean => this.#cluster.nodes.get(node)?.isUp === true;

  async start(): Promise<void> {
    const informers = this.#informers;
    const servers = serverKinds.map((kind) => informers.informer(kind));
    const jobs = informers.informer(kinds.Job);
    const cronJobs = informers.informer(kinds.CronJob);
    const budgets = informers.informer(kinds.PodDisruptionBudget);
    const events = informers.informer(kinds.Event);
    informers.start();
    await this.#cluster.settle();
    await informers.synced();
    for (const one of servers)
      this.#follow(
        one,
        (object) => {
          if (ownerOf(object) === undefined) this.servers.see(object);
        },
        (object) => this.servers.unsee(object),
      );
    this.#follow(
      jobs,
      (job) => this.jobs.see(job),
      (job) => this.jobs.unsee(job),
    );
    this.#follow(
      cronJobs,
      (cronJob) => this.jobs.seeCronJob(cronJob),
      (cronJob) => this.jobs.unseeCronJob(cronJob),
    );
    this.#follow(
      this.pods,
      (pod) => this.#seePod(pod),
      (pod) => this.#unseePod(pod),
    );
    this.#follow(
      budgets,
      (budget) => this.budgets.see(budget, this.pods.values()),
      (budget) => this.budgets.unsee(budget),
    );
    this.#follow(
      events,
      (event) => this.#seeEvent(event),
      () => undefined,
    );
  }

  #follow<T extends KubeObject>(informer: Informer<T>, see: (object: T) => void, unsee: (object: T) => void): void {
    informer.addHandler({ added: see, updated: see, deleted: unsee });
  }

  note(what: string): void {
    this.timeline.push({ atSeconds: Math.round((this.#cluster.now - this.startMs) / 1000), what });
  }

  /** A node went down or came back: what runs there counts anew. */
  nodeChanged(node: string): void {
    for (const pod of [...this.pods.by('node', node)]) this.#seePod(pod);
  }

  /** `Deployment default/web`, through the ReplicaSet that stands between. */
  #workloadOf(pod: Pod): string {
    const owner = ownerOf(pod);
    if (owner === undefined) return nameOf(pod);
    const key = `${pod.metadata.namespace}/${owner.name}`;
    const above = owner.kind === 'ReplicaSet' ? ownerOf(this.#sets.get(key) ?? pod) : owner;
    return above === undefined ? `${owner.kind} ${key}` : `${above.kind} ${pod.metadata.namespace}/${above.name}`;
  }

  #seePod(pod: Pod): void {
    const owner = ownerOf(pod);
    if (owner?.kind === 'Job') this.jobs.seePod(owner.uid, pod);
    else if (owner === undefined && (pod.spec.restartPolicy ?? 'Always') !== 'Always') this.jobs.see(pod);
    else {
      if (owner === undefined) this.servers.see(pod);
      this.servers.seePod(this.#workloadOf(pod), pod);
    }
    this.budgets.seePod(pod);
    const why = pod.metadata.deletionTimestamp === undefined ? whyNotScheduled(pod) : undefined;
    if (why === undefined || this.#unscheduled.has(pod.metadata.uid)) return;
    this.#unscheduled.add(pod.metadata.uid);
    this.note(`Pod ${keyOf(pod)} finds no node: ${why}`);
  }

  #unseePod(pod: Pod): void {
    const owner = ownerOf(pod);
    this.#unscheduled.delete(pod.metadata.uid);
    this.budgets.unseePod(pod);
    if (owner?.kind === 'Job') this.jobs.unseePod(owner.uid, pod);
    else if (owner !== undefined) this.servers.unseePod(this.#workloadOf(pod), pod);
    else if ((pod.spec.restartPolicy ?? 'Always') === 'Always') this.servers.unsee(pod);
    else this.jobs.unsee(pod);
  }

  #seeEvent(event: Event): void {
    if (event.reason !== 'FailedCreate') return;
    const { message = '' } = event;
    const { kind, namespace, name } = event.involvedObject;
    const above = kind === 'ReplicaSet' ? ownerOf(this.#sets.get(`${namespace}/${name}`) ?? event) : undefined;
    const workload = above === undefined ? `${kind} ${namespace}/${name}` : `${above.kind} ${namespace}/${above.name}`;
    if (!this.#failures.has(workload)) this.note(`${workload}: a Pod cannot be made: ${message}`);
    this.#failures.set(workload, message);
  }

  report(): Pick<
    Rehearsal,
    'virtualSeconds' | 'workloads' | 'jobs' | 'cronJobs' | 'budgets' | 'rollouts' | 'timeline'
  > {
    const source = {
      configMap: (key: string) => this.#configMaps.get(key),
      secret: (key: string) => this.#secrets.get(key),
    };
    const why = (pod: Pod): string => whyNotReady(pod, this.isUp, () => missingConfig(pod, source));
    const whyPod = (key: string): string | undefined => {
      const pod = this.pods.get(key);
      return pod === undefined || isServing(pod, this.isUp) ? undefined : why(pod);
    };
    const { workloads, rollouts } = this.servers.report(this.startMs, {
      pod: whyPod,
      workload: (name) => this.#failures.get(name),
    });
    return {
      virtualSeconds: Math.round((this.#cluster.now - this.startMs) / 1000),
      workloads,
      rollouts,
      jobs: this.jobs.reportJobs(why),
      cronJobs: this.jobs.reportCronJobs(this.startMs),
      budgets: this.budgets.report(),
      timeline: this.timeline,
    };
  }

  async stop(): Promise<void> {
    await this.#informers[Symbol.asyncDispose]();
  }
}
