/** Validation of Events of the core group: the namespaces agree, and new ones say who reports what. */
import type { Event } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { eventNoteBytesMax, eventTextBytesMax } from './limits.ts';
import { sameJson, unchanged } from './validate-values.ts';

/** Namespaces of Events about what has none: those of old clients, and of new ones. */
const homes = { old: ['', 'default'], new: ['default', 'kube-system'] };

export function validateEvent(o: Draft<Event>, errors: FieldErrors): void {
  const { namespace = '' } = o.metadata ?? {};
  const about = o.involvedObject?.namespace ?? '';
  const isNew = Boolean(o.eventTime);
  const agrees = about === '' ? homes[isNew ? 'new' : 'old'].includes(namespace) : isNew || about === namespace;
  if (!agrees) errors.invalid('involvedObject.namespace', about, 'does not match event.namespace');
  if (!isNew) return;
  for (const field of ['reportingInstance', 'action', 'reason'] as const) {
    if (!o[field]) errors.required(field);
    validateLength(o[field], field, eventTextBytesMax, errors);
  }
  validateLength(o.message, 'message', eventNoteBytesMax, errors);
}

/** Who reports an Event that has a time, under the name that the version of the request has for it. */
export function validateReporter(
  { eventTime, reportingComponent = '' }: Draft<Event>,
  at: string,
  errors: FieldErrors,
): void {
  if (!eventTime) return;
  if (reportingComponent === '') errors.required(at);
  for (const problem of qualifiedNameProblems(reportingComponent)) errors.invalid(at, reportingComponent, problem);
}

/** What events.k8s.io/v1 asks of new Events; paths are those of the core group, which Events are kept as. */
export function validateNewEvent(o: Draft<Event>, errors: FieldErrors): void {
  validateSeries(o, errors);
  if (!o.eventTime) errors.required('eventTime');
  if (o.type !== 'Normal' && o.type !== 'Warning') errors.invalid('type', '', `has invalid value: ${o.type ?? ''}`);
  for (const field of ['firstTimestamp', 'lastTimestamp', 'count'] as const)
    if (o[field]) errors.invalid(field, '', 'needs to be unset');
  if (o.source?.component || o.source?.host) errors.invalid('source', '', 'needs to be unset');
}

function validateSeries({ series }: Draft<Event>, errors: FieldErrors): void {
  if (series === undefined) return;
  if ((series.count ?? 0) < 2) errors.invalid('series.count', '', 'should be at least 2');
  if (!series.lastObservedTime) errors.required('series.lastObservedTime');
}

const keptFields = [
  ...(['involvedObject', 'reason', 'message', 'source', 'firstTimestamp', 'lastTimestamp', 'count'] as const),
  ...(['type', 'eventTime', 'action', 'related'] as const),
];

/** Of an Event that is written through events.k8s.io/v1 the series alone may change. */
export function validateEventChange(o: Draft<Event>, old: Event, errors: FieldErrors): void {
  if (!sameJson(o.series, old.series)) validateSeries(o, errors);
  for (const field of keptFields) unchanged(o[field], old[field], field, errors);
  unchanged(o.reportingComponent ?? '', old.reportingComponent ?? '', 'reportingController', errors);
  unchanged(o.reportingInstance ?? '', old.reportingInstance ?? '', 'reportingInstance', errors);
}

function validateLength(text: string | undefined, at: string, most: number, errors: FieldErrors): void {
  if (Buffer.byteLength(text ?? '') > most) errors.invalid(at, '', `can have at most ${most} characters`);
}
