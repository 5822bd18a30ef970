/** Objects that the server itself looks at, each by its kind and name. */
import type { KindRef, KubeObject } from '#base/objects.ts';
import type { Server } from './context.ts';
import { fromStored, storageKey } from './stored-objects.ts';

/** An object as it is stored now, frozen; undefined where there is none. */
export async function lookUp<T extends KubeObject>(
  { kinds, objects, store }: Server,
  ref: KindRef<T>,
  name: string,
  namespace = '',
): Promise<T | undefined> {
  const kind = kinds.builtIn(ref);
  const stored = await store.get(storageKey(kind, namespace, name));
  return stored === undefined ? undefined : fromStored(kind, objects.view(stored));
}
