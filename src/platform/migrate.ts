/** `tiphys migrate`: the state moves (`move-state.ts`) while this machine's server is stopped. */
import { ApiError } from '#base/errors.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { StoreState } from '#store/state.ts';
import { checkReachable, type EtcdChoice } from './cluster-store.ts';
import { loadInstance } from './instance.ts';
import { partStatus, stopPart } from './launch.ts';
import { moveState } from './move-state.ts';
import type { Paths } from './paths.ts';
import { bringUp, withLock } from './up.ts';

export interface Migration {
  keys: number;
  revision: number;
  /** How long no server answered; undefined where none ran. */
  interruptedMs: number | undefined;
}

/** `to`: the etcd, or undefined for SQLite in the data directory. */
export async function migrate(paths: Paths, to: EtcdChoice | undefined): Promise<Migration> {
  const instance = loadInstance(paths);
  if (instance === undefined) throw new ApiError('NotFound', `there is no instance in ${paths.data}`);
  if (to !== undefined) await checkReachable(to);
  const ran = partStatus(paths, 'server').supervisor !== undefined;
  const begunMs = realClock.monotonic();
  let state: StoreState;
  try {
    state = await withLock(paths, async () => {
      if (ran) await stopPart(paths, 'server', linuxProcesses, realClock);
      return moveState(paths, to);
    });
  } finally {
    if (ran) await bringUp(paths, {});
  }
  return {
    keys: state.values.length,
    revision: state.revision,
    interruptedMs: ran ? realClock.monotonic() - begunMs : undefined,
  };
}
