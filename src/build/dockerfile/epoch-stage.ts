/**
 * A stage that is named by `SOURCE_DATE_EPOCH`: it stands for one file or repository from elsewhere, and for nothing
 * else, so that it has the time of that.
 *
 * Source: BuildKit, its page on reproducible builds and the front end's words.
 */
import { ApiError } from '#base/errors.ts';
import type { Stage } from './parser.ts';

/** Throws BadRequest. `base`: what its FROM names, expanded. */
export function checkEpochStage(stage: Stage, base: string): void {
  const refuse = (what: string): never => {
    throw new ApiError('BadRequest', `SOURCE_DATE_EPOCH stage ${what}`);
  };
  if (base !== 'scratch') refuse('must use FROM scratch');
  const other = stage.instructions.find(({ keyword }) => keyword !== 'ARG' && keyword !== 'ADD');
  if (other !== undefined) refuse(`does not meet source-only requirements: unsupported ${other.keyword} instruction`);
  if (stage.instructions.filter(({ keyword }) => keyword === 'ADD').length !== 1)
    refuse('must contain exactly one remote ADD');
}
