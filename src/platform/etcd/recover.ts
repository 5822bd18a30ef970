/**
 * The cluster goes on with this server alone, after most of the others were lost for good: its member of etcd takes the
 * state that it has as the whole one, and itself as the only member (etcd documentation, "Disaster recovery",
 * `--force-new-cluster`). What only the lost servers had acknowledged is gone. So it is not done while a majority
 * answers, and whoever asks for it names the lost servers: from here, lost ones look like ones that this server is cut
 * off from, and those would go on as a cluster of their own.
 *
 * The command stops the server, and has etcd begin so; the rest is the server's, when it begins: resource versions go
 * on far above those that the lost servers may have given out, and etcd is told to begin like any other again. Who is
 * killed on the way finds with the next run, or the next `up`, that etcd is to begin so.
 */
import { ApiError, isReason } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { silentLogger, type Logger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { raiseRevisions } from '#store/etcd/move.ts';
import { instanceHere } from '../cluster-access.ts';
import { addressOf, type EtcdChoice } from '../cluster-store.ts';
import type { EtcdMember, Instance } from '../instance.ts';
import { partStatus, startPart, stopPart } from '../launch.ts';
import { etcdRetryMs, etcdStartMsMax, restoredRevisionsStep } from '../limits.ts';
import { files, type Paths } from '../paths.ts';
import { retryWhile } from '../retry.ts';
import { bringUp, withLock } from '../up.ts';
import { listMembersHere, readMemberState, type ListedMember } from './admin.ts';
import { clientUrl, isForced, ownEtcd, peerUrl, setForced } from './member.ts';

export interface Recovery {
  /** Servers, whose Nodes are there still. */
  lost: string[];
  /** The one that is left. */
  server: string;
}

/** Throws Conflict where it is refused, and says what may be lost where the lost servers are not named. */
export async function recoverAlone(paths: Paths, lost: readonly string[]): Promise<Recovery> {
  const recovered = await withLock(paths, async () => {
    const instance = instanceHere(paths);
    const { member } = instance;
    if (member === undefined)
      throw new ApiError(
        'BadRequest',
        "no member of the cluster's etcd is on this machine: run this on the server that is left",
      );
    if (partStatus(paths, 'etcd').supervisor === undefined) startPart(instance, paths, 'etcd');
    // An earlier attempt was let through, and is finished by the server.
    if (isForced(paths)) return { lost: [...lost], server: member.name };
    const others = await othersOf(paths, member, lost);
    await beginAlone(paths, instance);
    return { lost: others.map(nameOf), server: member.name };
  });
  await bringUp(paths, {});
  return recovered;
}

const nameOf = ({ name, peerUrls }: ListedMember): string => (name === '' ? (peerUrls[0] ?? '') : name);

/** The members beside this one, all of which are lost. */
async function othersOf(paths: Paths, member: EtcdMember, lost: readonly string[]): Promise<ListedMember[]> {
  const etcd = ownEtcd(paths, [clientUrl(member)]);
  const untilMs = realClock.monotonic() + etcdStartMsMax;
  const members = await retryWhile({ untilMs, stepMs: etcdRetryMs }, () => listMembersHere(etcd)).catch(
    (error: unknown) => {
      throw new ApiError(
        'ServiceUnavailable',
        `the member of etcd on this machine does not answer (${messageOf(error)}): ${files.logs(paths)}/etcd.log says why`,
      );
    },
  );
  const others = members.filter(({ peerUrls }) => !peerUrls.includes(peerUrl(member)));
  const states = await Promise.all(
    others.map(async (each) => ({ name: nameOf(each), answers: await answers(etcd, each) })),
  );
  const own = await readMemberState(etcd, clientUrl(member));
  const problem = recoveryProblem({ own: member.name, others: states, hasLeader: own.leader !== '0', lost });
  if (problem !== undefined) throw new ApiError('Conflict', problem);
  return others;
}

async function answers(etcd: EtcdChoice, { clientUrls: [endpoint] }: ListedMember): Promise<boolean> {
  if (endpoint === undefined) return false;
  return readMemberState(etcd, endpoint).then(
    () => true,
    () => false,
  );
}

export interface RecoveryView {
  own: string;
  others: readonly { name: string; answers: boolean }[];
  hasLeader: boolean;
  /** As the user has named them. */
  lost: readonly string[];
}

/** Why the cluster does not go on with one server; undefined where it may. */
export function recoveryProblem({ own, others, hasLeader, lost }: RecoveryView): string | undefined {
  const names = others.map(({ name }) => name).sort();
  const alive = others.filter((each) => each.answers).map(({ name }) => name);
  if (hasLeader)
    return others.length === 0
      ? `${own} is the only server, and its etcd is well: there is nothing to recover`
      : "a majority of the servers answers: nothing is lost. 'tiphys remove NAME' takes out one that does not come back";
  if (alive.length > 0)
    return `${alive.join(', ')} answers: wait until it has found the others, or end it for good ('tiphys down' there) if it is to be given up`;
  if (names.join() === [...lost].sort().join()) return undefined;
  return [
    `the cluster would go on with what ${own} knows. Writes that only ${names.join(' and ')} had acknowledged are lost, and whoever read them is not told;`,
    'what is written from then on is lost to them. If one of them is not gone but cut off, or comes back together with another one, there are two clusters:',
    `be sure that none of them starts again ('tiphys leave --force --purge' on what is left of them). Then: tiphys recover --lost ${names.join(',')}`,
  ].join(' ');
}

/** What is killed before the last step leaves etcd ended, to begin in one way or the other. */
async function beginAlone(paths: Paths, instance: Instance): Promise<void> {
  for (const part of ['server', 'etcd']) await stopPart(paths, part, linuxProcesses, realClock);
  setForced(paths, true);
  startPart(instance, paths, 'etcd');
}

/** Before a server opens the state that was recovered; does nothing where none was. Waits for etcd. */
export async function finishRecovery(paths: Paths, { member }: Instance, log: Logger): Promise<void> {
  if (member === undefined || !isForced(paths)) return;
  const own = [clientUrl(member)];
  const place = { address: addressOf(ownEtcd(paths, own)), clock: realClock, random: realRandom, log: silentLogger };
  for (;;)
    try {
      await raiseRevisions(place, restoredRevisionsStep);
      break;
    } catch (error) {
      if (!isReason(error, 'ServiceUnavailable', 'Timeout')) throw error;
      log.warn('etcd does not answer; waiting for it', { error: error.message });
      await realClock.sleep(etcdRetryMs);
    }
  writeFileAtomic(files.etcdEndpoints(paths), JSON.stringify(own), { mode: 0o600, sync: true });
  setForced(paths, false);
  log.warn('the cluster goes on with this server alone, with what it knew');
}
