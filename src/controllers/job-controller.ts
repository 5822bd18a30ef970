/**
 * Carries `planJob` out: status first, then finalizers, then Pods; and deletes finished Jobs whose time to live is
 * over.
 */
import type { Job } from '#api/batch.v1.ts';
import type { Container, Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import { matchesLabels, selectorOf } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { isEqualStatus } from './equality.ts';
import { indexAnnotation, indexOf, jobFinalizer } from './job-count.ts';
import { isJobFinished, type JobPlan, planJob } from './job.ts';
import { podFromTemplate } from './pods.ts';
import {
  adopt,
  type Controller,
  type ControllerContext,
  controllerOf,
  createQueue,
  deleteIfPresent,
  enqueueController,
  enqueueEach,
  forEachBounded,
  ownedBy,
  recorderOf,
  removeFinalizer,
  slowStart,
  release,
} from './runtime.ts';

function jobPod(job: Job, index: number | undefined, failures: number | undefined): Manifest<Pod> {
  const { name, namespace } = job.metadata;
  const pod = podFromTemplate(job.spec.template, namespace, ownedBy(job), {
    generateName: index === undefined ? `${name}-` : `${name}-${index}-`,
  });
  const labels: Record<string, string> = { ...pod.metadata.labels };
  // The server puts these on the template; a Job that came without them must still find its Pods.
  for (const key of ['controller-uid', 'batch.kubernetes.io/controller-uid']) labels[key] ??= job.metadata.uid;
  for (const key of ['job-name', 'batch.kubernetes.io/job-name']) labels[key] ??= name;
  pod.metadata.finalizers = [...(pod.metadata.finalizers ?? []), jobFinalizer];
  if (index !== undefined) {
    labels[indexAnnotation] = String(index);
    pod.metadata.annotations = {
      ...pod.metadata.annotations,
      [indexAnnotation]: String(index),
      ...(failures === undefined ? {} : { 'batch.kubernetes.io/job-index-failure-count': String(failures) }),
    };
    const variable = {
      name: 'JOB_COMPLETION_INDEX',
      valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: `metadata.labels['${indexAnnotation}']` } },
    };
    const withIndex = (list: readonly Container[]): Container[] =>
      list.map((container) =>
        (container.env ?? []).some((entry) => entry.name === variable.name)
          ? container
          : { ...container, env: [...(container.env ?? []), variable] },
      );
    pod.spec = {
      ...pod.spec,
      hostname: `${name}-${index}`,
      containers: withIndex(pod.spec.containers),
      ...(pod.spec.initContainers === undefined ? {} : { initContainers: withIndex(pod.spec.initContainers) }),
    };
  }
  pod.metadata.labels = labels;
  return pod;
}

function isSelected(job: Job, pod: Pod): boolean {
  const selector = selectorOf(job.spec.selector);
  return selector !== undefined && matchesLabels(selector, pod.metadata.labels);
}

