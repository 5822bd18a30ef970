/** What chance chooses in a simulation: all of it is the seed's. */
import type { Random } from '#os/clock.ts';

/** One of a list, each as likely. Throws for an empty list. */
export function pick<T>(random: Random, list: readonly T[]): T {
  const at = Math.floor(random.float() * list.length);
  const [found] = list.slice(at, at + 1);
  if (found === undefined) throw new Error('there is nothing to pick from');
  return found;
}

/** A whole number, both bounds included. */
export function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random.float() * (most - least + 1));
}
