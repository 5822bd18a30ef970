/**
 * Starting an instance, or mending one: whatever is missing is made, whatever runs is left. Safe to repeat and to
 * interrupt.
 */
import { homedir } from 'node:os';
import { ApiError } from '#base/errors.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { tryLock, tryLockNetwork } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { ensureMountNamespace } from './chroot.ts';
import { checkEtcd } from './cluster-store.ts';
import { addContexts } from './contexts.ts';
import { endHeirs, replacePart } from './heir.ts';
import { loadModules, portIsFree, prepareHost, usedSubnets } from './host.ts';
import { establishKeyRing, holdsAdminConfig, writeAdminConfig } from './identity.ts';
import { establishInstance, loadInstance, runsServer, type Instance, type InstanceChoices } from './instance.ts';
import { settleLeavingNodes } from './leaving-nodes.ts';
import { leavingNodes, localNodes } from './local-nodes.ts';
import { knownParts, partNames, partStatus, startPart, stopPart, waitUntil } from './launch.ts';
import { files, makeDirectory, passageMode, type Paths } from './paths.ts';
import { ensureContainersUnit, installUnit, isInsideUnit, startUnit, systemdRuns, unitOf } from './systemd.ts';

export interface UpResult {
  instance: Instance;
  started: string[];
  notes: string[];
}

/**
 * A part that cannot start says so and ends; one that is slow (a cold cache, a busy or emulated machine) is waited for.
 */
const startTimeoutMs = 480_000;
/** As long as another `up` may take to start. */
const lockTimeoutMs = startTimeoutMs;
/** A node whose server is away is not waited for: both may have lost power, and this one must not hang in its boot. */
const joinedStartMs = 60_000;
const portWaitMs = 2_000;

/** Runs while nobody else starts or stops this instance. */
export async function withLock<T>(paths: Paths, run: () => Promise<T>): Promise<T> {
  makeDirectory(paths.run, passageMode);
  let lock = tryLock(files.lock(paths));
  if (lock === undefined) {
    process.stderr.write('tiphys: another tiphys command is starting or stopping this instance; waiting for it\n');
    await waitUntil(realClock, lockTimeoutMs, () => (lock = tryLock(files.lock(paths))) !== undefined, 50);
    if (lock === undefined)
      throw new ApiError('Conflict', `another tiphys command holds ${files.lock(paths)}; try again when it has ended`);
  }
  try {
    // Whoever began it was killed.
    await endHeirs(paths);
    return await run();
  } finally {
    lock.release();
  }
}

/**
 * Held until the instance listens where it chose to. Without it after a while: a clash is then found by the process
 * that cannot listen.
 */
async function lockChoices(): Promise<Disposable> {
  let lock = tryLockNetwork();
  if (lock === undefined) await waitUntil(realClock, lockTimeoutMs, () => (lock = tryLockNetwork()) !== undefined, 20);
  return { [Symbol.dispose]: () => lock?.release() };
}

export interface UpOptions {
  /** End the platform's processes and start them anew; containers stay. */ replace?: boolean;
}

export async function bringUp(paths: Paths, choices: InstanceChoices, options: UpOptions = {}): Promise<UpResult> {
  return systemdRuns() && !isInsideUnit()
    ? bringUpByUnit(paths, choices, options)
    : bringUpHere(paths, choices, options);
}

