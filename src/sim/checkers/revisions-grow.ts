/** Revisions only grow, and each transaction has one of its own. */
import type { Checker } from '../world.ts';

export function revisionsGrow(): Checker {
  const name = 'revisions-grow';
  return {
    name,
    onCommit({ revision, key }, world) {
      if (revision < world.revision) world.report(name, `${key} was committed at ${revision} after ${world.revision}`);
    },
  };
}
