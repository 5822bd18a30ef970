/** What parts ask of the API server, as checkers read it: bodies are what a client sent, and may be anything. */
import type { TransportRequest } from '#client/transport.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';

/** The UID and version that a deletion is made to hold for. */
export function preconditionsOf({ method, body }: TransportRequest): {
  uid: string | undefined;
  resourceVersion: string | undefined;
} {
  const sent = method === 'DELETE' ? fieldOf(body, 'preconditions') : undefined;
  return { uid: textOf(sent, 'uid'), resourceVersion: textOf(sent, 'resourceVersion') };
}

/** Who will control the Pod that is to be made; undefined for all other requests, and for a Pod by itself. */
export function ownerOfNewPod({ method, path, body }: TransportRequest): { kind: string; uid: string } | undefined {
  if (method !== 'POST' || !path.endsWith('/pods')) return undefined;
  const owner = itemsOf(fieldOf(body, 'metadata', 'ownerReferences')).find(
    (reference) => fieldOf(reference, 'controller') === true,
  );
  const [kind, uid] = [textOf(owner, 'kind'), textOf(owner, 'uid')];
  return kind === undefined || uid === undefined ? undefined : { kind, uid };
}