/** Starts the processes as children of this one. */
async function bringUpHere(paths: Paths, choices: InstanceChoices, options: UpOptions): Promise<UpResult> {
  return withLock(paths, async () => {
    const kept = loadInstance(paths);
    refuseLeft(kept);
    if (kept !== undefined && options.replace !== true && isWhole(paths) && !changes(paths, kept, choices))
      return { instance: kept, started: [], notes: [] };
    const door = createNetworkDoor();
    // A new instance chooses free ranges and ports, and others that choose at the same time must see them taken.
    using _choosing = kept === undefined ? await lockChoices() : undefined;
    try {
      const instance = await chooseInstance(paths, choices, kept, door);
      if (kept !== undefined && needsRestart(kept, instance))
        for (const name of knownParts(paths)) await stopPart(paths, name, linuxProcesses, realClock);
      await checkPorts(paths, instance);
      // A worker that joined holds no key of the cluster's.
      const ring = runsServer(instance) ? establishKeyRing(paths, { random: realRandom, clock: realClock }) : undefined;
      await ensureContainersUnit(linuxProcesses);
      await loadModules(linuxProcesses);
      await prepareHost(instance, paths, door);
      await ensureMountNamespace(paths, linuxProcesses);
      if (ring !== undefined && !holdsAdminConfig(paths, realClock))
        writeAdminConfig(paths, instance, ring, { random: realRandom, clock: realClock });
      // It starts at boot what runs now.
      if (options.replace === true && isInsideUnit())
        await installUnit(paths, unitOf(paths, instance.id), process.env, linuxProcesses);
      const started = startMissing(paths, instance);
      if (options.replace === true) started.push(...(await replaceOthers(paths, instance, started)));
      // In its unit the home is root's, or nobody's; whoever called `up` has got the contexts.
      const notes = isInsideUnit() ? [] : addContexts(process.env['HOME'] ?? homedir(), paths);
      notes.push(...(await waitForParts(paths, instance)));
      notes.push(...(await settleLeavingNodes(instance, paths)));
      return { instance, started, notes };
    } finally {
      await door.close();
    }
  });
}

/**
 * Chooses what the instance is, as `bringUpHere` would, and has systemd start it: the processes must not belong to this
 * login session.
 */
async function bringUpByUnit(paths: Paths, choices: InstanceChoices, options: UpOptions): Promise<UpResult> {
  const chosen = await withLock(paths, async () => {
    const kept = loadInstance(paths);
    refuseLeft(kept);
    if (kept !== undefined && options.replace !== true && isWhole(paths) && !changes(paths, kept, choices))
      return { instance: kept, whole: true, notes: [] };
    const door = createNetworkDoor();
    using _choosing = kept === undefined ? await lockChoices() : undefined;
    try {
      const instance = await chooseInstance(paths, choices, kept, door);
      if (kept === undefined) await checkPorts(paths, instance);
      const notes =
        (await installUnit(paths, unitOf(paths, instance.id), process.env, linuxProcesses)) && paths.home === undefined
          ? ['systemd will start Tiphys at boot (tiphys.service)']
          : [];
      return { instance, whole: false, notes };
    } finally {
      await door.close();
    }
  });
  const { instance, notes } = chosen;
  if (chosen.whole) return { instance, started: [], notes };
  await startUnit(unitOf(paths, instance.id), linuxProcesses);
  return {
    instance,
    started: partNames(paths),
    notes: [...notes, ...addContexts(process.env['HOME'] ?? homedir(), paths)],
  };
}

async function chooseInstance(
  paths: Paths,
  choices: InstanceChoices,
  kept: Instance | undefined,
  door: ReturnType<typeof createNetworkDoor>,
): Promise<Instance> {
  if (choices.etcd !== undefined) await checkEtcd(paths, kept?.etcd, choices.etcd);
  const used = kept === undefined ? await usedSubnets(door.netlink) : [];
  return establishInstance(paths, withFreePorts(paths, choices, kept), realRandom, {
    usedSubnets: used,
    freePort: (candidates) => candidates.find((port) => portIsFree(port)) ?? candidates[0]!,
  });
}

/** Its data is no beginning of a cluster of its own. */
function refuseLeft(kept: Instance | undefined): void {
  if (kept?.joined?.hasLeft === true)
    throw new ApiError(
      'Conflict',
      `this machine has left the cluster of ${kept.joined.server} and kept its images, containers and volumes: 'tiphys join' takes it into one again, 'tiphys down --purge' removes them`,
    );
}

function isWhole(paths: Paths): boolean {
  return (
    (holdsAdminConfig(paths, realClock) || !runsServer(loadInstance(paths) ?? {})) &&
    leavingNodes(paths).length === 0 &&
    partNames(paths).every((name) => {
      const status = partStatus(paths, name);
      return status.supervisor !== undefined && status.ready;
    })
  );
}

function changes(paths: Paths, kept: Instance, { nodes, ...settings }: InstanceChoices): boolean {
  if (nodes !== undefined && nodes !== localNodes(paths).length) return true;
  return Object.entries(settings).some(
    ([key, value]) =>
      value !== undefined &&
      JSON.stringify((kept as unknown as Record<string, unknown>)[key]) !== JSON.stringify(value),
  );
}

