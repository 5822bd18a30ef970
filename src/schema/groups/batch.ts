/** batch/v1. */
import type { CronJob, Job, JobSpec } from '#api/batch.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import { defaultTemplate, labelAs, setDefault, setDefaultText } from '../defaults.ts';
import { templateColumns } from './apps.ts';
import type { KindRecord } from '../kind.ts';
import {
  ageOf,
  column,
  columns,
  defineKind,
  formatSelector,
  pathText,
  shortDuration,
  statusSubresource,
} from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateCronJob, validateJob } from '../validate-batch.ts';
import { validateJobStatus, validateJobUpdate } from '../validate-job-update.ts';
import { warnOfTemplate } from '../warn-pod.ts';

const status = { status: statusSubresource };

function defaultJobSpec(spec: Draft<JobSpec>): void {
  if (spec.completions === undefined && spec.parallelism === undefined) spec.completions = 1;
  setDefault(spec, 'parallelism', 1);
  setDefault(spec, 'backoffLimit', spec.backoffLimitPerIndex === undefined ? 6 : 2_147_483_647);
  setDefaultText(spec, 'completionMode', 'NonIndexed');
  setDefault(spec, 'suspend', false);
  setDefault(spec, 'manualSelector', false);
  setDefaultText(spec, 'podReplacementPolicy', spec.podFailurePolicy === undefined ? 'TerminatingOrFailed' : 'Failed');
  for (const rule of spec.podFailurePolicy?.rules ?? [])
    for (const pattern of rule.onPodConditions ?? []) setDefaultText(pattern, 'status', 'True');
  defaultTemplate(spec.template);
}

/** A Job without `manualSelector` selects its Pods by its own uid. */
function generateSelector({ spec = {}, metadata = {} }: Draft<Job>): void {
  if (spec.manualSelector === true || spec.template === undefined) return;
  const labels = ((spec.template.metadata ??= {}).labels ??= {});
  const { uid = '', name = '' } = metadata;
  // What the client says otherwise is refused, not replaced.
  for (const prefix of ['', 'batch.kubernetes.io/']) {
    labels[`${prefix}controller-uid`] ??= uid;
    labels[`${prefix}job-name`] ??= name;
  }
  spec.selector ??= {};
  spec.selector.matchLabels = { 'batch.kubernetes.io/controller-uid': uid, ...spec.selector.matchLabels };
}

function jobStatus(o: Job): string {
  const has = (type: string): boolean =>
    (o.status?.conditions ?? []).some((c) => c.type === type && c.status === 'True');
  if (has('Complete')) return 'Complete';
  if (has('Failed')) return 'Failed';
  if (o.metadata.deletionTimestamp) return 'Terminating';
  if (has('Suspended')) return 'Suspended';
  if (has('FailureTarget')) return 'FailureTarget';
  if (has('SuccessCriteriaMet')) return 'SuccessCriteriaMet';
  return 'Running';
}

const jobs = defineKind(kinds.Job, {
  warn: warnOfTemplate((o) => o.spec?.template, { namesPods: true }),
  categories: ['all'],
  subresources: status,
  hasGeneration: true,
  selectableFields: { 'status.successful': pathText('status.succeeded') },
  columns: columns(
    column('Status', jobStatus),
    column('Completions', (o) => {
      const s = o.status?.succeeded ?? 0;
      if (o.spec?.completions !== undefined) return `${s}/${o.spec.completions}`;
      const p = o.spec?.parallelism ?? 0;
      return p > 1 ? `${s}/1 of ${p}` : `${s}/1`;
    }),
    column('Duration', (o, now) =>
      o.status?.startTime === undefined
        ? ''
        : shortDuration(
            (o.status.completionTime ? Date.parse(o.status.completionTime) : now) - Date.parse(o.status.startTime),
          ),
    ),
    ...templateColumns<Job>((o) => o.spec?.template),
    column('Selector', (o) => formatSelector(o.spec?.selector), { wide: true }),
  ),
  defaults(o) {
    defaultJobSpec((o.spec ??= {}));
    labelAs(o, o.spec.template?.metadata?.labels);
  },
  defaultStatus(_status, o) {
    labelAs(o, o.spec?.template?.metadata?.labels);
  },
  templateLabels: (o) => o.spec?.template?.metadata?.labels,
  prepareCreate(o) {
    o.status = {};
    generateSelector(o);
    labelAs(o, o.spec?.template?.metadata?.labels);
  },
  prepareUpdate: resetStatus,
  validate: validateJob,
  validateUpdate: validateJobUpdate,
  validateStatus: validateJobStatus,
});

const cronJobs = defineKind(kinds.CronJob, {
  warn: warnOfTemplate((o) => o.spec?.jobTemplate?.spec?.template, {
    at: 'spec.jobTemplate.spec.template',
    namesPods: true,
  }),
  shortNames: ['cj'],
  categories: ['all'],
  subresources: status,
  hasGeneration: true,
  columns: columns(
    column('Schedule', (o) => o.spec?.schedule),
    column('Timezone', (o) => o.spec?.timeZone ?? '<none>'),
    column('Suspend', (o) => (o.spec?.suspend === true ? 'True' : 'False'), { type: 'boolean' }),
    column('Active', (o) => (o.status?.active ?? []).length, { type: 'integer' }),
    column('Last Schedule', (o, now) =>
      o.status?.lastScheduleTime ? ageOf(o.status.lastScheduleTime, now) : '<none>',
    ),
    ...templateColumns<CronJob>((o) => o.spec?.jobTemplate?.spec?.template),
    column('Selector', (o) => formatSelector(o.spec?.jobTemplate?.spec?.selector), { wide: true }),
  ),
  defaults(o) {
    const spec = (o.spec ??= {});
    setDefaultText(spec, 'concurrencyPolicy', 'Allow');
    setDefault(spec, 'suspend', false);
    setDefault(spec, 'successfulJobsHistoryLimit', 3);
    setDefault(spec, 'failedJobsHistoryLimit', 1);
    if (spec.jobTemplate?.spec) defaultTemplate(spec.jobTemplate.spec.template);
  },
  prepareCreate(o) {
    o.status = {};
  },
  prepareUpdate: resetStatus,
  validate: validateCronJob,
});

export const batchKinds: readonly KindRecord[] = [cronJobs, jobs];
