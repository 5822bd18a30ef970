/** Validation of batch: Jobs, and CronJobs with their schedules. */
import type { CronJob, Job, JobSpec } from '#api/batch.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem } from './name-forms.ts';
import { validateJobPolicies } from './validate-job.ts';
import { validateTemplate } from './validate-pod.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { nonNegative } from './validate-values.ts';

export function validateJob(o: Draft<Job>, errors: FieldErrors, old?: Job): void {
  const spec = o.spec ?? {};
  if (old === undefined) validateGeneratedLabels(o, errors);
  validateJobSpec(spec, 'spec', errors);
  const labels = spec.template?.metadata?.labels;
  let selects: boolean;
  if (spec.selector) {
    const isRight = validateLabelSelector(spec.selector, 'spec.selector', errors);
    selects = !isRight || matchesSelectorObject(spec.selector, labels ?? {});
  } else {
    errors.required('spec.selector');
    selects = false;
  }
  if (!selects)
    errors.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
  if (old === undefined) validatePodHostnames(o, errors);
}

/** The Pods of an Indexed Job have its name and their index for a hostname. */
function validatePodHostnames({ spec = {}, metadata = {} }: Draft<Job>, errors: FieldErrors): void {
  const { completions = 0 } = spec;
  if (spec.completionMode !== 'Indexed' || completions <= 0) return;
  const { name = '' } = metadata;
  const last = `${name}-${completions - 1}`;
  if (labelProblem(last) !== '')
    errors.invalid('metadata.name', name, `will not able to create pod with invalid DNS label: ${last}`);
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
  const isRight = validateLabelSelector(spec.selector, 'spec.selector', errors.fork());
  if (isRight && !matchesSelectorObject(spec.selector, expected))
    errors.invalid('spec.selector', spec.selector, '`selector` not auto-generated');
}

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
  validateJobPolicies(spec, at, errors);
  validateTemplate(spec.template ?? {}, `${at}.template`, errors);
  const policy = spec.template?.spec?.restartPolicy ?? '';
  const path = `${at}.template.spec.restartPolicy`;
  if (policy === 'Always' || policy === '') errors.required(path, 'valid values: "OnFailure", "Never"');
  else if (policy !== 'OnFailure' && policy !== 'Never') errors.unsupported(path, policy, ['OnFailure', 'Never']);
  else if (spec.podFailurePolicy && policy !== 'Never')
    errors.invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified');
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
