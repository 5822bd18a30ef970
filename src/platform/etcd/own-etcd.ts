/**
 * The first step from one server to several: a member of the cluster's own etcd begins on this machine, and the state
 * moves into it. Runs as a process of its own, which the server starts when the first further server asks to join
 * (`serve-join.ts`) and which ends the server for the time of the move: the server's supervisor starts it again at
 * once, and it waits until the move is over (`awaitMove`).
 *
 * What counts at each moment is what `instance.json` says: first that a member runs here, then that the state lies in
 * it. Who is killed before the second goes on with SQLite, and the next attempt takes up what is there.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { isIpv4 } from '#base/ip.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, isObject, textOf } from '#base/unknown.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { checkReachable } from '../cluster-store.ts';
import { defaultAddress, hostAddresses, hostName, portIsFree } from '../host.ts';
import { loadKeyRing } from '../identity.ts';
import { loadInstance, nodePlan, saveInstance, type EtcdMember, type Instance } from '../instance.ts';
import { partStatus, startPart, stopPart, waitUntil } from '../launch.ts';
import { etcdStartMsMax, movePollMs, partStopTimeoutMs, serverRestartMsMax } from '../limits.ts';
import { moveState } from '../move-state.ts';
import { files, type Paths } from '../paths.ts';
import { withLock } from '../up.ts';
import {
  clientUrl,
  etcdPorts,
  findEtcd,
  keepEtcdCertificate,
  ownEtcd,
  peerUrl,
  withEtcdAuthority,
  writeEtcdConfig,
} from './member.ts';

export interface MoveOutcome {
  /** Why the state did not move; it lies where it was. */
  problem?: string;
  /** How long no server of this machine answered. */
  interruptedMs?: number;
}

const outcomePath = (paths: Paths): string => join(paths.run, 'moved.json');

/** What the last attempt came to; undefined while there was none. */
export function moveOutcome(paths: Paths): MoveOutcome | undefined {
  const found: unknown = JSON.parse(readIfExists(outcomePath(paths)) ?? 'null');
  if (!isObject(found)) return undefined;
  const [problem, ms] = [textOf(found, 'problem'), fieldOf(found, 'interruptedMs')];
  return { ...(problem === undefined ? {} : { problem }), ...(typeof ms === 'number' ? { interruptedMs: ms } : {}) };
}

export function forgetOutcome(paths: Paths): void {
  rmSync(outcomePath(paths), { force: true });
}

/** Whether a process prepares to move the state, or moves it. */
export function isAttempting(paths: Paths): boolean {
  return phaseOf(paths) !== undefined;
}

function isMoving(paths: Paths): boolean {
  return phaseOf(paths) === 'moving';
}

/** Of the process that is at it now. */
function phaseOf(paths: Paths): string | undefined {
  const found: unknown = JSON.parse(readIfExists(files.moving(paths)) ?? 'null');
  const [pid, startTime] = [fieldOf(found, 'pid'), textOf(found, 'startTime')];
  const isAlive = typeof pid === 'number' && linuxProcesses.startTime(pid) === startTime;
  return isAlive ? textOf(found, 'phase') : undefined;
}

/** Resolves when nobody moves the state, or whoever did is gone. */
export async function awaitMove(paths: Paths): Promise<void> {
  while (isMoving(paths)) await realClock.sleep(movePollMs);
}

/** Runs to its end, which it leaves in a file. */
export async function moveToOwnEtcd(paths: Paths): Promise<void> {
  const finish = (outcome: MoveOutcome): void => writeFileAtomic(outcomePath(paths), JSON.stringify(outcome));
  try {
    finish(await withLock(paths, () => moveLocked(paths)));
  } catch (error) {
    finish({ problem: messageOf(error) });
    throw error;
  }
}

async function moveLocked(paths: Paths): Promise<MoveOutcome> {
  const kept = loadInstance(paths);
  if (kept === undefined) throw new ApiError('NotFound', `there is no instance in ${paths.data}`);
  // Another attempt was faster.
  if (kept.etcd !== undefined) return moveOutcome(paths) ?? {};
  using noting = noteAttempt(paths);
  const instance = await beginMember(paths, kept);
  const { member } = instance;
  if (member === undefined) throw new Error('no member');
  const etcd = ownEtcd(paths, [clientUrl(member)]);
  const begunMs = realClock.monotonic();
  noting.phase('moving');
  await endServer(paths);
  await moveState(paths, etcd);
  noting.phase('moved');
  const isBack = (): boolean => partStatus(paths, 'server').ready;
  if (!(await waitUntil(realClock, serverRestartMsMax, isBack, movePollMs)))
    throw new ApiError('Timeout', `the server does not come back; the reason is in ${files.logs(paths)}/server.log`);
  return { interruptedMs: realClock.monotonic() - begunMs };
}

