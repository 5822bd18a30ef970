/** events.k8s.io/v1. */
import { kinds } from '#base/kinds.ts';
import { isOf } from '#base/objects.ts';
import type { OpenObject } from '#base/objects.ts';
import { setDefault } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { eventSource, involved } from './core-events.ts';
import { validateEventChange, validateNewEvent, validateReporter } from '../validate-event.ts';
import { ageOf, column, defineKind, pathText, shortDuration } from '../kind.ts';

/** core/v1 Event ↔ events.k8s.io/v1 Event, which are one object under two names. */
function eventFromCore(o: OpenObject): OpenObject {
  const { involvedObject, source, message, firstTimestamp, lastTimestamp, count, reportingComponent, ...rest } = o;
  return {
    ...rest,
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: o.metadata,
    regarding: involvedObject,
    note: message,
    deprecatedSource: source,
    deprecatedFirstTimestamp: firstTimestamp,
    deprecatedLastTimestamp: lastTimestamp,
    ...(count === undefined ? {} : { deprecatedCount: count }),
    reportingController: reportingComponent,
  };
}

function eventToCore(o: OpenObject): OpenObject {
  const {
    regarding,
    note,
    deprecatedSource,
    deprecatedFirstTimestamp,
    deprecatedLastTimestamp,
    deprecatedCount,
    reportingController,
    ...rest
  } = o;
  return {
    ...rest,
    apiVersion: 'v1',
    kind: 'Event',
    metadata: o.metadata,
    involvedObject: regarding ?? {},
    source: deprecatedSource ?? {},
    firstTimestamp: deprecatedFirstTimestamp ?? null,
    lastTimestamp: deprecatedLastTimestamp ?? null,
    ...(note === undefined ? {} : { message: note }),
    ...(deprecatedCount === undefined ? {} : { count: deprecatedCount }),
    reportingComponent: reportingController ?? '',
  };
}

export const eventsKinds: readonly KindRecord[] = [
  defineKind(kinds.EventsV1Event, {
    createsOnUpdate: true,
    shortNames: ['ev'],
    storage: { group: '', resource: 'events', version: 'v1', kind: 'Event' },
    fromStored: eventFromCore,
    toStored: eventToCore,
    selectableFields: {
      'regarding.kind': pathText('involvedObject.kind'),
      'regarding.namespace': pathText('involvedObject.namespace'),
      'regarding.name': pathText('involvedObject.name'),
      'regarding.uid': pathText('involvedObject.uid'),
      'regarding.apiVersion': pathText('involvedObject.apiVersion'),
      'regarding.resourceVersion': pathText('involvedObject.resourceVersion'),
      'regarding.fieldPath': pathText('involvedObject.fieldPath'),
      reason: pathText('reason'),
      type: pathText('type'),
      reportingController: (o) => pathText('reportingComponent')(o) || pathText('source.component')(o),
    },
    columns: [
      {
        name: 'Last Seen',
        type: 'string',
        value: (o, now) => {
          const t =
            o.series?.lastObservedTime ?? o.deprecatedLastTimestamp ?? o.eventTime ?? o.deprecatedFirstTimestamp;
          return t ? shortDuration(now - Date.parse(t)) : '<unknown>';
        },
      },
      column('Type', (o) => o.type),
      column('Reason', (o) => o.reason),
      column('Object', (o) => involved(o.regarding)),
      column('Subobject', (o) => o.regarding?.fieldPath ?? '', { wide: true }),
      column(
        'Source',
        (o) =>
          eventSource(
            o.deprecatedSource?.component || o.reportingController,
            o.deprecatedSource?.host || o.reportingInstance,
          ),
        { wide: true },
      ),
      column('Message', (o) => String(o.note ?? '').trim()),
      column('First Seen', (o, now) => ageOf(o.deprecatedFirstTimestamp ?? o.eventTime ?? undefined, now), {
        wide: true,
      }),
      column('Count', (o) => (o.series ? (o.series.count ?? 0) : o.deprecatedCount || 1), { wide: true }),
      { ...column('Name', (o) => o.metadata.name, { wide: true }), format: 'name' },
    ],
    defaults(o) {
      setDefault(o, 'eventTime', null);
    },
    validateKept(o, errors, old) {
      if (!isOf(kinds.Event, o)) return;
      validateReporter(o, 'reportingController', errors);
      if (old === undefined) validateNewEvent(o, errors);
      else if (isOf(kinds.Event, old)) validateEventChange(o, old, errors);
    },
  }),
];