function needsRestart(before: Instance, after: Instance): boolean {
  const plain = (instance: Instance): string => JSON.stringify({ ...instance, format: 0 });
  return plain(before) !== plain(after);
}

/**
 * An instance of its own home steps aside when the default port is taken; a port that the user names is taken or
 * refused.
 */
function withFreePorts(paths: Paths, choices: InstanceChoices, kept: Instance | undefined): InstanceChoices {
  if (kept !== undefined || paths.home === undefined) return choices;
  const free = (candidates: number[]): number | undefined => candidates.find((port) => portIsFree(port, '127.0.0.1'));
  const out = { ...choices };
  if (out.apiPort === undefined) {
    const port = free([6443, 6444, 6445, 6446, 16_443]);
    if (port !== undefined && port !== 6443) out.apiPort = port;
  }
  if (out.registryPort === undefined) {
    const port = free([5000, 5001, 5002, 5003, 15_000]);
    if (port !== undefined && port !== 5000) out.registryPort = port;
  }
  return out;
}

/** A process of ours that was killed just now may still hold its port for a moment. */
async function checkPorts(paths: Paths, instance: Instance): Promise<void> {
  if (instance.joined !== undefined) return;
  const check = async (part: string, port: number, option: string): Promise<void> => {
    const isFree = (): boolean => partStatus(paths, part).pid !== undefined || portIsFree(port, '127.0.0.1');
    if (await waitUntil(realClock, portWaitMs, isFree, 20)) return;
    throw new ApiError(
      'Conflict',
      `port ${port} on 127.0.0.1 is in use by another program; choose another one with ${option}, or stop that program`,
    );
  };
  await check('server', instance.apiPort, '--api-port');
  await check('node-1', instance.registryPort, '--registry-port');
}

function startMissing(paths: Paths, instance: Instance): string[] {
  const started: string[] = [];
  for (const name of partNames(paths)) {
    const status = partStatus(paths, name);
    if (status.supervisor !== undefined) continue;
    // Its supervisor is dead: a process without one must not go on beside the new one.
    if (status.pid !== undefined) linuxProcesses.kill(status.pid, 'SIGKILL');
    startPart(instance, paths, name);
    started.push(name);
  }
  return started;
}

/** One after the other. etcd, whose program is not Tiphys', goes on. */
async function replaceOthers(paths: Paths, instance: Instance, started: readonly string[]): Promise<string[]> {
  const others = partNames(paths).filter((name) => name !== 'etcd' && !started.includes(name));
  for (const name of others) await replacePart(instance, paths, name);
  return others;
}

/** Resolves with what is to be known: a node does not fail because its server is away. */
async function waitForParts(paths: Paths, { joined, member }: Instance): Promise<string[]> {
  const isAlone = joined === undefined && member === undefined;
  const begun = realClock.monotonic();
  const ok = await waitUntil(
    realClock,
    isAlone ? startTimeoutMs : joinedStartMs,
    () =>
      partNames(paths).every((name) => partStatus(paths, name).ready) ||
      (realClock.monotonic() - begun > 1_000 && hasGivenUp(paths)),
    5,
  );
  const missing = partNames(paths).filter((name) => !partStatus(paths, name).ready);
  if (member !== undefined && missing.length > 0 && !hasGivenUp(paths))
    return [
      `not ready yet: ${missing.join(', ')}, most likely because no majority of the servers is up: docker works, the API and Pods follow when one is ('tiphys status' says so; ${files.logs(paths)} has the rest)`,
    ];
  if (joined !== undefined && missing.length > 0 && !hasGivenUp(paths))
    return [
      `the node is not ready yet, most likely because ${joined.server} does not answer: docker works, Pods and Services follow when it does ('tiphys status' says so; ${files.logs(paths)} has the rest)`,
    ];
  if (!ok || missing.length > 0)
    throw new ApiError(
      'Timeout',
      `not ready: ${missing.join(', ')}. The reason is in ${missing.map((name) => `${files.logs(paths)}/${name}.log`).join(', ')}`,
    );
  return [];
}

/** A part's supervisor has ended: the process said that trying again is of no use. */
function hasGivenUp(paths: Paths): boolean {
  return partNames(paths).some((name) => partStatus(paths, name).supervisor === undefined);
}
