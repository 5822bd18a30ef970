/** Strategies that kinds share: what an ordinary update may not touch. */

/** `status` belongs to the status subresource: an ordinary update keeps the stored one. */
export function resetStatus(object: { status?: unknown }, old: { status?: unknown }): void {
  if (old.status === undefined) delete object.status;
  else object.status = structuredClone(old.status);
}
