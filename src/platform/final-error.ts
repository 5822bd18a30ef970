/** A process of the platform that cannot do its work, now or later: what no further start mends. */
import { ApiError } from '#base/errors.ts';

/** Its supervisor is told not to try again (`supervise.sh`). */
export class FinalError extends ApiError {}

export const finalExitCode = 64;
