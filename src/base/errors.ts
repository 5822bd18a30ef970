/**
 * The one error type that crosses an API. An `ApiError` carries what both worlds need and renders itself:
 * as a Kubernetes `Status` (API conventions, "Response Status Kind") or as Docker's `{message}`.
 * Programmer errors are not ApiErrors: they are plain `Error`s and become a 500.
 */
import type { KubeStatus, StatusCause } from '#base/objects.ts';

export type Reason =
  | 'Unauthorized'
  | 'Forbidden'
  | 'NotFound'
  | 'AlreadyExists'
  | 'Conflict'
  | 'Gone'
  | 'Invalid'
  | 'ServerTimeout'
  | 'Timeout'
  | 'TooManyRequests'
  | 'BadRequest'
  | 'MethodNotAllowed'
  | 'NotAcceptable'
  | 'RequestEntityTooLarge'
  | 'UnsupportedMediaType'
  | 'InternalError'
  | 'Expired'
  | 'ServiceUnavailable'
  | 'Unknown';

/** The reason that somebody else's Status gives: any text may be one, and goes on as it came. */
export function reasonOf(text: string): Reason {
  return text as Reason;
}

const codeOf: Record<Reason, number> = {
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  AlreadyExists: 409,
  Conflict: 409,
  Gone: 410,
  Invalid: 422,
  ServerTimeout: 500,
  Timeout: 504,
  TooManyRequests: 429,
  BadRequest: 400,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  InternalError: 500,
  Expired: 410,
  ServiceUnavailable: 503,
  Unknown: 500,
};

export interface ErrorDetails {
  name?: string;
  group?: string;
  kind?: string;
  uid?: string;
  causes?: StatusCause[];
  retryAfterSeconds?: number;
  /** With what a list may be continued, although this was refused; in the metadata of the Status. */
  continue?: string;
}

export class ApiError extends Error {
  readonly reason: Reason;
  readonly code: number;
  readonly details: ErrorDetails | undefined;

  constructor(reason: Reason, message: string, details?: ErrorDetails, code: number = codeOf[reason]) {
    super(message);
    this.name = 'ApiError';
    this.reason = reason;
    this.code = code;
    this.details = details;
  }

  /** The Kubernetes `Status` object for this error. */
  toStatus(): KubeStatus {
    const { continue: token, ...details } = this.details ?? {};
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: token === undefined ? {} : { continue: token },
      status: 'Failure',
      message: this.message,
      ...(this.reason === 'Unknown' ? {} : { reason: this.reason }),
      ...(Object.keys(details).length === 0 ? {} : { details }),
      code: this.code,
    };
  }

  /** Docker Engine API error body: `{message}`. */
  toDocker(): { message: string } {
    return { message: this.message };
  }
}

/** True for an ApiError of one of these reasons. */
export function isReason(error: unknown, ...reasons: Reason[]): error is ApiError {
  return error instanceof ApiError && reasons.includes(error.reason);
}

/** Where Node's words differ from those that everybody else prints (errno(3)). */
const errnoWords: Record<string, string> = {
  EEXIST: 'file exists',
  EISDIR: 'is a directory',
  ELOOP: 'too many levels of symbolic links',
  ENAMETOOLONG: 'file name too long',
  ENOTEMPTY: 'directory not empty',
};

/** `ENOENT: no such file or directory, stat '/x'` in the order of the field: `stat /x: no such file or directory`. */
function wordSystemError(error: Error): string {
  const found = /^(E[A-Z0-9]+): (.*?), (\w+)(?: '(.*)')?$/s.exec(error.message);
  if (found === null) return error.message;
  const [, code = '', words = '', call = '', path] = found;
  return `${call}${path === undefined ? '' : ` ${path.replace("' -> '", ' ')}`}: ${errnoWords[code] ?? words}`;
}

/** Any thrown value as an ApiError; what is not one becomes an InternalError that keeps the cause. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const made = new ApiError('InternalError', error instanceof Error ? wordSystemError(error) : String(error));
  made.cause = error;
  return made;
}
