/** Validation of batch: Jobs, and CronJobs with their schedules. */
import type { CronJob, Job, JobSpec } from '#api/batch.v1.ts';
import type { PodTemplateSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { validateJobPolicies } from './validate-job.ts';
import { validateTemplate } from './validate-pod.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { nonNegative, sameJson } from './validate-values.ts';

export function validateJob(o: Draft<Job>, errors: FieldErrors, old?: Job): void {
  const spec = o.spec ?? {};
  if (old === undefined) validateGeneratedLabels(o, errors);
  validateJobSpec(spec, 'spec', errors);
  if (spec.selector) validateLabelSelector(spec.selector, 'spec.selector', errors);
  else errors.required('spec.selector');
  const labels = spec.template?.metadata?.labels ?? {};
  if (!spec.selector || !matchesSelectorObject(spec.selector, labels))
    errors.invalid('spec.template.metadata.labels', labels, '`selector` does not match template `labels`');
}

/** Labels that select the Pods of a Job that did not choose its own: a client may not say others. */
function validateGeneratedLabels({ spec = {}, metadata = {} }: Draft<Job>, errors: FieldErrors): void {
  if (spec.manualSelector === true || !spec.selector) return;
  const { uid = '', name = '' } = metadata;
  const expected: Record<string, string> = {
    'controller-uid': uid,
    'job-name': name,
    'batch.kubernetes.io/controller-uid': uid,
    'batch.kubernetes.io/job-name': name,
  };
  const labels = spec.template?.metadata?.labels ?? {};
  for (const [key, value] of Object.entries(expected))
    if (labels[key] === undefined) errors.required(`spec.template.metadata.labels[${key}]`, `must be '${value}'`);
    else if (labels[key] !== value)
      errors.invalid(`spec.template.metadata.labels[${key}]`, labels[key], `must be '${value}'`);
  if (!matchesSelectorObject(spec.selector, expected))
    errors.invalid('spec.selector', spec.selector, '`selector` not auto-generated');
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
  validateTemplate(spec.template ?? {}, `${at}.template`, errors);
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
  for (const field of [
    'selector',
    'completionMode',
    'podFailurePolicy',
    'backoffLimitPerIndex',
    'managedBy',
    'successPolicy',
  ] as const)
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
  const job = spec.jobTemplate?.spec ?? {};
  validateJobSpec(job, 'spec.jobTemplate.spec', errors);
  if (job.selector) errors.invalid('spec.jobTemplate.spec.selector', job.selector, '`selector` will be auto-generated');
  if (job.manualSelector === true) errors.unsupported('spec.jobTemplate.spec.manualSelector', true, ['nil', 'false']);
}
