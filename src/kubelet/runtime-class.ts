/**
 * A Pod's RuntimeClass: this node has one runtime, and a Pod that asks for another one (a sandbox of virtual machines,
 * say) must not run without it.
 */
import type { Pod } from '#api/core.v1.ts';
import { ApiError, isReason } from '#base/errors.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';

/** Names under which the node's runtime is asked for. */
const handlers = new Set(['', 'runc', 'crun']);

export async function checkRuntimeClass(pod: Pod, client: Pick<Client, 'get'>): Promise<void> {
  const name: string | undefined = pod.spec.runtimeClassName;
  if (name === undefined || name === '') return;
  const found = await client.get(kinds.RuntimeClass, name).catch((error: unknown) => {
    if (isReason(error, 'NotFound')) return undefined;
    throw error;
  });
  if (found === undefined)
    throw new ApiError('NotFound', `failed to get sandbox runtime: RuntimeClass "${name}" not found`);
  const handler = found.handler ?? '';
  if (!handlers.has(handler))
    throw new ApiError('BadRequest', `failed to get sandbox runtime: no runtime for "${handler}" is configured`);
}
