/** At no time do two candidates lead. The candidates are part of the workload; they tell when they start and stop. */
import type { Checker, World } from '../world.ts';

export interface Leaders extends Checker {
  started(world: World, identity: string): void;
  ended(identity: string): void;
}

export function oneLeader(): Leaders {
  const name = 'one-leader';
  const leading = new Set<string>();
  return {
    name,
    started(world, identity) {
      for (const other of leading) world.report(name, `${identity} leads while ${other} does`);
      leading.add(identity);
    },
    ended(identity) {
      leading.delete(identity);
    },
  };
}
