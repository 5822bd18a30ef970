/**
 * Auditing (Kubernetes, "Auditing"): who asked for what and when, and what became of it, as events for the backends.
 * A request whose policy says None costs one look through the policy, and nothing where nobody audits.
 */
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { groupVersionOf } from '#base/objects.ts';
import { fieldOf, isObject, textOf, type JsonObject } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import type { Counter, Family, Metrics } from '#observe/metrics.ts';
import type { Clock, Random } from '#os/clock.ts';
import { decodeMessage, unwrapMessage } from '#schema/protobuf-decode.ts';
import { protobufMediaType } from '#schema/protobuf.ts';
import { typeOf } from '#schema/types.ts';
import { auditIdCharsMax, userAgentCharsMax } from '../limits.ts';
import type { RequestInfo } from '../request-info.ts';
import { auditedUser, microTime, type Event, type ObjectReference } from './event.ts';
import { recordingOf, withoutManagedFields, type AuditPolicy, type Recording, type Stage } from './policy.ts';

/** Where events go. */
export interface AuditBackend extends AsyncDisposable {
  readonly name: string;
  /** Whether the event was taken; whoever insists on that may refuse the request. */
  take(event: Event): boolean;
  /** A request whose first event is not taken is refused (`blocking-strict`). */
  readonly isStrict: boolean;
}

export interface AuditOptions {
  policy: AuditPolicy;
  backends: readonly AuditBackend[];
  clock: Clock;
  random: Random;
  metrics: Metrics;
}

/** One request, from when it is known who asks. */
export class AuditRecord {
  readonly id: string;
  readonly recording: Recording;
  impersonated: UserInfo | undefined;
  annotations: Record<string, string> | undefined;
  readonly #failures: object[] = [];

  constructor(id: string, recording: Recording) {
    this.id = id;
    this.recording = recording;
  }

  /** The first value of a key holds. */
  annotate(key: string, value: string): void {
    this.annotations ??= {};
    this.annotations[key] ??= value;
  }

  /** Another value of a key that may have several. */
  append(key: string, value: string): void {
    const before = this.annotations?.[key];
    this.annotations = { ...this.annotations, [key]: before === undefined ? value : `${before}, ${value}` };
  }

  /** A policy whose binding is to be audited, and what it found. */
  appendFailure(failure: object): void {
    this.#failures.push(failure);
    const key = 'validation.policy.admission.k8s.io/validation_failure';
    this.annotations = { ...this.annotations, [key]: JSON.stringify(this.#failures) };
  }
}

export interface Audited {
  request: ApiRequest;
  info: RequestInfo;
  /** Undefined where it is not known who asks. */
  user: UserInfo | undefined;
  /** Milliseconds since 1970. */
  receivedAtMs: number;
}

export type Outcome = { answer: ApiResponse } | { error: ApiError } | { message: string; code: number };

export class Auditor {
  readonly #options: AuditOptions;
  readonly #events: Counter;
  readonly #refused: Counter;
  readonly #levels: Family<Counter>;

  constructor(options: AuditOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#events = metrics.counter({ name: 'apiserver_audit_event_total', help: 'Audit events that were made.' }).of();
    this.#refused = metrics
      .counter({
        name: 'apiserver_audit_requests_rejected_total',
        help: 'Requests refused as they could not be audited.',
      })
      .of();
    this.#levels = metrics.counter({
      name: 'apiserver_audit_level_total',
      help: 'Requests by the level of their policy.',
      labels: ['level'],
    });
  }

