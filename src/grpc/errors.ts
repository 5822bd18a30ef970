/** What a call of gRPC fails with. Source: gRPC's documentation, "Status codes and their use in gRPC". */
import type { Message } from './fields.ts';

/**
 * Codes that are sent or told apart. What a build found wrong has none of its own (`unknown`): clients show the words.
 */
export const code = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

export class GrpcError extends Error {
  readonly status: number;
  /** As they came: who passes the error on passes them on. */
  readonly details: readonly Message[];
  constructor(status: number, message: string, details: readonly Message[] = []) {
    super(message);
    this.name = 'GrpcError';
    this.status = status;
    this.details = details;
  }
}
