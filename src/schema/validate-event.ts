/** Validation of Events of the core group: the namespaces agree, and new ones say who reports what. */
import type { Event } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { eventNoteBytesMax, eventTextBytesMax } from './limits.ts';

/** Namespaces of Events about what has none: those of old clients, and of new ones. */
const homes = { old: ['', 'default'], new: ['default', 'kube-system'] };

export function validateEvent(o: Draft<Event>, errors: FieldErrors): void {
  const { namespace = '' } = o.metadata ?? {};
  const about = o.involvedObject?.namespace ?? '';
  const isNew = Boolean(o.eventTime);
  const agrees = about === '' ? homes[isNew ? 'new' : 'old'].includes(namespace) : isNew || about === namespace;
  if (!agrees) errors.invalid('involvedObject.namespace', about, 'does not match event.namespace');
  if (!isNew) return;
  const { reportingComponent = '' } = o;
  if (reportingComponent === '') errors.required('reportingComponent');
  for (const problem of qualifiedNameProblems(reportingComponent))
    errors.invalid('reportingComponent', reportingComponent, problem);
  for (const field of ['reportingInstance', 'action', 'reason'] as const) {
    if (!o[field]) errors.required(field);
    validateLength(o[field], field, eventTextBytesMax, errors);
  }
  validateLength(o.message, 'message', eventNoteBytesMax, errors);
}

function validateLength(text: string | undefined, at: string, most: number, errors: FieldErrors): void {
  if (Buffer.byteLength(text ?? '') > most) errors.invalid(at, '', `can have at most ${most} characters`);
}
