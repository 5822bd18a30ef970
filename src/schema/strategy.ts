/** Strategies that kinds share: what an ordinary update may not touch. */
import type { Json } from '#base/objects.ts';

/** `status` belongs to the status subresource: an ordinary update keeps the stored one. */
export function resetStatus(object: Json, old: Json): void {
  if (old.status === undefined) delete object.status;
  else object.status = structuredClone(old.status);
}
