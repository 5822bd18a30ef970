/**
 * No acknowledged write is lost, and no read goes back in time: a consistent read that begins after a client was told
 * of a write shows it or something newer, and never an older version than any read before. What was acknowledged as
 * made is there until somebody asked to delete it, and what was acknowledged as deleted is gone for good. Of additions
 * that were each made on top of what was read, none overwrites another.
 */
import { isReason } from '#base/errors.ts';
import type { ConfigMap } from '#api/core.v1.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Checker, World } from '../world.ts';

export interface Writes extends Checker {
  /** A write of this value (values only grow) was acknowledged. */
  acknowledged(name: string, value: number): void;
  made(name: string, uid: string): void;
  /** Somebody asks for its deletion: from now on it may be gone. */
  leaving(name: string): void;
  deleted(name: string, uid: string): void;
  /** An addition of one to `data.value`; undefined: nobody answered, it may be done. */
  added(name: string, isDone: true | undefined): void;
}

interface Known {
  value: number;
  version: number;
}

const valueOf = (object: ConfigMap | undefined): number => Number(object?.data?.['value'] ?? -1);
const wentAway = (error: unknown): undefined => {
  if (!isReason(error, 'ServiceUnavailable', 'NotFound')) throw error;
  return undefined;
};

/** ConfigMaps in `default`. */
export function writesKept(): Writes {
  const name = 'writes-kept';
  const known = new Map<string, Known>();
  const there = new Map<string, string>();
  const gone = new Map<string, string>();
  const sums = new Map<string, { done: number; unknown: number }>();
  let reader: Client | undefined;
  let ticks = 0;

  const see = (object: ConfigMap, least: ReadonlyMap<string, Known>, world: World): void => {
    const which = object.metadata.name;
    const before = least.get(which);
    const now = { value: valueOf(object), version: Number(object.metadata.resourceVersion) };
    if (before !== undefined && now.value < before.value)
      world.report(name, `ConfigMap ${which} was read as ${now.value}; ${before.value} was acknowledged`);
    if (before !== undefined && now.version < before.version)
      world.report(name, `ConfigMap ${which} was read at ${now.version} after ${before.version}`);
    if (before === undefined || now.version < before.version) return;
    const held = known.get(which) ?? now;
    known.set(which, { value: Math.max(held.value, now.value), version: Math.max(held.version, now.version) });
  };
  const copy = (): Map<string, Known> => new Map([...known].map(([which, value]) => [which, { ...value }]));
  const readerOf = (world: World): Client => (reader ??= world.cluster.connect('reader').client);
  /** One list shows everything that was acknowledged when it began. */
  const look = async (world: World): Promise<void> => {
    const client = readerOf(world);
    const [least, made, deleted] = [copy(), new Map(there), new Map(gone)];
    const list = await client.list(kinds.ConfigMap, { namespace: 'default' }).catch(wentAway);
    if (list === undefined) return;
    const byName = new Map(list.items.map((object) => [object.metadata.name, object]));
    for (const [which, { value }] of least) {
      const object = byName.get(which);
      if (object === undefined) world.report(name, `ConfigMap ${which} is not there; ${value} was acknowledged`);
      else see(object, least, world);
    }
    for (const [which, uid] of made)
      if (there.has(which) && byName.get(which)?.metadata.uid !== uid)
        world.report(name, `ConfigMap ${which} was made and is not there`);
    for (const [which, uid] of deleted)
      if (byName.get(which)?.metadata.uid === uid) world.report(name, `ConfigMap ${which} was deleted and is there`);
  };
  return {
    name,
    acknowledged(object, value) {
      const held = known.get(object);
      known.set(object, { value: Math.max(held?.value ?? 0, value), version: held?.version ?? 0 });
    },
    made(object, uid) {
      there.set(object, uid);
    },
    leaving(object) {
      there.delete(object);
    },
    deleted(object, uid) {
      gone.set(object, uid);
    },
    added(object, isDone) {
      const sum = sums.get(object) ?? { done: 0, unknown: 0 };
      sum[isDone === true ? 'done' : 'unknown']++;
      sums.set(object, sum);
    },
    async onTick(world) {
      if (ticks++ % 2 === 0) {
        await look(world);
        return;
      }
      // The same over the users' own network, which may be slow.
      const least = copy();
      const [which] = [...least.keys()].slice(ticks % Math.max(1, least.size));
      const object =
        which === undefined
          ? undefined
          : await world.cluster.client.get(kinds.ConfigMap, which, 'default').catch(wentAway);
      if (object !== undefined) see(object, least, world);
    },
    async atRest(world) {
      await look(world);
      for (const [which, { done, unknown }] of sums) {
        const value = valueOf(await readerOf(world).get(kinds.ConfigMap, which, 'default').catch(wentAway));
        if (value < done || value > done + unknown)
          world.report(
            name,
            `ConfigMap ${which} holds ${value} after ${done} additions and ${unknown} that nobody answered`,
          );
      }
    },
  };
}
