/**
 * Jobs count each Pod exactly once (Kubernetes documentation, "Jobs", and "Job termination and cleanup"): at every
 * status that is written the counters are the Pods ever noted as ended, no Pod is noted both ways, and each was seen to
 * end that way; a finished Job has noted every Pod that carried its finalizer, and nothing is left to be counted.
 * Indexed Jobs name exactly the indexes that a Pod succeeded for. Never do more Pods run than
 * `parallelism` (but for those whose creation nobody answered), no Pod is made once the end is decided, and it is
 * decided by the limit that was set.
 */
import type { Job, JobCondition } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { kinds } from '#base/kinds.ts';
import { indexOf, jobFinalizer } from '#controllers/job-count.ts';
import { parseIndexes } from '#controllers/job-indexes.ts';
import { isPodActive } from '#controllers/pods.ts';
import { type Checker, type CommitOf, isCommitOf, type World } from '../world.ts';
import { ownerOfNewPod } from './requests.ts';

/** What the store saw a Pod do. */
interface PodHistory {
  name: string;
  index: number | undefined;
  tracked: boolean;
  succeeded: boolean;
  failed: boolean;
  deleted: boolean;
  /** The Job itself took it away before it had come to anything: one more was made than it knew. */
  surplus: boolean;
}
interface JobHistory {
  pods: Map<string, PodHistory>;
  noted: { succeeded: Set<string>; failed: Set<string> };
  unanswered: number;
  indexes: Set<number>;
  decided: boolean;
  finished: boolean;
}

const outcomes = ['succeeded', 'failed'] as const;
const conditionOf = ({ status }: Job, ...types: string[]): JobCondition | undefined =>
  (status?.conditions ?? []).find(({ type, status: is }) => types.includes(type) && is === 'True');

