/** `tiphys migrate`: the state moves (`move-state.ts`) while this machine's server is stopped. */
import { rmSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { StoreState } from '#store/state.ts';
import { checkReachable, type EtcdChoice } from './cluster-store.ts';
import { loadInstance, saveInstance, type Instance } from './instance.ts';
import { listMembers } from './etcd/admin.ts';
import { etcdOf } from './etcd/report.ts';
import { partStatus, stopPart } from './launch.ts';
import { moveState } from './move-state.ts';
import { files, type Paths } from './paths.ts';
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
  if (to === undefined) await refuseOthers(paths, instance);
  const ran = partStatus(paths, 'server').supervisor !== undefined;
  const begunMs = realClock.monotonic();
  let state: StoreState;
  try {
    state = await withLock(paths, async () => {
      if (ran) await stopPart(paths, 'server', linuxProcesses, realClock);
      const moved = await moveState(paths, to);
      if (to === undefined) await endMember(paths);
      return moved;
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

/** Of several servers each would have a state of its own. */
async function refuseOthers(paths: Paths, instance: Instance): Promise<void> {
  const etcd = etcdOf(paths, instance);
  if (etcd === undefined) return;
  const others = (await listMembers(etcd)).filter(({ name }) => name !== instance.member?.name);
  if (others.length > 0)
    throw new ApiError(
      'Conflict',
      `SQLite is for one server, and there are others (${others.map(({ name }) => name).join(', ')}): 'tiphys leave' on each of them first`,
    );
}

/** The cluster's own etcd has no state any more. */
async function endMember(paths: Paths): Promise<void> {
  const kept = loadInstance(paths);
  if (kept?.member === undefined) return;
  const { member: _member, ...instance } = kept;
  await stopPart(paths, 'etcd', linuxProcesses, realClock);
  saveInstance(paths, instance);
  rmSync(files.etcd(paths), { recursive: true, force: true });
}
