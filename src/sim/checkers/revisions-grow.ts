/**
 * Revisions only grow, and each transaction has one of its own; so does each object's generation, and while it is there
 * it keeps its UID and the time it was made (Kubernetes documentation, "API Concepts", Resource versions; API
 * reference, ObjectMeta).
 */
import type { KubeObject } from '#base/objects.ts';
import type { Checker } from '../world.ts';

export function revisionsGrow(): Checker {
  const name = 'revisions-grow';
  /** Keys of the newest transaction. */
  const keys = new Set<string>();
  const judge = (key: string, { metadata: now }: KubeObject, { metadata: before }: KubeObject): string | undefined => {
    if (now.uid !== before.uid) return `${key} turned from ${before.uid} into ${now.uid}`;
    if ((now.generation ?? 0) < (before.generation ?? 0))
      return `generation of ${key} fell from ${before.generation} to ${now.generation}`;
    return now.creationTimestamp === before.creationTimestamp
      ? undefined
      : `${key} was made at ${before.creationTimestamp}, and then at ${now.creationTimestamp}`;
  };
  return {
    name,
    onCommit({ revision, key, object, previous }, world) {
      if (revision < world.revision) world.report(name, `${key} was committed at ${revision} after ${world.revision}`);
      if (revision > world.revision) keys.clear();
      if (keys.has(key)) world.report(name, `${key} was committed twice at ${revision}`);
      keys.add(key);
      const problem = object === undefined || previous === undefined ? undefined : judge(key, object, previous);
      if (problem !== undefined) world.report(name, problem);
    },
  };
}