  /** Undefined where the policy says None. Throws InternalError where a backend insists on what it cannot take. */
  begin(audited: Audited): AuditRecord | undefined {
    const record = this.#recordOf(audited);
    if (record === undefined || audited.user === undefined) return record;
    if (this.#emit(record, audited, 'RequestReceived')) return record;
    this.#refused.add();
    throw new ApiError('InternalError', 'Internal error occurred: failed to store audit event');
  }

  #recordOf({ request, info, user }: Audited): AuditRecord | undefined {
    const recording = recordingOf(this.#options.policy, user, info);
    this.#levels.of(recording.level).add();
    if (recording.level === 'None') return undefined;
    const given = request.headers['audit-id'] ?? '';
    return new AuditRecord(given === '' ? this.#options.random.uuid() : given.slice(0, auditIdCharsMax), recording);
  }

  end(record: AuditRecord, audited: Audited, stage: Stage, outcome: Outcome): void {
    this.#emit(record, audited, stage, outcome);
  }

  /** Whether all who insist have taken it. */
  #emit(record: AuditRecord, audited: Audited, stage: Stage, outcome?: Outcome): boolean {
    if (record.recording.omitStages.has(stage)) return true;
    const event = this.#eventOf(record, audited, stage, outcome);
    this.#events.add();
    let isTaken = true;
    for (const backend of this.#options.backends) isTaken = (backend.take(event) || !backend.isStrict) && isTaken;
    return isTaken;
  }

  #eventOf(record: AuditRecord, audited: Audited, stage: Stage, outcome: Outcome | undefined): Event {
    const { request, info, user, receivedAtMs } = audited;
    const { level, omitManagedFields } = record.recording;
    const query = request.query.toString();
    const shown = (object: unknown): unknown => (omitManagedFields ? withoutManagedFields(object) : object);
    const asked = outcome === undefined || !info.isResource ? undefined : bodyOf(request);
    const [status, answered] = outcome === undefined ? [] : resultOf(outcome, level === 'RequestResponse');
    const agent = request.headers['user-agent'] ?? '';
    return {
      kind: 'Event',
      apiVersion: 'audit.k8s.io/v1',
      level,
      auditID: record.id,
      stage,
      requestURI: query === '' ? request.path : `${request.path}?${query}`,
      verb: info.verb,
      user: auditedUser(user),
      ...(record.impersonated === undefined ? {} : { impersonatedUser: auditedUser(record.impersonated) }),
      sourceIPs: sourcesOf(request),
      ...(agent === '' ? {} : { userAgent: shortened(agent) }),
      ...(info.isResource ? { objectRef: referenceOf(info, asked) } : {}),
      ...(status === undefined ? {} : { responseStatus: status }),
      ...(asked === undefined || level === 'Metadata' ? {} : { requestObject: shown(asked) }),
      ...(answered === undefined || stage !== 'ResponseComplete' ? {} : { responseObject: shown(answered) }),
      requestReceivedTimestamp: microTime(receivedAtMs),
      stageTimestamp: microTime(this.#options.clock.now()),
      ...(record.annotations === undefined ? {} : { annotations: { ...record.annotations } }),
    };
  }
}

const shortened = (agent: string): string =>
  agent.length > userAgentCharsMax ? `${agent.slice(0, userAgentCharsMax)}...TRUNCATED` : agent;

/** Those who passed the request on, and who sent it. */
function sourcesOf({ headers, remoteAddress = '' }: ApiRequest): string[] {
  const forwarded = (headers['x-forwarded-for'] ?? '').split(',').map((each) => each.trim());
  const all = [...forwarded, headers['x-real-ip'] ?? '', remoteAddress].filter((each) => each !== '');
  return [...new Set(all)];
}

function referenceOf(info: RequestInfo, asked: unknown): ObjectReference {
  const named = info.name === '' ? textOf(asked, 'metadata', 'name') : info.name;
  const uid = textOf(asked, 'metadata', 'uid');
  const resourceVersion = textOf(asked, 'metadata', 'resourceVersion');
  const all = {
    resource: info.resource,
    namespace: info.resource === 'namespaces' ? info.name : info.namespace,
    name: named,
    uid,
    apiGroup: info.group,
    apiVersion: info.version,
    resourceVersion,
    subresource: info.subresource,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined && value !== ''));
}

/** What was sent, as a value; undefined for what cannot be read: the request was refused for it. */
function bodyOf(request: ApiRequest): unknown {
  if (request.object !== undefined) return request.object;
  if (request.body === undefined || request.body.length === 0) return undefined;
  return valueOf(request.body, request.headers['content-type'] ?? '');
}

function valueOf(body: Uint8Array, contentType: string): unknown {
  const type = (contentType.split(';', 1)[0] ?? '').trim().toLowerCase();
  const text = (): string => Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8');
  try {
    if (type !== protobufMediaType) return type.endsWith('yaml') ? parseYaml(text()) : JSON.parse(text());
    const { apiVersion, kind, message } = unwrapMessage(body);
    const { group, version } = groupVersionOf(apiVersion);
    const node = typeOf(`${group === '' ? 'core' : (group.split('.')[0] ?? '')}.${version}/${kind}`);
    return { apiVersion, kind, ...decodeMessage(node, message) };
  } catch {
    return undefined; // the request is refused for it, or there is no such structure
  }
}

/** The status, and the object where it is asked for. */
function resultOf(outcome: Outcome, withObject: boolean): [status: JsonObject, object?: unknown] {
  if ('message' in outcome) return [{ metadata: {}, status: 'Failure', message: outcome.message, code: outcome.code }];
  if ('error' in outcome) {
    const { metadata, status, message, reason, details, code } = outcome.error.toStatus();
    const shown = { metadata, status, message, reason, ...(details === undefined ? {} : { details }), code };
    return [shown, withObject ? outcome.error.toStatus() : undefined];
  }
  const { answer } = outcome;
  const status = { metadata: {}, code: answer.status };
  if (!withObject) return [status];
  if (answer.object !== undefined) return [status, answer.object];
  if (!(answer.body instanceof Uint8Array)) return [status];
  const object = valueOf(answer.body, answer.headers['content-type'] ?? '');
  return [fieldOf(object, 'kind') === 'Status' && isObject(object) ? { ...status, ...object } : status, object];
}
