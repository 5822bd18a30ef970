/** Validation of apps, batch and autoscaling. */
import type {
  DaemonSet,
  Deployment,
  ReplicaSet,
  RollingUpdateDeployment,
  StatefulSet,
  StatefulSetSpec,
} from '#api/apps.v1.ts';
import type { CronJob, Job, JobSpec } from '#api/batch.v1.ts';
import type { PodTemplateSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { validateJobPolicies } from './validate-job.ts';
import { nonNegative, sameJson } from './validate-values.ts';
import { validateTemplate } from './validate-pod.ts';
import { validateLabelSelector } from './validate-selector.ts';

/** What validations of workloads have in common. */
type WorkloadSpec = Pick<StatefulSetSpec, 'selector' | 'template'>;

function validateSelector(spec: Draft<WorkloadSpec>, errors: FieldErrors): void {
  if (spec.selector === undefined || spec.selector === null) {
    errors.required('spec.selector');
    return;
  }
  validateLabelSelector(spec.selector, 'spec.selector', errors);
  if (Object.keys(spec.selector.matchLabels ?? {}).length === 0 && (spec.selector.matchExpressions ?? []).length === 0)
    errors.invalid('spec.selector', spec.selector, 'empty selector is invalid for deployment');
  else if (
    spec.template !== undefined &&
    !errors.any &&
    !matchesSelectorObject(spec.selector, spec.template?.metadata?.labels ?? {})
  )
    errors.invalid(
      'spec.template.metadata.labels',
      spec.template?.metadata?.labels ?? null,
      '`selector` does not match template `labels`',
    );
}

function alwaysRestarts(spec: Draft<WorkloadSpec>, errors: FieldErrors): void {
  const policy = spec.template?.spec?.restartPolicy;
  if (policy !== undefined && policy !== 'Always')
    errors.unsupported('spec.template.spec.restartPolicy', policy, ['Always']);
  if (spec.template?.spec?.activeDeadlineSeconds !== undefined)
    errors.forbidden(
      'spec.template.spec.activeDeadlineSeconds',
      'activeDeadlineSeconds in ReplicaSet is not Supported',
    );
}

export function validateIntOrPercent(value: unknown, at: string, errors: FieldErrors): void {
  if (value === undefined || value === null) return;
  if (typeof value === 'number') nonNegative(value, at, errors);
  else if (!/^[0-9]+%$/.test(String(value)))
    errors.invalid(
      at,
      value,
      "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
    );
}

const isZero = (value: unknown): boolean => value === 0 || value === '0%';

function validateRolling(rolling: Draft<RollingUpdateDeployment> | undefined, at: string, errors: FieldErrors): void {
  if (!rolling) return;
  validateIntOrPercent(rolling.maxUnavailable, `${at}.maxUnavailable`, errors);
  validateIntOrPercent(rolling.maxSurge, `${at}.maxSurge`, errors);
  if (isZero(rolling.maxUnavailable) && isZero(rolling.maxSurge))
    errors.invalid(`${at}.maxUnavailable`, rolling.maxUnavailable, 'may not be 0 when `maxSurge` is 0');
  if (typeof rolling.maxUnavailable === 'string' && parseInt(rolling.maxUnavailable, 10) > 100)
    errors.invalid(`${at}.maxUnavailable`, rolling.maxUnavailable, 'must not be greater than 100%');
}

export function validateDeployment(o: Draft<Deployment>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  nonNegative(spec.replicas, 'spec.replicas', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  nonNegative(spec.revisionHistoryLimit, 'spec.revisionHistoryLimit', errors);
  validateSelector(spec, errors);
  validateTemplate(spec.template, 'spec.template', errors);
  alwaysRestarts(spec, errors);
  const type = spec.strategy?.type;
  if (!['Recreate', 'RollingUpdate'].includes(type ?? ''))
    errors.unsupported('spec.strategy.type', type ?? '', ['Recreate', 'RollingUpdate']);
  if (type === 'Recreate' && spec.strategy?.rollingUpdate)
    errors.forbidden('spec.strategy.rollingUpdate', "may not be specified when strategy `type` is 'Recreate'");
  if (type === 'RollingUpdate') validateRolling(spec.strategy?.rollingUpdate, 'spec.strategy.rollingUpdate', errors);
  if (spec.progressDeadlineSeconds !== undefined && spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0))
    errors.invalid(
      'spec.progressDeadlineSeconds',
      spec.progressDeadlineSeconds,
      'must be greater than minReadySeconds',
    );
}

export function validateReplicaSet(o: Draft<ReplicaSet>, errors: FieldErrors): void {
  nonNegative(o.spec?.replicas, 'spec.replicas', errors);
  nonNegative(o.spec?.minReadySeconds, 'spec.minReadySeconds', errors);
  validateSelector(o.spec ?? {}, errors);
  validateTemplate(o.spec?.template, 'spec.template', errors);
  alwaysRestarts(o.spec ?? {}, errors);
}

export function validateDaemonSet(o: Draft<DaemonSet>, errors: FieldErrors): void {
  validateSelector(o.spec ?? {}, errors);
  validateTemplate(o.spec?.template, 'spec.template', errors);
  alwaysRestarts(o.spec ?? {}, errors);
  nonNegative(o.spec?.minReadySeconds, 'spec.minReadySeconds', errors);
  if (!['OnDelete', 'RollingUpdate'].includes(o.spec?.updateStrategy?.type ?? ''))
    errors.unsupported('spec.updateStrategy.type', o.spec?.updateStrategy?.type ?? '', ['OnDelete', 'RollingUpdate']);
  else if (o.spec?.updateStrategy?.type === 'RollingUpdate') {
    const rolling = o.spec.updateStrategy.rollingUpdate;
    validateRolling(rolling, 'spec.updateStrategy.rollingUpdate', errors);
    const both = rolling && [rolling.maxSurge ?? 0, rolling.maxUnavailable ?? 0].every((value) => !isZero(value));
    if (both)
      errors.invalid(
        'spec.updateStrategy.rollingUpdate.maxSurge',
        rolling.maxSurge,
        'may not be set when maxUnavailable is non-zero',
      );
  }
}

export function validateStatefulSet(o: Draft<StatefulSet>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  nonNegative(spec.replicas, 'spec.replicas', errors);
  nonNegative(spec.minReadySeconds, 'spec.minReadySeconds', errors);
  if (!['OrderedReady', 'Parallel'].includes(spec.podManagementPolicy ?? ''))
    errors.invalid('spec.podManagementPolicy', spec.podManagementPolicy, "must be 'OrderedReady' or 'Parallel'");
  if (!['OnDelete', 'RollingUpdate'].includes(spec.updateStrategy?.type ?? ''))
    errors.invalid('spec.updateStrategy', spec.updateStrategy, "must be 'RollingUpdate' or 'OnDelete'");
  const rolling = spec.updateStrategy?.rollingUpdate;
  if (rolling && spec.updateStrategy?.type === 'OnDelete')
    errors.invalid('spec.updateStrategy.rollingUpdate', rolling, "only allowed for updateStrategy 'RollingUpdate'");
  nonNegative(rolling?.partition, 'spec.updateStrategy.rollingUpdate.partition', errors);
  nonNegative(spec.ordinals?.start, 'spec.ordinals.start', errors);
  for (const when of ['whenDeleted', 'whenScaled'] as const) {
    const value: unknown = spec.persistentVolumeClaimRetentionPolicy?.[when];
    if (value && value !== 'Delete' && value !== 'Retain')
      errors.unsupported(`spec.persistentVolumeClaimRetentionPolicy.${when}`, value, ['Delete', 'Retain']);
  }
  validateSelector(spec, errors);
  validateTemplate(withClaims(spec), 'spec.template', errors);
  alwaysRestarts(spec, errors);
}

/** The template with the claims' volumes, which the mounts may name. */
function withClaims(spec: Draft<StatefulSetSpec>): Draft<PodTemplateSpec> | undefined {
  if (!spec.template || (spec.volumeClaimTemplates ?? []).length === 0) return spec.template;
  const names = new Set((spec.volumeClaimTemplates ?? []).map((c) => c.metadata?.name ?? ''));
  const volumes = (spec.template.spec?.volumes ?? []).filter((v) => !names.has(v.name ?? ''));
  return {
    ...spec.template,
    spec: {
      ...spec.template.spec,
      volumes: [...volumes, ...[...names].map((name) => ({ name, persistentVolumeClaim: { claimName: name } }))],
    },
  };
}

export function validateStatefulSetUpdate(o: Draft<StatefulSet>, old: StatefulSet, errors: FieldErrors): void {
  const part = ({
    replicas: _r,
    template: _t,
    updateStrategy: _u,
    minReadySeconds: _m,
    persistentVolumeClaimRetentionPolicy: _p,
    ordinals: _o,
    revisionHistoryLimit: _h,
    ...rest
  }: Draft<StatefulSetSpec>): unknown => rest;
  if (!sameJson(part(o.spec ?? {}), part(old.spec)))
    errors.forbidden(
      'spec',
      "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    );
}

interface Selecting {
  spec?: { selector?: Draft<LabelSelector> };
}

export function validateSelectorUnchanged(o: Selecting, old: Selecting, errors: FieldErrors): void {
  if (!sameJson(o.spec?.selector, old.spec?.selector))
    errors.invalid('spec.selector', o.spec?.selector, 'field is immutable');
}

export function validateJob(o: Draft<Job>, errors: FieldErrors): void {
  validateJobSpec(o.spec ?? {}, 'spec', errors);
}

const indexesMax = 100_000;

function validateJobSpec(spec: Draft<JobSpec>, at: string, errors: FieldErrors): void {
  for (const field of [
    'parallelism',
    'completions',
    'activeDeadlineSeconds',
    'backoffLimit',
    'ttlSecondsAfterFinished',
    'backoffLimitPerIndex',
    'maxFailedIndexes',
  ] as const)
    nonNegative(spec[field], `${at}.${field}`, errors);
  validateTemplate(spec.template, `${at}.template`, errors);
  const policy = spec.template?.spec?.restartPolicy;
  if (policy === 'Always') errors.required(`${at}.template.spec.restartPolicy`, 'valid values: "OnFailure", "Never"');
  if (spec.completionMode !== undefined && !['Indexed', 'NonIndexed'].includes(spec.completionMode ?? ''))
    errors.unsupported(`${at}.completionMode`, spec.completionMode, ['Indexed', 'NonIndexed']);
  if (spec.completionMode === 'Indexed' && spec.completions === undefined)
    errors.required(`${at}.completions`, 'when completion mode is Indexed');
  if (spec.completionMode === 'Indexed')
    for (const field of ['completions', 'parallelism'] as const)
      if ((spec[field] ?? 0) > indexesMax)
        errors.invalid(
          `${at}.${field}`,
          spec[field],
          `must be less than or equal to ${indexesMax} when \`completionMode\` is \`Indexed\``,
        );
  if (spec.podFailurePolicy && policy !== 'Never')
    errors.invalid(
      `${at}.template.spec.restartPolicy`,
      policy,
      'only "Never" is supported when podFailurePolicy is specified',
    );
  validateJobPolicies(spec, at, errors);
}

export function validateJobUpdate(o: Draft<Job>, old: Job, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  if (spec.completions !== old.spec.completions && spec.completionMode !== 'Indexed')
    errors.invalid('spec.completions', spec.completions ?? null, 'field is immutable');
  for (const field of ['selector', 'completionMode', 'podFailurePolicy', 'backoffLimitPerIndex'] as const)
    if (!sameJson(spec[field], old.spec[field]))
      errors.invalid(`spec.${field}`, spec[field] ?? null, 'field is immutable');
  const part = (template: Draft<PodTemplateSpec> | undefined, suspended: boolean): unknown => {
    if (!suspended) return template;
    const { nodeSelector: _n, affinity: _a, tolerations: _t, schedulingGates: _g, ...rest } = template?.spec ?? {};
    return { spec: rest };
  };
  const suspended = old.spec.suspend === true && old.status?.startTime === undefined;
  if (!sameJson(part(spec.template, suspended), part(old.spec.template, suspended)))
    errors.invalid('spec.template', spec.template, 'field is immutable');
}

const cronRanges: [number, number, readonly string[]][] = [
  [0, 59, []],
  [0, 23, []],
  [1, 31, []],
  [1, 12, ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']],
  [0, 6, ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']],
];
const scheduleCharsMax = 1_024;

/** What is wrong with one field of a schedule: `*`, `?`, a value, a range, each with a step, in a list. */
function cronFieldProblem(field: string, [least, most, names]: [number, number, readonly string[]]): string {
  for (const part of field.split(',')) {
    const [range = '', step, ...more] = part.split('/');
    const [from = '', to, ...rest] = range.split('-');
    if (more.length > 0) return `too many slashes: ${part}`;
    if (rest.length > 0) return `too many hyphens: ${part}`;
    const numberOf = (text: string): number => {
      const named = names.indexOf(text.toLowerCase());
      return named >= 0 ? named + least : /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    };
    if (step !== undefined && !/^\d{1,9}$/.test(step))
      return `failed to parse int from ${step}: strconv.Atoi: parsing ${JSON.stringify(step)}: invalid syntax`;
    if (step !== undefined && Number(step) === 0) return `step of range should be a positive number: ${part}`;
    if ((from === '*' || from === '?') && to === undefined) continue;
    const [start, end] = [numberOf(from), to === undefined ? numberOf(from) : numberOf(to)];
    for (const [text, value] of [
      [from, start],
      [to ?? from, end],
    ] as const)
      if (Number.isNaN(value))
        return `failed to parse int from ${text}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`;
    if (start < least) return `beginning of range (${start}) below minimum (${least}): ${part}`;
    if (end > most) return `end of range (${end}) above maximum (${most}): ${part}`;
    if (start > end) return `beginning of range (${start}) beyond end of range (${end}): ${part}`;
  }
  return '';
}

function scheduleProblem(schedule: string): string {
  if (schedule.length > scheduleCharsMax) return `must be no more than ${scheduleCharsMax} characters`;
  if (schedule.startsWith('@every '))
    return /^@every (\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(schedule) ? '' : `failed to parse duration ${schedule}`;
  if (schedule.startsWith('@'))
    return /^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$/.test(schedule)
      ? ''
      : `unrecognized descriptor: ${schedule}`;
  const fields = schedule.trim().split(/\s+/);
  if (fields.length !== 5) return `expected exactly 5 fields, found ${fields.length}: [${fields.join(' ')}]`;
  return cronRanges.map((range, i) => cronFieldProblem(fields[i] ?? '', range)).find((problem) => problem !== '') ?? '';
}

export function validateCronJob(o: Draft<CronJob>, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  const schedule = String(spec.schedule ?? '');
  if (schedule === '') errors.required('spec.schedule');
  else if (/TZ=/.test(schedule))
    errors.invalid('spec.schedule', schedule, 'cannot use TZ or CRON_TZ in schedule, use timeZone field instead');
  else {
    const problem = scheduleProblem(schedule);
    if (problem !== '') errors.invalid('spec.schedule', schedule, problem);
  }
  if (typeof spec.timeZone === 'string') {
    try {
      new Intl.DateTimeFormat('en', { timeZone: spec.timeZone });
    } catch {
      errors.invalid('spec.timeZone', spec.timeZone, `unknown time zone ${spec.timeZone}`);
    }
  }
  if (!['Allow', 'Forbid', 'Replace'].includes(spec.concurrencyPolicy ?? ''))
    errors.unsupported('spec.concurrencyPolicy', spec.concurrencyPolicy ?? '', ['Allow', 'Forbid', 'Replace']);
  for (const field of ['startingDeadlineSeconds', 'successfulJobsHistoryLimit', 'failedJobsHistoryLimit'] as const)
    nonNegative(spec[field], `spec.${field}`, errors);
  if (String(o.metadata?.name ?? '').length > 52)
    errors.invalid('metadata.name', o.metadata?.name, 'must be no more than 52 characters');
  validateJobSpec(spec.jobTemplate?.spec ?? {}, 'spec.jobTemplate.spec', errors);
}