class JobController {
  readonly #context: ControllerContext;
  readonly #jobs: Informer<Job>;
  readonly #pods: Informer<Pod>;
  readonly #recorder: EventRecorder;
  /** Pods that were taken away uncounted and are not gone yet. */
  readonly #takenAway = new Set<string>();
  readonly queue: WorkQueue;
  readonly ttlQueue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#recorder = recorderOf(context, 'job-controller');
    this.#jobs = context.informers
      .informer(kinds.Job)
      .addIndex('controller', indexes.controller)
      .addIndex('namespace', indexes.namespace);
    this.#pods = context.informers
      .informer(kinds.Pod)
      .addIndex('controller', indexes.controller)
      .addIndex('orphans', indexes.orphans);
    this.queue = createQueue(context, 'job', (key) => this.#reconcile(key));
    this.ttlQueue = createQueue(context, 'ttl-after-finished', (key) => this.#expire(key));
    enqueueEach(this.#jobs, this.queue);
    enqueueController(this.#pods, 'Job', this.queue);
    this.#pods.addHandler({ added: (pod) => this.#enqueueMatching(pod), updated: (pod) => this.#enqueueMatching(pod) });
    const onFinished = (job: Job): void => {
      if (isJobFinished(job) && job.spec.ttlSecondsAfterFinished !== undefined) this.ttlQueue.add(keyOf(job));
    };
    this.#jobs.addHandler({ added: onFinished, updated: onFinished });
    this.#pods.addHandler({
      deleted: (pod) => {
        this.#takenAway.delete(pod.metadata.uid);
      },
    });
    // A Pod whose Job is gone must not be kept by the Job's finalizer.
    const freeOrphan = (pod: Pod): void => {
      const owner = controllerOf(pod);
      if (pod.metadata.finalizers?.includes(jobFinalizer) !== true) return;
      if (
        owner === undefined ||
        (owner.kind === 'Job' &&
          this.#jobs.hasSynced &&
          this.#jobs.get(`${pod.metadata.namespace}/${owner.name}`)?.metadata.uid !== owner.uid)
      )
        this.ttlQueue.add(`pod:${keyOf(pod)}`);
    };
    this.#pods.addHandler({ added: freeOrphan, updated: freeOrphan });
    this.#jobs.addHandler({
      deleted: (job) => {
        for (const pod of this.#pods.by('controller', job.metadata.uid)) freeOrphan(pod);
      },
    });
  }

  /** A Pod without a controller may be one to adopt. */
  #enqueueMatching(pod: Pod): void {
    if (indexes.controller(pod) !== undefined || pod.metadata.labels === undefined) return;
    for (const job of this.#jobs.by('namespace', pod.metadata.namespace))
      if (!isJobFinished(job) && isSelected(job, pod)) this.queue.add(keyOf(job));
  }

  async #expire(key: string): Promise<ReconcileResult | undefined> {
    if (key.startsWith('pod:')) {
      const pod = this.#pods.get(key.slice(4));
      const owner = pod === undefined ? undefined : controllerOf(pod);
      if (
        pod !== undefined &&
        (owner === undefined || this.#jobs.get(`${pod.metadata.namespace}/${owner.name}`)?.metadata.uid !== owner.uid)
      )
        await this.#dropFinalizer(pod);
      return undefined;
    }
    const job = this.#jobs.get(key);
    const ttlSeconds: number | undefined = job?.spec.ttlSecondsAfterFinished;
    if (
      job === undefined ||
      ttlSeconds === undefined ||
      job.metadata.deletionTimestamp !== undefined ||
      !isJobFinished(job)
    )
      return undefined;
    const finished = (job.status?.conditions ?? []).find(
      ({ type, status }) => (type === 'Complete' || type === 'Failed') && status === 'True',
    );
    const leftMs = Date.parse(finished?.lastTransitionTime ?? '') + ttlSeconds * 1000 - this.#context.clock.now();
    if (leftMs > 0) return { requeueAfterMs: leftMs };
    await deleteIfPresent(this.#context, kinds.Job, job, { propagationPolicy: 'Foreground' });
    return undefined;
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const job = this.#jobs.get(key);
    if (
      job === undefined ||
      (job.spec.managedBy !== undefined && job.spec.managedBy !== 'kubernetes.io/job-controller')
    )
      return undefined;
    const pods = await this.#claim(job);
    if (job.metadata.deletionTimestamp !== undefined) {
      await forEachBounded(pods, (pod) => this.#dropFinalizer(pod));
      return undefined;
    }
    const plan = planJob({ job, pods, takenAway: this.#takenAway }, this.#context.clock.now());
    if (isJobFinished({ ...job, status: plan.status }) && !isJobFinished(job) && (await this.#hasUnseenPods(job, pods)))
      return { requeueAfterMs: 10 };
    await this.#apply(key, job, plan);
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs };
  }

  /** The Job's Pods: those that match without a controller become its own, and its own that do not match are let go. */
  async #claim(job: Job): Promise<Pod[]> {
    const owned = [...this.#pods.by('controller', job.metadata.uid)];
    if (job.metadata.deletionTimestamp !== undefined) return owned;
    const orphans = [...this.#pods.by('orphans', job.metadata.namespace)].filter(
      (pod) => pod.metadata.deletionTimestamp === undefined && isSelected(job, pod),
    );
    await forEachBounded(orphans, (pod) => adopt(this.#context, kinds.Pod, job, pod));
    const others = owned.filter((pod) => !isSelected(job, pod));
    // Its finalizer goes by the way of all Pods that have no Job.
    await forEachBounded(others, (pod) => release(this.#context, kinds.Pod, job, pod));
    return [...this.#pods.by('controller', job.metadata.uid)].filter((pod) => isSelected(job, pod));
  }

  /**
   * Before the verdict: a Pod whose creation was answered by nobody may be known to the server only, and must be
   * counted too.
   */
  async #hasUnseenPods(job: Job, pods: readonly Pod[]): Promise<boolean> {
    const list = await this.#context.client.list(kinds.Pod, {
      namespace: job.metadata.namespace,
      labelSelector: `batch.kubernetes.io/controller-uid=${job.metadata.uid}`,
    });
    const known = new Map(pods.map((pod) => [pod.metadata.uid, pod.metadata.resourceVersion]));
    const unseen = list.items.filter(
      (pod) =>
        controllerOf(pod)?.uid === job.metadata.uid &&
        isSelected(job, pod) &&
        known.get(pod.metadata.uid) !== pod.metadata.resourceVersion,
    );
    for (const pod of unseen)
      this.#context.informers.absorb(
        kinds.Pod,
        pod.kind === undefined ? { ...pod, apiVersion: 'v1', kind: 'Pod' } : pod,
      );
    return unseen.length > 0;
  }

  async #apply(key: string, job: Job, plan: JobPlan): Promise<void> {
    const { client } = this.#context;
    if (!isEqualStatus(job.status, plan.status))
      await client.update(kinds.Job, { ...job, status: plan.status }, { subresource: 'status' });
    for (const { type, reason, message } of plan.events) this.#recorder.event(job, type, reason, message);
    const released = plan.releaseFinalizer.length > 0;
    await forEachBounded(plan.releaseFinalizer, (pod) => this.#dropFinalizer(pod));
    await forEachBounded(plan.delete, async (pod) => {
      if (plan.deleteUncounted) {
        // It holds for the version that was looked at: one that has ended meanwhile is counted.
        await this.#dropFinalizer(pod);
        if (this.#pods.get(keyOf(pod))?.metadata.uid === pod.metadata.uid) this.#takenAway.add(pod.metadata.uid);
      }
      await deleteIfPresent(this.#context, kinds.Pod, pod);
      this.#recorder.event(job, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
    });
    await slowStart(plan.create.length, async (at) => {
      const index = plan.create[at];
      try {
        const pod = await client.create(
          kinds.Pod,
          jobPod(
            job,
            index,
            index === undefined || job.spec.backoffLimitPerIndex === undefined
              ? undefined
              : this.#failuresOf(job, index),
          ),
        );
        this.#recorder.event(job, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
      } catch (error) {
        this.#recorder.event(job, 'Warning', 'FailedCreate', `Error creating: ${messageOf(error)}`);
        throw error;
      }
    });
    // Finalizers are off: the UIDs can be counted. The watch would bring us back too; this does not wait for it.
    if (released) this.queue.add(key);
  }

  #failuresOf(job: Job, index: number): number {
    let most = -1;
    for (const pod of this.#pods.by('controller', job.metadata.uid)) {
      if (indexOf(pod) === index)
        most = Math.max(most, Number(pod.metadata.annotations?.['batch.kubernetes.io/job-index-failure-count'] ?? 0));
    }
    return most + 1;
  }

  async #dropFinalizer(pod: Pod): Promise<void> {
    try {
      await removeFinalizer(this.#context, kinds.Pod, pod, jobFinalizer);
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
    }
  }
}

export function startJobController(context: ControllerContext): Controller {
  const controller = new JobController(context);
  return { name: 'job', queues: [controller.queue, controller.ttlQueue] };
}
