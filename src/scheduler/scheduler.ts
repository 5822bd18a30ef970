/**
 * The scheduler: takes Pods without a node from the queue one at a time, decides on the spot (`chooseNode` is
 * synchronous, so the cache cannot change under it), assumes the decision, and writes the binding in the background. It
 * may die at any point: a Pod that is not bound is simply seen again. Events and the PodScheduled condition say why a
 * Pod waits.
 */
import type { Node, PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import { isReason } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { pause } from '#os/clock.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder, type EventRecorder } from '#client/events.ts';
import { type Informer, InformerFactory, keyOf, readYourWrites } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { SchedulerCache } from './cache.ts';
import { bindingCheckMs, bindingCheckMsMax, bindingsInFlightMax, sliceMsMax } from './limits.ts';
import { type Placement, chooseNode } from './choose-node.ts';
import { noteAttempt, type SchedulerMetrics } from './metrics.ts';
import { type PodInfo, podInfoOf } from './pod-info.ts';
import { planPreemption } from './preemption.ts';
import { type QueuedPod, SchedulingQueue } from './queue.ts';
import { Explanations } from './explanations.ts';
import { VolumeBinding } from './volume-binding.ts';

export interface SchedulerInput {
  client: Client;
  clock: Clock;
  random: Random;
  log: Logger;
  informers?: InformerFactory;
  /** `spec.schedulerName` served; `default-scheduler` when absent. */ name?: string;
  metrics?: SchedulerMetrics;
}

export interface SchedulerStats {
  scheduled: number;
  failed: number;
  bindErrors: number;
  active: number;
  backoff: number;
  unschedulable: number;
  binding: number;
}

export interface RunningScheduler extends AsyncDisposable {
  stats(): SchedulerStats;
  isIdle(): boolean;
}

function isFinished(pod: Pod): boolean {
  const phase = pod.status?.phase;
  return phase === 'Succeeded' || phase === 'Failed';
}

/** What of a node decides whether Pods fit; heartbeats change none of it. */
function mayHelp(node: Node, previous: Node): boolean {
  const same = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b);
  return (
    !same(node.spec, previous.spec) ||
    !same(node.status?.allocatable, previous.status?.allocatable) ||
    !same(node.metadata.labels, previous.metadata.labels)
  );
}

/** Whether two versions of a placed Pod count the same; status changes, the most frequent, do. */
function takesTheSame(pod: Pod, previous: Pod): boolean {
  const { generation, labels = {}, deletionTimestamp } = pod.metadata;
  if (
    generation === undefined ||
    generation !== previous.metadata.generation ||
    deletionTimestamp !== previous.metadata.deletionTimestamp
  )
    return false;
  const before = previous.metadata.labels ?? {};
  for (const key in labels) if (labels[key] !== before[key]) return false;
  for (const key in before) if (!(key in labels)) return false;
  return true;
}

/** Of two versions that do not count the same: only the specification of a Pod that stays is another. */
function isResized({ metadata }: Pod, previous: Pod): boolean {
  return (
    metadata.generation !== previous.metadata.generation &&
    metadata.deletionTimestamp === previous.metadata.deletionTimestamp
  );
}

/** Answers that say a binding was not made. */
const refusals = [
  'NotFound',
  'Conflict',
  'Invalid',
  'BadRequest',
  'Forbidden',
  'Unauthorized',
  'TooManyRequests',
  'MethodNotAllowed',
  'RequestEntityTooLarge',
] as const;

class Scheduler {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Logger;
  readonly #name: string;
  readonly #metrics: SchedulerMetrics | undefined;
  readonly #cache: SchedulerCache;
  readonly #queue: SchedulingQueue;
  readonly recorder: EventRecorder;
  readonly #claims: Informer<PersistentVolumeClaim>;
  readonly #budgets: Informer<PodDisruptionBudget>;
  readonly #pods: Informer<Pod>;
  readonly #volumes: VolumeBinding;
  readonly #explanations: Explanations;
  readonly stopped = new AbortController();
  #start = 0;
  #binding = 0;
  #bindingDone: PromiseWithResolvers<void> | undefined;
  #running = false;
  #started = false;
  #scheduled = 0;
  #failed = 0;
  #bindErrors = 0;
  /** Pods taken from the queue whose outcome is not written yet. */
  readonly #inHand = new Set<string>();

