/**
 * What of a Job may change, and what its status may say next (validation of batch/v1 in the reference implementation).
 */
import type { Job, JobSpec, JobStatus } from '#api/batch.v1.ts';
import type { Container, PodSpec, PodTemplateSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { omitted } from './field-errors.ts';
import type { FieldErrors } from './field-errors.ts';
import { indexesOf, sharedIndex } from './job-indexes.ts';
import { nonNegative, sameJson, unchanged } from './validate-values.ts';

export function validateJobUpdate(o: Draft<Job>, old: Job, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  validateCompletions(spec, old.spec, errors);
  unchanged(spec.selector, old.spec.selector, 'spec.selector', errors);
  validateTemplateUpdate(spec, old, errors);
  for (const field of [
    'completionMode',
    'podFailurePolicy',
    'backoffLimitPerIndex',
    'managedBy',
    'successPolicy',
  ] as const)
    unchanged(spec[field], old.spec[field], `spec.${field}`, errors);
}

/** Of an Indexed Job, together with how many run at once. */
function validateCompletions(spec: Draft<JobSpec>, old: JobSpec, errors: FieldErrors): void {
  const { completions, parallelism } = spec;
  if (spec.completionMode !== 'Indexed') unchanged(completions, old.completions, 'spec.completions', errors);
  else if (completions !== old.completions && completions !== undefined && completions !== parallelism)
    errors.invalid('spec.completions', completions, 'can only be modified in tandem with spec.parallelism');
}

/** The template of a Job stays; of one that is suspended and has no Pods, where they go and what they take changes. */
function validateTemplateUpdate(spec: Draft<JobSpec>, old: Job, errors: FieldErrors): void {
  const { template = {} } = spec;
  const { status = {} } = old;
  const isSuspended = old.spec.suspend === true;
  const hasBeen = status.startTime === undefined || isTrue(status, 'Suspended');
  const isIdle = isSuspended && hasBeen && (status.active ?? 0) === 0;
  const before: Draft<PodTemplateSpec> = isIdle ? withDirectives(old.spec.template, template) : old.spec.template;
  if (!isIdle) unchanged(template, before, 'spec.template', errors);
  else if (!sameJson(template.spec, withResources(before.spec ?? {}, template.spec ?? {})))
    errors.invalid('spec.template.spec', template.spec ?? null, 'field is immutable');
}

/** The former template with what directs the scheduler as it is now. */
function withDirectives(old: Draft<PodTemplateSpec>, now: Draft<PodTemplateSpec>): Draft<PodTemplateSpec> {
  const { affinity, nodeSelector, tolerations, schedulingGates } = now.spec ?? {};
  const { affinity: former, ...rest } = old.spec ?? {};
  const { nodeAffinity: _former, ...others } = former ?? {};
  const nodes = affinity?.nodeAffinity === undefined ? {} : { nodeAffinity: affinity.nodeAffinity };
  return {
    ...old,
    metadata: { ...old.metadata, labels: now.metadata?.labels ?? {}, annotations: now.metadata?.annotations ?? {} },
    spec: {
      ...rest,
      affinity: { ...others, ...nodes },
      nodeSelector: nodeSelector ?? {},
      tolerations: tolerations ?? [],
      schedulingGates: schedulingGates ?? [],
    },
  };
}

/** The former spec with each container's resources as they are now. */
function withResources(old: Draft<PodSpec>, now: Draft<PodSpec>): Draft<PodSpec> {
  const mixed = (list: Draft<Container>[] = [], current: Draft<Container>[] = []): Draft<Container>[] =>
    list.length !== current.length
      ? list
      : list.map((one, i) =>
          one.name === current[i]?.name ? { ...one, resources: current[i]?.resources ?? {} } : one,
        );
  return {
    ...old,
    containers: mixed(old.containers, now.containers),
    initContainers: mixed(old.initContainers, now.initContainers),
  };
}

function isTrue({ conditions }: Draft<JobStatus>, type: string): boolean {
  return (conditions ?? []).some((one) => one.type === type && one.status === 'True');
}
const isFinished = (status: Draft<JobStatus>): boolean => isTrue(status, 'Complete') || isTrue(status, 'Failed');

/** A status as it is and as it was. */
interface Step {
  spec: Draft<JobSpec>;
  now: Draft<JobStatus>;
  before: Draft<JobStatus>;
  errors: FieldErrors;
}

/** Whether one of the conditions came or went. */
const turned = ({ now, before }: Step, ...types: string[]): boolean =>
  types.some((type) => isTrue(now, type) !== isTrue(before, type));
/** As `turned`, of being finished at all. */
const ended = ({ now, before }: Step): boolean => isFinished(now) !== isFinished(before);
const differs = ({ now, before }: Step, field: keyof JobStatus): boolean => !sameJson(now[field], before[field]);

/**
 * A status update. What was wrong before and is not touched stays: so a Job whose spec has changed can be brought to
 * what is right.
 */
export function validateJobStatus(o: Draft<Job>, old: Job, errors: FieldErrors): void {
  const step: Step = { spec: o.spec ?? {}, now: o.status ?? {}, before: old.status ?? {}, errors };
  for (const field of ['active', 'succeeded', 'failed', 'ready', 'terminating'] as const)
    nonNegative(step.now[field], `status.${field}`, errors);
  validateUncounted(step);
  validateEnd(step);
  validateCounts(step);
  validateIndexes(step);
  validateEndedCounts(step);
  validateSuccess(step);
  validateProgress(step);
}

function validateUncounted({ now, errors }: Step): void {
  const seen = new Set<string>();
  for (const list of ['succeeded', 'failed'] as const)
    (now.uncountedTerminatedPods?.[list] ?? []).forEach((uid, i) => {
      const at = `status.uncountedTerminatedPods.${list}[${i}]`;
      if (uid === '') errors.invalid(at, uid, 'must not be empty');
      else if (seen.has(uid)) errors.duplicate(at, uid);
      seen.add(uid);
    });
}

/** Conditions that exclude each other, or ask for another; the times of beginning and end. */
function validateEnd(step: Step): void {
  const { now, errors } = step;
  const wrong = (text: string): void => errors.invalid('status.conditions', omitted, text);
  const isComplete = isTrue(now, 'Complete');
  const { completionTime, startTime } = now;
  if (turned(step, 'Complete', 'Failed') && isComplete && isTrue(now, 'Failed'))
    wrong('cannot set Complete=True and Failed=true conditions');
  if (turned(step, 'Complete', 'FailureTarget') && isComplete && isTrue(now, 'FailureTarget'))
    wrong('cannot set Complete=True and FailureTarget=true conditions');
  const hasNewEnd = turned(step, 'Complete') || differs(step, 'completionTime');
  if (hasNewEnd && completionTime && !isComplete)
    errors.invalid(
      'status.completionTime',
      completionTime,
      'cannot set completionTime when there is no Complete=True condition',
    );
  if (hasNewEnd && !completionTime && isComplete)
    errors.required('status.completionTime', 'completionTime is required for Complete jobs');
  const hasNewTime = differs(step, 'startTime') || differs(step, 'completionTime');
  if (hasNewTime && startTime && completionTime && Date.parse(completionTime) < Date.parse(startTime))
    errors.invalid('status.completionTime', completionTime, 'must be equal to or after `startTime`');
  if (
    (turned(step, 'Failed') || differs(step, 'failedIndexes')) &&
    isTrue(now, 'Failed') &&
    !isTrue(now, 'FailureTarget')
  )
    wrong('cannot set Failed=True condition without the FailureTarget=true condition');
  if (turned(step, 'Complete', 'SuccessCriteriaMet') && isComplete && !isTrue(now, 'SuccessCriteriaMet'))
    wrong('cannot set Complete=True condition without the SuccessCriteriaMet=true condition');
}

/** A Job that has ended has begun, and has no Pods left. */
function validateCounts(step: Step): void {
  const { spec, now, errors } = step;
  if (!isFinished(now)) return;
  const pods = now.uncountedTerminatedPods;
  if ((ended(step) || differs(step, 'active')) && (now.active ?? 0) > 0)
    errors.invalid('status.active', now.active, 'active>0 is invalid for finished job');
  const isNothing = spec.suspend === true && spec.completions === 0;
  if ((ended(step) || differs(step, 'startTime')) && !isNothing && !now.startTime)
    errors.required('status.startTime', 'startTime is required for finished job');
  const count = (pods?.failed ?? []).length + (pods?.succeeded ?? []).length;
  if ((ended(step) || differs(step, 'uncountedTerminatedPods')) && count > 0)
    errors.invalid('status.uncountedTerminatedPods', pods, 'must be empty for finished job');
}

function validateIndexes(step: Step): void {
  const { spec, now, errors } = step;
  const { completedIndexes: completed = '', failedIndexes: failed } = now;
  const { completions } = spec;
  const perIndex = typeof spec.backoffLimitPerIndex === 'number';
  const check = (field: 'completedIndexes' | 'failedIndexes', text: string): void => {
    const problem = completions === undefined ? '' : indexesOf(text, completions).problem;
    if (problem !== '') errors.invalid(`status.${field}`, text, `error parsing ${field}: ${problem}`);
  };
  const [newCompleted, newFailed] = [differs(step, 'completedIndexes'), differs(step, 'failedIndexes')];
  if (newCompleted) check('completedIndexes', completed);
  if (newFailed && perIndex && failed !== undefined) check('failedIndexes', failed);
  if (newCompleted && completed !== '' && spec.completionMode !== 'Indexed')
    errors.invalid(
      'status.completedIndexes',
      completed,
      'cannot set non-empty completedIndexes when non-indexed completion mode',
    );
  if (newFailed && !perIndex && failed !== undefined)
    errors.invalid(
      'status.failedIndexes',
      failed,
      'cannot set non-null failedIndexes when backoffLimitPerIndex is null',
    );
  if ((!newFailed && !newCompleted) || completions === undefined || failed === undefined) return;
  const shared = sharedIndex(completed, failed, completions);
  if (shared !== undefined)
    errors.invalid('status.failedIndexes', failed, `failedIndexes and completedIndexes overlap at index: ${shared}`);
}

function validateEndedCounts(step: Step): void {
  const { now, errors } = step;
  const { terminating = 0, ready = 0, active = 0 } = now;
  if ((ended(step) || differs(step, 'terminating')) && terminating > 0 && isFinished(now))
    errors.invalid('status.terminating', terminating, 'terminating>0 is invalid for finished job');
  if ((differs(step, 'ready') || differs(step, 'active')) && ready > active)
    errors.invalid('status.ready', ready, 'cannot set more ready pods than active');
}

function validateSuccess({ spec, now, errors }: Step): void {
  const wrong = (text: string): void => errors.invalid('status.conditions', omitted, text);
  const isMet = isTrue(now, 'SuccessCriteriaMet');
  if (isMet && isTrue(now, 'Failed')) wrong('cannot set SuccessCriteriaMet=True and Failed=true conditions');
  if (isMet && isTrue(now, 'FailureTarget'))
    wrong('cannot set SuccessCriteriaMet=True and FailureTarget=true conditions');
  if (spec.successPolicy && !isMet && isTrue(now, 'Complete'))
    wrong('cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True');
}

/** What was reached is not taken back. */
function validateProgress(step: Step): void {
  const { spec, now, before, errors } = step;
  const wrong = (text: string): void => errors.invalid('status.conditions', omitted, text);
  for (const type of ['Failed', 'Complete', 'FailureTarget'])
    if (isTrue(before, type) && !isTrue(now, type)) wrong(`cannot disable the terminal ${type}=True condition`);
  const fewer = (field: 'failed' | 'succeeded'): void => {
    if ((now[field] ?? 0) < (before[field] ?? 0))
      errors.invalid(`status.${field}`, now[field] ?? 0, `cannot decrease the ${field} counter`);
  };
  fewer('failed');
  if (spec.completionMode !== 'Indexed' || spec.completions !== spec.parallelism) fewer('succeeded');
  if (now.completionTime && before.completionTime && now.completionTime !== before.completionTime)
    errors.invalid('status.completionTime', now.completionTime, 'field is immutable');
  const isSuspended = (now.conditions ?? []).find(({ type }) => type === 'Suspended')?.status;
  const resumes = isTrue(before, 'Suspended') && isSuspended === 'False';
  if (before.startTime && differs(step, 'startTime') && !resumes && spec.suspend !== true)
    errors.invalid('status.startTime', now.startTime ?? null, 'field is immutable for unsuspended job once set');
  if (isTrue(before, 'SuccessCriteriaMet') && !isTrue(now, 'SuccessCriteriaMet'))
    wrong('cannot disable the SuccessCriteriaMet=True condition');
  if (isTrue(before, 'Complete') && !isTrue(before, 'SuccessCriteriaMet') && isTrue(now, 'SuccessCriteriaMet'))
    wrong('cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions');
}
