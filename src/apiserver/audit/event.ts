/** An audit event as it is written: `audit.k8s.io/v1` Event. */
import type { UserInfo } from '#base/api-request.ts';
import type { JsonObject } from '#base/unknown.ts';
import type { Level, Stage } from './policy.ts';

export interface AuditedUser {
  username?: string;
  uid?: string;
  groups?: readonly string[];
  extra?: Readonly<Record<string, readonly string[]>>;
}

export interface ObjectReference {
  resource?: string;
  namespace?: string;
  name?: string;
  uid?: string;
  apiGroup?: string;
  apiVersion?: string;
  resourceVersion?: string;
  subresource?: string;
}

export interface Event {
  kind: 'Event';
  apiVersion: 'audit.k8s.io/v1';
  level: Level;
  auditID: string;
  stage: Stage;
  requestURI: string;
  verb: string;
  user: AuditedUser;
  impersonatedUser?: AuditedUser;
  sourceIPs?: readonly string[];
  userAgent?: string;
  objectRef?: ObjectReference;
  responseStatus?: JsonObject;
  requestObject?: unknown;
  responseObject?: unknown;
  requestReceivedTimestamp: string;
  stageTimestamp: string;
  annotations?: Readonly<Record<string, string>>;
}

export function auditedUser(user: UserInfo | undefined): AuditedUser {
  if (user === undefined) return {};
  return {
    username: user.name,
    ...(user.uid === undefined ? {} : { uid: user.uid }),
    ...(user.groups.length === 0 ? {} : { groups: user.groups }),
    ...(user.extra === undefined || Object.keys(user.extra).length === 0 ? {} : { extra: user.extra }),
  };
}

/** Microseconds, as upstream's MicroTime. */
export const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z');

const listed = (list: readonly string[] | undefined, none: string): string =>
  list === undefined || list.length === 0 ? none : list.map((each) => JSON.stringify(each)).join(',');

/** The format `legacy`: one line of words. */
export function legacyLine(event: Event): string {
  const { user, impersonatedUser: as, responseStatus } = event;
  const quoted = (value: string | undefined): string => JSON.stringify(value ?? '');
  return [
    `${event.requestReceivedTimestamp} AUDIT: id=${quoted(event.auditID)}`,
    `stage=${quoted(event.stage)}`,
    `ip=${quoted(event.sourceIPs?.[0] ?? '<unknown>')}`,
    `method=${quoted(event.verb)}`,
    `user=${quoted(user.username ?? '<none>')}`,
    `groups=${quoted(listed(user.groups, '<none>'))}`,
    `as=${quoted(as?.username ?? '<self>')}`,
    `asgroups=${quoted(as === undefined ? '<lookup>' : listed(as.groups, ''))}`,
    `user-agent=${quoted(event.userAgent)}`,
    `namespace=${quoted(event.objectRef?.namespace ?? '<none>')}`,
    `uri=${quoted(event.requestURI)}`,
    `response="${responseStatus === undefined ? '<deferred>' : String(responseStatus.code)}"`,
  ].join(' ');
}
