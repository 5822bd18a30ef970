/** Nothing leaves the store while it has finalizers. */
import type { Checker } from '../world.ts';

export function finalizersHonoured(): Checker {
  const name = 'finalizers-honoured';
  return {
    name,
    onCommit({ key, object, previous }, world) {
      const left = previous?.metadata.finalizers ?? [];
      if (object === undefined && left.length > 0) {
        // The write that takes the last finalizer off may be the removal itself: then no finalizer but one was left.
        if (left.length > 1) world.report(name, `${key} was removed with finalizers ${left.join(', ')}`);
        else if (previous!.metadata.deletionTimestamp === undefined) world.report(name, `${key} was removed with finalizer ${left[0]} without having been deleted`);
      }
    },
  };
}
