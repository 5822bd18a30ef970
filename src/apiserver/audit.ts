/**
 * The slot of auditing in the request chain (Kubernetes documentation, "Auditing"): whoever is put there is told of
 * each request when it was received and when it is complete. By default that is nobody; which requests are recorded,
 * and how much of them, is a policy's to say.
 */
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import type { Admission } from './flow-control/flow-control.ts';
import type { RequestInfo } from './request-info.ts';

/** What is known of a request; grows on its way. */
export interface AuditEvent {
  readonly request: ApiRequest;
  readonly info: RequestInfo;
  /** Milliseconds since 1970. */
  readonly receivedAtMs: number;
  /** Who asked; undefined while, and where, that is not known. */
  user: UserInfo | undefined;
  /** As whom, where it is somebody else. */
  impersonated: UserInfo | undefined;
  /** What lets it be carried out, once something does. */
  admission: Admission | undefined;
  /** The answer's code; 0 until there is one. */
  code: number;
}

/** Neither waits nor throws: a request does not depend on it. */
export interface Auditor {
  /** Stage RequestReceived, after the request was authenticated or refused. */
  received(event: AuditEvent): void;
  /** Stage ResponseStarted for what lasts, ResponseComplete for everything else. */
  complete(event: AuditEvent): void;
}

export const noAudit: Auditor = { received: () => undefined, complete: () => undefined };
