/** Events of the core group, v1. */
import type { Event, ObjectReference } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf } from '#base/objects.ts';
import { setDefault } from '../defaults.ts';
import { column, defineKind, selectablePath, shortDuration } from '../kind.ts';
import { validateEvent, validateReporter } from '../validate-event.ts';

/** Who says it: its component, and where that runs. */
export function eventSource(component: string | undefined, place: string | undefined): string {
  return place ? `${component ?? ''}, ${place}` : (component ?? '');
}

/** `pod/web` */
export function involved(object: Partial<ObjectReference> | undefined): string {
  const { kind = '', name = '' } = object ?? {};
  return name === '' ? kind.toLowerCase() : `${kind.toLowerCase()}/${name}`;
}

function lastSeen(o: Event, now: number): string {
  const last = o.series?.lastObservedTime ?? o.lastTimestamp ?? o.eventTime ?? o.firstTimestamp;
  return last ? shortDuration(now - Date.parse(last)) : '<unknown>';
}

function firstSeen(o: Event, now: number): string {
  const first = o.firstTimestamp ?? o.eventTime;
  return first ? shortDuration(now - Date.parse(first)) : '<unknown>';
}

export const events = defineKind(kinds.Event, {
  createsOnUpdate: true,
  shortNames: ['ev'],
  nameForm: 'path',
  selectableFields: {
    ...selectablePath('involvedObject.kind'),
    ...selectablePath('involvedObject.namespace'),
    ...selectablePath('involvedObject.name'),
    ...selectablePath('involvedObject.uid'),
    ...selectablePath('involvedObject.apiVersion'),
    ...selectablePath('involvedObject.resourceVersion'),
    ...selectablePath('involvedObject.fieldPath'),
    ...selectablePath('reason'),
    ...selectablePath('type'),
    reportingComponent: (o) => o.reportingComponent || o.source?.component || '',
    source: (o) => o.source?.component || o.reportingComponent || '',
  },
  columns: [
    { name: 'Last Seen', type: 'string', value: lastSeen },
    column('Type', (o) => o.type),
    column('Reason', (o) => o.reason),
    column('Object', (o) => involved(o.involvedObject)),
    column('Subobject', (o) => o.involvedObject?.fieldPath ?? '', { wide: true }),
    column(
      'Source',
      (o) => eventSource(o.source?.component || o.reportingComponent, o.source?.host || o.reportingInstance),
      { wide: true },
    ),
    column('Message', (o) => (o.message ?? '').trim()),
    column('First Seen', firstSeen, { wide: true }),
    column('Count', (o) => (o.series ? (o.series.count ?? 0) : o.count || 1), { wide: true }),
    { ...column('Name', (o) => o.metadata.name, { wide: true }), format: 'name' },
  ],
  defaults(o) {
    o.source ??= {};
    setDefault(o, 'firstTimestamp', null);
    setDefault(o, 'lastTimestamp', null);
    setDefault(o, 'eventTime', null);
    setDefault(o, 'reportingComponent', '');
    setDefault(o, 'reportingInstance', '');
    o.involvedObject ??= {};
  },
  metadataLast: true,
  validate: validateEvent,
  validateKept(o, errors) {
    if (isOf(kinds.Event, o)) validateReporter(o, 'reportingComponent', errors);
  },
});