  constructor(input: SchedulerInput, informers: InformerFactory) {
    const { client, clock, random, log, name = 'default-scheduler' } = input;
    this.#metrics = input.metrics;
    if (this.#metrics !== undefined) this.#metrics.lengths = () => this.#queue.lengths;
    this.#client = readYourWrites(client, informers);
    this.#clock = clock;
    this.#random = random;
    this.#log = log.child('scheduler');
    this.#name = name;
    this.recorder = createEventRecorder({ client, clock, log, component: name });
    this.#claims = informers.informer(kinds.PersistentVolumeClaim);
    this.#budgets = informers.informer(kinds.PodDisruptionBudget);
    this.#pods = informers.informer(kinds.Pod);
    const shared = { client: this.#client, clock, pods: this.#pods };
    this.#volumes = new VolumeBinding({ ...shared, claims: this.#claims });
    this.#explanations = new Explanations({ ...shared, log: this.#log, name, recorder: this.recorder });
    const [volumes, classes, namespaces] = [
      informers.informer(kinds.PersistentVolume),
      informers.informer(kinds.StorageClass),
      informers.informer(kinds.Namespace),
    ];
    this.#cache = new SchedulerCache({ claims: this.#claims, volumes, classes, namespaces });
    this.#queue = new SchedulingQueue(clock, () => this.#wake());
    this.#watchNodes(informers.informer(kinds.Node));
    this.#watchPods();
    const onVolume = {
      added: () => this.#queue.onEvent('VolumeChanged'),
      updated: () => this.#queue.onEvent('VolumeChanged'),
    };
    volumes.addHandler({
      ...onVolume,
      updated: (volume) => {
        if (volume.spec.claimRef !== undefined) this.#cache.assumedVolumes.delete(volume.metadata.name);
        onVolume.updated();
      },
    });
    classes.addHandler(onVolume);
    this.#claims.addHandler({
      added: onVolume.added,
      updated: (claim) => {
        onVolume.updated();
        this.#volumes.tell(keyOf(claim));
      },
      deleted: (claim) => this.#volumes.tell(keyOf(claim)),
    });
    namespaces.addHandler({ updated: () => this.#queue.onEvent('NamespaceChanged') });
  }

  stats(): SchedulerStats {
    return {
      scheduled: this.#scheduled,
      failed: this.#failed,
      bindErrors: this.#bindErrors,
      ...this.#queue.lengths,
      binding: this.#binding,
    };
  }

  isIdle(): boolean {
    return this.#queue.lengths.active === 0 && this.#inHand.size === 0 && this.#binding === 0;
  }

  start(): void {
    this.#started = true;
    this.#wake();
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    if (this.#metrics !== undefined) this.#metrics.lengths = undefined;
    this.#queue.stop();
    await this.recorder.flush();
  }

  #watchNodes(nodes: Informer<Node>): void {
    nodes.addHandler({
      added: (node) => {
        this.#cache.putNode(node);
        this.#queue.onEvent('NodeChanged');
      },
      updated: (node, previous) => {
        this.#cache.putNode(node);
        if (mayHelp(node, previous)) this.#queue.onEvent('NodeChanged');
      },
      deleted: (node) => {
        this.#cache.removeNode(node.metadata.name);
        this.#queue.onEvent('NodeRemoved');
      },
    });
  }

  #watchPods(): void {
    const put = (pod: Pod, previous: Pod | undefined): void => this.#putPod(pod, previous);
    this.#pods.addHandler({
      added: (pod) => put(pod, undefined),
      updated: put,
      deleted: (pod) => this.#gone(keyOf(pod), true),
    });
  }

  #putPod(pod: Pod, previous: Pod | undefined): void {
    const key = keyOf(pod);
    const node: string | undefined = pod.spec.nodeName;
    if (isFinished(pod)) {
      this.#gone(key, node !== undefined);
      return;
    }
    if (node !== undefined && node !== '') {
      const isNew = this.#cache.placedOn(key) === undefined;
      this.#queue.remove(key);
      this.#cache.dropNomination(key);
      // Status changes of a running Pod do not move what it takes.
      const isChanged = previous === undefined || !takesTheSame(pod, previous);
      if (isChanged || isNew || this.#cache.isAssumed(key)) this.#cache.putPod(pod);
      if (isNew) this.#queue.onEvent('PodAdded');
      else if (isChanged)
        this.#queue.onEvent(previous !== undefined && isResized(pod, previous) ? 'PodResized' : 'PodChanged');
      return;
    }
    if ((pod.spec.schedulerName ?? 'default-scheduler') !== this.#name) return;
    if (pod.metadata.deletionTimestamp !== undefined || (pod.spec.schedulingGates?.length ?? 0) > 0) {
      this.#queue.remove(key);
      return;
    }
    if (this.#cache.isAssumed(key) || this.#inHand.has(key)) return;
    const changed =
      previous !== undefined &&
      !takesTheSame(pod, previous) &&
      JSON.stringify([previous.spec, previous.metadata.labels]) !== JSON.stringify([pod.spec, pod.metadata.labels]);
    this.#queue.put(podInfoOf(pod), changed);
  }

  /**
   * The outcome of this Pod is known. What came under its name meanwhile was passed over: a change, or the next Pod of
   * that name.
   */
  #letGo({ key, pod }: PodInfo): void {
    this.#inHand.delete(key);
    const current = this.#pods.get(key);
    if (current === undefined || current === pod || (current.spec.nodeName ?? '') !== '') return;
    this.#putPod(current, current.metadata.uid === pod.metadata.uid ? pod : undefined);
  }

  #gone(key: string, freed: boolean): void {
    this.#queue.remove(key);
    this.#cache.dropNomination(key);
    this.#cache.removePod(key);
    if (freed) this.#queue.onEvent('PodRemoved');
  }

  #wake(): void {
    if (this.#running || !this.#started || this.stopped.signal.aborted) return;
    this.#running = true;
    void this.#run().catch((error: unknown) => this.#log.error('scheduling loop failed', { error }));
  }

  async #run(): Promise<void> {
    // Off the turn of the event that woke us, so that a burst is one run.
    await Promise.resolve();
    try {
      let sliceStart = this.#clock.monotonic();
      for (
        let entry = this.#queue.pop();
        entry !== undefined && !this.stopped.signal.aborted;
        entry = this.#queue.pop()
      ) {
        this.#tryOne(entry);
        while (this.#binding >= bindingsInFlightMax) await (this.#bindingDone ??= Promise.withResolvers()).promise;
        if (this.#clock.monotonic() - sliceStart > sliceMsMax) {
          await this.#clock.sleep(0);
          sliceStart = this.#clock.monotonic();
        }
      }
    } finally {
      // On the turn that saw the queue empty: a Pod that comes on the next one must find nobody running.
      this.#running = false;
    }
  }

  /** A fault of ours at one Pod must not lose it, nor hold up the others. */
  #tryOne(entry: QueuedPod): void {
    try {
      this.#scheduleOne(entry);
    } catch (error) {
      this.#log.error('scheduling failed', { pod: entry.info.key, error });
      this.#inHand.delete(entry.info.key);
      this.#queue.putBackoff(entry);
    }
  }

  #scheduleOne(entry: QueuedPod): void {
    const { info } = entry;
    const begunMs = this.#clock.monotonic();
    const decision = chooseNode(info, this.#cache, this.#start, this.#random);
    this.#metrics?.algorithmSeconds.of().observe((this.#clock.monotonic() - begunMs) / 1000);
    this.#inHand.add(info.key);
    if (decision.type === 'placed') {
      this.#start = decision.nextStart;
      this.#cache.assume(info, decision.node.name);
      for (const { volume } of decision.volumes?.bind ?? []) this.#cache.assumedVolumes.add(volume.metadata.name);
      this.#binding++;
      void this.#bind(entry, decision, begunMs).finally(() => {
        this.#binding--;
        this.#bindingDone?.resolve();
        this.#bindingDone = undefined;
      });
      return;
    }
    this.#failed++;
    this.#note('unschedulable', begunMs);
    const preemption = planPreemption(info, decision, this.#cache, this.#budgets.list());
    this.#queue.putUnschedulable(entry, decision.plugins);
    if (preemption.type === 'preempt') this.#cache.nominate(info, preemption.victims.node);
    const outcome = preemption.type === 'preempt' ? preemption.victims : preemption.message;
    void this.#explanations.explain(info, decision, outcome).finally(() => this.#letGo(info));
  }

  /** An attempt that began then has ended; with the entry where it was the last one. */
  #note(result: 'scheduled' | 'unschedulable' | 'error', begunMs: number, entry?: QueuedPod): void {
    if (this.#metrics === undefined) return;
    const now = this.#clock.monotonic();
    noteAttempt(
      this.#metrics,
      { profile: this.#name, result, seconds: (now - begunMs) / 1000 },
      entry === undefined ? undefined : { attempts: entry.attempts, waitedSeconds: (now - entry.addedMs) / 1000 },
    );
  }

  async #bind(entry: QueuedPod, { node, volumes }: Placement, begunMs: number): Promise<void> {
    const { info } = entry;
    const { name, namespace, uid } = info.pod.metadata;
    let isAsked = false;
    try {
      if (volumes !== undefined) await this.#volumes.bind(info.key, node.name, volumes);
      isAsked = true;
      await this.#client.createSubresource(kinds.Pod, 'binding', {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name: name, namespace: namespace, uid: uid },
        target: { apiVersion: 'v1', kind: 'Node', name: node.name },
      });
      this.#scheduled++;
      this.#note('scheduled', begunMs, entry);
      this.#letGo(info);
      this.recorder.event(info.pod, 'Normal', 'Scheduled', `Successfully assigned ${info.key} to ${node.name}`);
    } catch (error) {
      this.#bindErrors++;
      this.#note('error', begunMs);
      if (isAsked && !isReason(error, ...refusals) && (await this.#isBoundAfterAll(info))) return;
      this.#inHand.delete(info.key);
      if (this.#cache.isAssumed(info.key)) {
        this.#cache.removePod(info.key);
        this.#queue.onEvent('PodRemoved');
      }
      for (const { volume } of volumes?.bind ?? []) this.#cache.assumedVolumes.delete(volume.metadata.name);
      const current = this.#pods.get(info.key);
      if (
        current === undefined ||
        current.spec.nodeName !== undefined ||
        current.metadata.deletionTimestamp !== undefined
      )
        return;
      if (!isReason(error, 'NotFound', 'Conflict')) {
        this.#log.warn('binding failed', { pod: info.key, node: node.name, error });
        this.recorder.event(info.pod, 'Warning', 'FailedScheduling', messageOf(error));
      }
      if (current.metadata.uid === uid) this.#queue.putBackoff({ ...entry, info: podInfoOf(current) });
      else this.#putPod(current, undefined);
    }
  }

  /**
   * Nobody answered: the Pod may be bound, so its place stays taken until one knows. The copy of the Pods may lag; the
   * server is asked.
   */
  async #isBoundAfterAll(info: PodInfo): Promise<boolean> {
    const {
      key,
      pod: {
        metadata: { name, namespace, uid },
      },
    } = info;
    for (
      let delayMs = bindingCheckMs;
      !this.stopped.signal.aborted;
      delayMs = Math.min(delayMs * 2, bindingCheckMsMax)
    ) {
      // The watch has told meanwhile.
      if (!this.#cache.isAssumed(key)) break;
      try {
        const pod = await this.#client.get(kinds.Pod, name, namespace);
        if (pod.metadata.uid !== uid || (pod.spec.nodeName ?? '') === '') return false;
        if (this.#cache.isAssumed(key) && !isFinished(pod)) this.#cache.putPod(pod);
        break;
      } catch (error) {
        if (isReason(error, 'NotFound')) return false;
        await pause(this.#clock, delayMs, this.stopped.signal);
      }
    }
    this.#letGo(info);
    return true;
  }
}

// walk kubectl-apply 7/8: each Pod is bound to a node.
/** Resolves when the scheduler has its picture and starts to place Pods. */
export async function runScheduler(input: SchedulerInput): Promise<RunningScheduler> {
  const informers = input.informers ?? new InformerFactory(input);
  const scheduler = new Scheduler(input, informers);
  informers.start();
  await informers.synced();
  scheduler.start();
  return {
    stats: () => scheduler.stats(),
    isIdle: () => scheduler.isIdle(),
    async [Symbol.asyncDispose]() {
      await scheduler.stop();
      if (input.informers === undefined) await informers[Symbol.asyncDispose]();
    },
  };
}