class Ledger {
  readonly #jobs = new Map<string, JobHistory>();
  readonly #world: World;
  readonly #report: (message: string) => void;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  #of(uid: string): JobHistory {
    let history = this.#jobs.get(uid);
    if (history === undefined)
      this.#jobs.set(
        uid,
        (history = {
          pods: new Map(),
          noted: { succeeded: new Set(), failed: new Set() },
          unanswered: 0,
          indexes: new Set(),
          decided: false,
          finished: false,
        }),
      );
    return history;
  }

  seeUnanswered(uid: string): void {
    this.#of(uid).unanswered++;
  }
  forget(uid: string): void {
    this.#jobs.delete(uid);
  }

  seePod({ last: pod, object, previous }: CommitOf<Pod>, owner: string): void {
    const job = this.#of(owner);
    const { uid } = pod.metadata;
    const held = job.pods.get(uid) ?? {
      name: pod.metadata.name,
      index: indexOf(pod),
      tracked: false,
      succeeded: false,
      failed: false,
      deleted: false,
      surplus: false,
    };
    const phase = pod.status?.phase;
    const isTracked = pod.metadata.finalizers?.includes(jobFinalizer) === true;
    held.succeeded ||= phase === 'Succeeded';
    held.failed ||= phase === 'Failed';
    if (held.tracked && !isTracked && !held.deleted && phase === 'Pending') held.surplus = true;
    held.tracked ||= isTracked;
    held.deleted ||= object === undefined || pod.metadata.deletionTimestamp !== undefined;
    job.pods.set(uid, held);
    if (previous === undefined) this.#seeStart(pod, owner, job);
  }

  #seeStart(pod: Pod, owner: string, history: JobHistory): void {
    const job = this.#world.byUid(kinds.Job, owner);
    if (job === undefined) return;
    if (history.decided) this.#report(`Pod ${pod.metadata.name} was made after the end of its Job was decided`);
    const parallelism = job.spec.parallelism ?? 1;
    const active = this.#world.ownedOf(kinds.Pod, owner).filter(isPodActive).length;
    if (active > parallelism + history.unanswered)
      this.#report(`Job ${job.metadata.name} runs ${active} Pods, its parallelism is ${parallelism}`);
    const index = indexOf(pod);
    if (index !== undefined && history.indexes.has(index))
      this.#report(`Pod ${pod.metadata.name} was made for index ${index}, which is complete`);
  }

  seeJob(job: Job): void {
    const { metadata, spec, status = {} } = job;
    const history = this.#of(metadata.uid);
    const indexed = spec.completionMode === 'Indexed';
    const uncounted = status.uncountedTerminatedPods ?? {};
    for (const outcome of outcomes) {
      for (const uid of uncounted[outcome] ?? []) {
        const pod = history.pods.get(uid);
        history.noted[outcome].add(uid);
        if (pod === undefined || !(outcome === 'succeeded' ? pod.succeeded : pod.failed || pod.deleted))
          this.#report(`Job ${metadata.name} notes Pod ${pod?.name ?? uid} as ${outcome}, which it has not`);
        if (history.noted[outcome === 'failed' ? 'succeeded' : 'failed'].has(uid))
          this.#report(`Job ${metadata.name} notes Pod ${pod?.name} as ${outcome} and as the other`);
      }
      if (indexed && outcome === 'succeeded') continue;
      const count = (status[outcome] ?? 0) + (uncounted[outcome] ?? []).length;
      if (count !== history.noted[outcome].size)
        this.#report(`Job ${metadata.name} counts ${count} ${outcome}, it noted ${history.noted[outcome].size}`);
    }
    if (indexed) this.#seeIndexes(job, history);
    const decision = conditionOf(job, 'SuccessCriteriaMet', 'FailureTarget', 'Complete', 'Failed');
    if (decision !== undefined && !history.decided) {
      history.decided = true;
      this.#seeDecision(job, history, decision);
    }
    if (conditionOf(job, 'Complete', 'Failed') !== undefined && !history.finished) {
      history.finished = true;
      this.#seeEnd(job, history);
    }
  }

  #seeIndexes({ metadata, spec, status = {} }: Job, history: JobHistory): void {
    const named = parseIndexes(status.completedIndexes, Infinity);
    const reached = new Set([...history.pods.values()].filter(({ succeeded }) => succeeded).map(({ index }) => index));
    for (const index of named)
      if (!reached.has(index) || index >= (spec.completions ?? Infinity))
        this.#report(`Job ${metadata.name} calls index ${index} complete, no Pod succeeded for it`);
    for (const index of history.indexes)
      if (!named.has(index)) this.#report(`Job ${metadata.name} has forgotten that index ${index} is complete`);
    if ((status.succeeded ?? 0) !== named.size)
      this.#report(
        `Job ${metadata.name} counts ${status.succeeded ?? 0} succeeded, its complete indexes are ${status.completedIndexes}`,
      );
    history.indexes = named;
  }

  #seeDecision({ metadata, spec }: Job, history: JobHistory, { reason }: JobCondition): void {
    const succeeded = spec.completionMode === 'Indexed' ? history.indexes.size : history.noted.succeeded.size;
    const failed = history.noted.failed.size;
    if (reason === 'CompletionsReached' && succeeded < (spec.completions ?? 1))
      this.#report(`Job ${metadata.name} is called complete with ${succeeded} of ${spec.completions}`);
    if (
      reason === 'BackoffLimitExceeded' &&
      failed <= (spec.backoffLimit ?? 6) &&
      spec.template.spec.restartPolicy !== 'OnFailure'
    )
      this.#report(`Job ${metadata.name} has failed after ${failed} failures, its limit is ${spec.backoffLimit}`);
    if (
      reason !== 'BackoffLimitExceeded' &&
      spec.backoffLimitPerIndex === undefined &&
      failed > (spec.backoffLimit ?? 6)
    )
      this.#report(
        `Job ${metadata.name} ended as ${reason} after ${failed} failures, its limit is ${spec.backoffLimit}`,
      );
  }

  #seeEnd({ metadata, spec, status = {} }: Job, history: JobHistory): void {
    const indexed = spec.completionMode === 'Indexed';
    const left = outcomes.flatMap((outcome) => status.uncountedTerminatedPods?.[outcome] ?? []);
    if (left.length > 0) this.#report(`Job ${metadata.name} ended with ${left.length} Pods uncounted`);
    if ((status.active ?? 0) > 0 || (status.terminating ?? 0) > 0)
      this.#report(
        `Job ${metadata.name} ended with ${status.active ?? 0} active and ${status.terminating ?? 0} terminating`,
      );
    if (spec.podFailurePolicy !== undefined) return;
    for (const [uid, pod] of history.pods) {
      if (
        !pod.tracked ||
        pod.surplus ||
        history.noted.succeeded.has(uid) ||
        history.noted.failed.has(uid) ||
        (indexed && pod.succeeded && pod.index !== undefined && history.indexes.has(pod.index))
      )
        continue;
      this.#report(`Job ${metadata.name} ended and has not counted Pod ${pod.name}`);
    }
  }
}

export function jobsExact(): Checker {
  const name = 'jobs-exact';
  let ledger: Ledger | undefined;
  const ownerOf = (object: KubeObject): string | undefined =>
    object.metadata.ownerReferences?.find(({ kind, controller }) => kind === 'Job' && controller === true)?.uid;
  return {
    name,
    onCommit(commit, world) {
      ledger ??= new Ledger(world, name);
      if (isCommitOf(kinds.Pod, commit)) {
        const owner = ownerOf(commit.last);
        if (owner !== undefined) ledger.seePod(commit, owner);
      } else if (isCommitOf(kinds.Job, commit)) {
        if (commit.object === undefined) ledger.forget(commit.last.metadata.uid);
        else ledger.seeJob(commit.object);
      }
    },
    onFailure(_part, request) {
      const owner = ownerOfNewPod(request);
      if (owner?.kind === 'Job') ledger?.seeUnanswered(owner.uid);
    },
  };
}