/** Answers the instance with a member that runs. Where it does not begin, all is as before. */
async function beginMember(paths: Paths, kept: Instance): Promise<Instance> {
  const member = kept.member ?? (await planMember(kept));
  const means = { random: realRandom, clock: realClock };
  const ring = withEtcdAuthority(paths, loadKeyRing(paths, means), means);
  // What an earlier attempt left is no member's.
  if (kept.member === undefined) rmSync(files.etcd(paths), { recursive: true, force: true });
  keepEtcdCertificate(paths, member, ring, means);
  // Once etcd has begun it goes by its data.
  const token = realRandom.uuid();
  if (kept.member === undefined)
    writeEtcdConfig(paths, member, { initial: [`${member.name}=${peerUrl(member)}`], state: 'new', token });
  const instance = { ...kept, member };
  saveInstance(paths, instance);
  if (partStatus(paths, 'etcd').supervisor === undefined) startPart(instance, paths, 'etcd');
  try {
    await awaitEtcd(paths, member);
    return instance;
  } catch (error) {
    await stopPart(paths, 'etcd', linuxProcesses, realClock);
    const { member: _none, ...before } = kept;
    saveInstance(paths, before);
    throw error;
  }
}

async function awaitEtcd(paths: Paths, member: EtcdMember): Promise<void> {
  const deadline = realClock.monotonic() + etcdStartMsMax;
  for (;;) {
    try {
      await checkReachable(ownEtcd(paths, [clientUrl(member)]));
      return;
    } catch (cause) {
      if (realClock.monotonic() > deadline) {
        const error = new ApiError('Timeout', `etcd does not begin: ${files.logs(paths)}/etcd.log says why`);
        error.cause = cause;
        throw error;
      }
    }
    await realClock.sleep(movePollMs);
  }
}

async function planMember(instance: Instance): Promise<EtcdMember> {
  const { name } = nodePlan(instance, 1, hostName());
  return memberAt({ name, address: await machineAddress(instance), binary: findEtcd(instance.etcdBinary) });
}

/** Throws where its ports are taken. */
export function memberAt({ name, address, binary }: Pick<EtcdMember, 'name' | 'address' | 'binary'>): EtcdMember {
  for (const port of Object.values(etcdPorts))
    if (!portIsFree(port, address))
      throw new ApiError(
        'Conflict',
        `port ${port} of ${address} is in use by another program; the cluster's etcd needs it (is it the package's own service? 'systemctl disable --now etcd')`,
      );
  return { name, address, binary, clientPort: etcdPorts.client, peerPort: etcdPorts.peer };
}

/** What was said of this machine, if it is an address that it has; otherwise that of the default route. */
async function machineAddress({ address }: Instance): Promise<string> {
  if (address !== undefined && isIpv4(address) && hostAddresses().includes(address)) return address;
  return defaultAddress("'tiphys token create --server --address' says where others reach it");
}

function noteAttempt(paths: Paths): Disposable & { phase(name: string): void } {
  const phase = (name: string): void => {
    const note = { pid: process.pid, startTime: linuxProcesses.startTime(process.pid), phase: name };
    writeFileAtomic(files.moving(paths), JSON.stringify(note));
  };
  phase('begun');
  return { phase, [Symbol.dispose]: () => rmSync(files.moving(paths), { force: true }) };
}

/** The process alone: its supervisor starts the next one, which waits. */
async function endServer(paths: Paths): Promise<void> {
  const { pid } = partStatus(paths, 'server');
  if (pid === undefined) return;
  const startTime = linuxProcesses.startTime(pid);
  const isGone = (): boolean => linuxProcesses.startTime(pid) !== startTime;
  linuxProcesses.kill(pid, 'SIGTERM');
  if (await waitUntil(realClock, partStopTimeoutMs, isGone, movePollMs)) return;
  linuxProcesses.kill(pid, 'SIGKILL');
  await waitUntil(realClock, partStopTimeoutMs, isGone, movePollMs);
}
