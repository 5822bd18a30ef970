/** `tiphys upgrade`: this machine, then the others of the cluster, come to run another program. */
import { ApiError } from '#base/errors.ts';
import { instanceHere } from '../cluster-access.ts';
import { loadInstance, newestFormat, newestLevel, runsServer, saveInstance } from '../instance.ts';
import { packageRoot, type Paths } from '../paths.ts';
import { bringUp, withLock } from '../up.ts';
import { upgradeCluster } from './cluster-upgrade.ts';
import { findProgram, keepOnly, keepProgram, type Program } from './program.ts';
import { loadRecord, saveRecord } from './record.ts';
import { programBefore, switchProgram, withUpgradeLock } from './switch-program.ts';

interface UpgradeOptions {
  /** To what ran before. */
  isBack: boolean;
  /** This machine alone. */
  isHere: boolean;
  progress(name: string): void;
}

interface Upgraded {
  program: Program;
  /** What can be returned to. */
  previous?: Program;
  /** Nothing was to be done here. */
  ranAlready: boolean;
  /** Other machines that run it. */
  others: string[];
}

export async function upgrade(paths: Paths, { isBack, isHere, progress }: UpgradeOptions): Promise<Upgraded> {
  // Refuses what a newer program has written.
  const instance = instanceHere(paths);
  if (!isHere && !runsServer(instance))
    throw new ApiError(
      'BadRequest',
      "this machine is a worker: 'tiphys upgrade' on a server reaches all machines; 'tiphys upgrade --here' upgrades this one alone",
    );
  return withUpgradeLock(paths, async () => {
    const program = isBack ? programBefore(paths) : await keepProgram(paths, packageRoot);
    let ranAlready = true;
    const here = async (): Promise<void> => {
      ({ ranAlready } = await switchProgram(paths, program));
    };
    const others = isHere
      ? await here().then(() => [])
      : await upgradeCluster(paths, { program, isFinal: false, here, progress });
    const id = loadRecord(paths)?.previous;
    const previous = id === undefined ? undefined : findProgram(paths, id);
    return { program, ...(previous === undefined ? {} : { previous }), ranAlready, others };
  });
}

interface Finished {
  /** Formats up to this one are written from now on; undefined where this program has none of its own. */
  level?: number;
  others: string[];
}

/** Newer formats are written from now on, and what ran before is not kept, on all machines. */
export async function finish(paths: Paths, progress: (name: string) => void): Promise<Finished> {
  const instance = instanceHere(paths);
  if (!runsServer(instance)) throw new ApiError('BadRequest', "this machine is a worker: '--finish' is for a server");
  return withUpgradeLock(paths, async () => {
    const { current } = loadRecord(paths) ?? {};
    if (current === undefined)
      throw new ApiError('Conflict', "this machine was never upgraded: there is nothing to finish ('tiphys upgrade')");
    const here = (): Promise<void> => finishHere(paths);
    const program = findProgram(paths, current) ?? { id: current, kubernetesVersion: '' };
    const others = await upgradeCluster(paths, { program, isFinal: true, here, progress });
    return { ...newestLevel(), others };
  });
}

/** This machine's part of it. */
export async function finishHere(paths: Paths): Promise<void> {
  const { previous: _previous, ...record } = loadRecord(paths) ?? {};
  if (record.isBegun === true)
    throw new ApiError('Conflict', "an upgrade was begun and did not end: 'tiphys upgrade' first");
  // From here on there is no way back: what the level lets others write an older program would not understand.
  saveRecord(paths, record);
  const isRaised = await withLock(paths, () => Promise.resolve(raiseLevel(paths)));
  if (isRaised) await bringUp(paths, {}, { replace: true });
  keepOnly(paths, [record.current]);
}

function raiseLevel(paths: Paths): boolean {
  const instance = loadInstance(paths);
  if (instance === undefined || (instance.level ?? 0) >= (newestLevel().level ?? 0)) return false;
  saveInstance(paths, { ...instance, level: newestFormat });
  return true;
}
