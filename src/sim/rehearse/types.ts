/**
 * The words of a rehearsal: what is asked (all plain data, so that it can be given to a thread) and what is answered
 * (the JSON that `tiphys rehearse --json` prints).
 */
import type { NamedObject } from '../manifests.ts';
import type { NodeOptions } from '../sim-node.ts';

/**
 * An object to apply, and where it comes from: `shop/web.yaml, document 2`. Unknown fields are refused unless `lenient`
 * (a copy of another version's cluster).
 */
export interface Manifest {
  object: NamedObject;
  origin: string;
  lenient?: boolean;
}

/** A node to simulate: as it is, cordoned, or down from the beginning. */
export interface RehearsalNode extends NodeOptions {
  unschedulable?: boolean;
  isDown?: boolean;
}

export interface NamedNode extends RehearsalNode {
  name: string;
}

/** Times count from the beginning of the rehearsal, in milliseconds. */
export interface Fault {
  kind: 'kill-node' | 'kill-zone' | 'drain' | 'api-down';
  atMs: number;
  /** Chance chooses a moment from `atMs` to here. */
  latestMs?: number;
  /** How long it lasts; to the end when absent (an API server is down for a minute). */
  forMs?: number;
  /** The node or zone; one that runs Pods, by chance, when absent. */
  target?: string;
}

/** Manifests applied in the middle: a roll-out. */
export interface Change {
  atMs: number;
  label: string;
  manifests: readonly Manifest[];
}

export interface RehearseOptions {
  manifests: readonly Manifest[];
  nodes: number | readonly RehearsalNode[];
  faults: readonly Fault[];
  changes?: readonly Change[];
  /** Every pull of an image that is not on the node takes this long. */
  slowPullMs?: number;
  forMs: number;
  /** Virtual time at the beginning: RFC 3339. */
  start?: string;
}

/** From good to bad; what each word of a verdict weighs is in `severity.ts`. */
export type ServerVerdict = 'ok' | 'degraded' | 'unavailable' | 'lost' | 'not whole at the end' | 'never ran';
/**
 * Something that shall run all the time: a Deployment, StatefulSet, DaemonSet, or a ReplicaSet or Pod without an owner.
 */
export interface WorkloadReport {
  kind: string;
  namespace: string;
  name: string;
  wanted: number;
  lowestReady: number;
  /** Seconds with fewer Pods ready than wanted, and with none, after it was whole for the first time. */
  belowSeconds: number;
  downSeconds: number;
  restarts: number;
  /** Pods that do not run at the end, with the reason. */
  stuck: { pod: string; why: string }[];
  verdict: ServerVerdict;
}

export type JobVerdict = 'done' | 'done after failures' | 'running' | 'stuck' | 'failed' | 'lost';
/** Something that shall run once: a Job without a CronJob, or a Pod without an owner that does not restart for ever. */
export interface JobReport {
  kind: string;
  namespace: string;
  name: string;
  /** Pods that failed or were lost. */ failedPods: number;
  /** To its end, or so far. */ seconds: number;
  why?: string;
  verdict: JobVerdict;
}

export type CronJobVerdict = 'ok' | 'missed runs' | 'failed runs' | 'never succeeded';
export interface CronJobReport {
  namespace: string;
  name: string;
  due: number;
  started: number;
  succeeded: number;
  failed: number;
  missed: { atSeconds: number; why: string }[];
  longestSeconds: number;
  verdict: CronJobVerdict;
}

export interface BudgetReport {
  namespace: string;
  name: string;
  /** Seconds with fewer healthy Pods than the budget wants. */ brokenSeconds: number;
  /** Evictions that it refused. */ refused: number;
}
export interface DrainReport {
  node: string;
  startedSeconds: number;
  /** Absent when it was not emptied. */ seconds?: number;
  left: string[];
  verdict: 'done' | 'under way' | 'blocked';
}
export interface RolloutReport {
  kind: string;
  namespace: string;
  name: string;
  startedSeconds: number;
  /** Absent when it did not end. */ seconds?: number;
  verdict: 'done' | 'unfinished';
}
export interface TimelineEntry {
  atSeconds: number;
  what: string;
}

/** What one seed has shown. */
export interface Rehearsal {
  seed: number;
  virtualSeconds: number;
  workloads: WorkloadReport[];
  jobs: JobReport[];
  cronJobs: CronJobReport[];
  budgets: BudgetReport[];
  drains: DrainReport[];
  rollouts: RolloutReport[];
  timeline: TimelineEntry[];
}

/** A manifest that the API server refuses, or an option that names what is not there: nothing was rehearsed. */
export class RehearsalError extends Error {}
