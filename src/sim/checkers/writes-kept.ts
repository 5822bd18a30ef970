/** No acknowledged write is lost: what a client was told is committed is there at the end. */
import { kinds } from '#client/kinds.ts';
import type { Checker, World } from '../world.ts';

export interface Writes extends Checker { acknowledged(name: string, value: number): void }

/** ConfigMaps `write-N` in `default` whose `data.value` only grows. */
export function writesKept(): Writes {
  const name = 'writes-kept';
  const known = new Map<string, number>();
  return {
    name,
    acknowledged(object, value) { known.set(object, Math.max(known.get(object) ?? 0, value)); },
    async atRest(world: World) {
      for (const [object, value] of known) {
        const held = await world.cluster.client.get(kinds.ConfigMap, object, 'default').catch(() => undefined);
        if (Number(held?.['data']?.value ?? -1) < value) world.report(name, `ConfigMap ${object} holds ${held?.['data']?.value ?? 'nothing'}; ${value} was acknowledged`);
      }
    },
  };
}
