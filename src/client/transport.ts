/**
 * What a transport does for the client: one request and its answer, or a watch. `rest-client.ts` makes verbs of it.
 * Failures are `ApiError`s: an answer of 400 and above as its Status says, no answer at all as ServiceUnavailable.
 */
import { ApiError, reasonOf, type Reason } from '#base/errors.ts';
import type { KubeStatus, WatchEvent } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';

export interface TransportRequest {
  method: string;
  path: string;
  query?: URLSearchParams;
  /** Parsed JSON to send. */
  body?: unknown;
  contentType?: string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

export interface Transport extends AsyncDisposable {
  /** An object, a list, or what else the path answers with. */
  send(request: TransportRequest): Promise<object>;
  /** Events that have come together are handed over together. */
  watch(request: TransportRequest): AsyncIterable<WatchEvent[]>;
}

const reasonByCode: Record<number, Reason> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  406: 'NotAcceptable',
  409: 'Conflict',
  410: 'Gone',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** The answer of a server that said no more than that. */
export function plainStatus(status: KubeStatus['status'], message?: string): KubeStatus {
  return { apiVersion: 'v1', kind: 'Status', metadata: {}, status, ...(message === undefined ? {} : { message }) };
}

/** What answers with an error says: a Status, of which a server may leave out any part. */
function isStatus(answer: unknown): answer is Partial<KubeStatus> {
  return isObject(answer);
}

/** The error that an answer of 400 and above stands for. */
export function errorOfStatus(code: number, answer: unknown, text?: string): ApiError {
  const status = isStatus(answer) ? answer : undefined;
  return new ApiError(
    status?.reason === undefined ? (reasonByCode[code] ?? 'Unknown') : reasonOf(status.reason),
    status?.message ?? text ?? `the server answered ${code}`,
    status?.details,
    status?.code ?? code,
  );
}
