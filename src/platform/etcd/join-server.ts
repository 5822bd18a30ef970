/**
 * What a machine does that joins as a further server, beside becoming a node (`join.ts`): it is given the keys of the
 * cluster by a token that was made for servers, its member of etcd is taken up among the others, without a vote, and
 * all that is written down. Each step finds what an earlier attempt left. The member is given its vote by the server
 * that runs here then (`upkeep.ts`).
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyRing } from '#apiserver/keys.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Transport } from '#client/transport.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { writeFileAtomic } from '#os/files.ts';
import type { EtcdChoice } from '../cluster-store.ts';
import { writeKeyRing } from '../identity.ts';
import type { EtcdMember, Instance } from '../instance.ts';
import { admissionMsMax, admissionStepMs } from '../limits.ts';
import { files, makeDirectory, privateMode, type Paths } from '../paths.ts';
import { kubernetesVersion } from '../version.ts';
import { addLearner, listMembers, promoteMember, type ListedMember } from './admin.ts';
import { findEtcd, keepEtcdCertificate, ownEtcd, peerUrl, writeEtcdConfig } from './member.ts';
import { memberAt } from './own-etcd.ts';
import { serversPath, type Admission, type EtcdFiles } from './serve-join.ts';

export type Admitted = Extract<Admission, { state: 'ready' }>;

/** Asks until the state lies where several servers reach it. */
export async function askAdmission(transport: Transport, node: string): Promise<Admitted> {
  const untilMs = realClock.monotonic() + admissionMsMax;
  let hasBegun = false;
  for (;;) {
    try {
      const body = { node, kubernetesVersion };
      const answer: unknown = await transport.send({ method: 'POST', path: serversPath, body });
      if (fieldOf(answer, 'state') === 'ready') {
        const { moved, ...admitted } = checked(answer);
        // It may have moved long ago.
        return hasBegun && moved !== undefined ? { ...admitted, moved } : admitted;
      }
      hasBegun = true;
    } catch (error) {
      // The server ends for the time of the move.
      const isAway = isReason(error, 'ServiceUnavailable', 'Timeout');
      if (!hasBegun || !isAway) throw refusalOf(error);
      if (realClock.monotonic() > untilMs) throw error;
    }
    if (realClock.monotonic() > untilMs)
      throw new ApiError('Timeout', "the state of the cluster does not move to etcd; 'tiphys status' on the server");
    await realClock.sleep(admissionStepMs);
  }
}

function checked(answer: unknown): Admitted {
  const isWhole = ['ca', 'serviceAccount', 'encryption'].every((name) => fieldOf(answer, 'keys', name) !== undefined);
  if (!isWhole || fieldOf(answer, 'etcd', 'endpoints') === undefined)
    throw new ApiError('BadRequest', 'the server does not say all that a further server must know: use one version');
  return answer as Admitted;
}

function refusalOf(error: unknown): unknown {
  if (isReason(error, 'Forbidden'))
    return new ApiError(
      'Forbidden',
      "this token takes machines into the cluster as workers; 'tiphys token create --server' on a server makes one for a further server",
    );
  return error;
}

export interface ServerPlan {
  name: string;
  /** Of this machine. */
  address: string;
  etcdBinary: string | undefined;
}

/** What the instance of a further server has beside that of a node. The keys are here when this resolves. */
export async function becomeServer(
  paths: Paths,
  { keys, etcd }: Admitted,
  plan: ServerPlan,
): Promise<Pick<Instance, 'etcd' | 'member'>> {
  makeDirectory(paths.data, privateMode);
  // What an earlier membership left would be another member's.
  rmSync(files.etcd(paths), { recursive: true, force: true });
  rmSync(files.etcdEpoch(paths), { force: true });
  writeKeyRing(paths, keys);
  if (!etcd.own) return { etcd: { ...writeFiles(paths, etcd.files), ...choiceOf(etcd) } };
  const member = memberAt({ name: plan.name, address: plan.address, binary: findEtcd(plan.etcdBinary) });
  await joinEtcd(paths, member, { keys, endpoints: etcd.endpoints });
  return { member, etcd: ownEtcd(paths, etcd.endpoints) };
}

function choiceOf({ endpoints, prefix }: { endpoints: string[]; prefix?: string }): EtcdChoice {
  return { endpoints, ...(prefix === undefined ? {} : { prefix }) };
}

function writeFiles(paths: Paths, { ca, cert, key }: EtcdFiles): Omit<EtcdChoice, 'endpoints'> {
  const directory = files.etcd(paths);
  makeDirectory(directory, privateMode);
  const write = (name: string, text: string | undefined): string | undefined => {
    if (text === undefined) return undefined;
    writeFileAtomic(join(directory, name), text, { mode: 0o600, sync: true });
    return join(directory, name);
  };
  const [cafile, certfile, keyfile] = [write('ca.crt', ca), write('client.crt', cert), write('client.key', key)];
  return {
    ...(cafile === undefined ? {} : { cafile }),
    ...(certfile === undefined ? {} : { certfile }),
    ...(keyfile === undefined ? {} : { keyfile }),
  };
}

/** The member is known to the others, and configured, when this resolves. It has not started. */
async function joinEtcd(
  paths: Paths,
  member: EtcdMember,
  { keys, endpoints }: { keys: KeyRing; endpoints: string[] },
): Promise<void> {
  if (keys.etcd === undefined) throw new ApiError('BadRequest', 'the server gave no authority of etcd');
  keepEtcdCertificate(paths, member, keys, { random: realRandom, clock: realClock });
  const etcd = ownEtcd(paths, endpoints);
  const own = peerUrl(member);
  const isOwn = ({ peerUrls }: ListedMember): boolean => peerUrls.includes(own);
  let members = await listMembers(etcd);
  const found = members.find(isOwn);
  // It has never started here: whoever has that name is of before.
  if (found !== undefined && found.name !== '')
    throw new ApiError(
      'Conflict',
      `a server at ${member.address} is a member of the cluster's etcd already; if it is lost, 'tiphys remove ${found.name}' on another server takes it out`,
    );
  if (found === undefined) {
    await promoteOthers(etcd, members);
    await addLearner(etcd, own);
    members = await listMembers(etcd);
  }
  const initial = members.flatMap((each) => {
    const name = isOwn(each) ? member.name : each.name;
    return name === '' ? [] : each.peerUrls.map((url) => `${name}=${url}`);
  });
  writeEtcdConfig(paths, member, { initial, state: 'existing' });
}

/** etcd has one learner at a time; with this machine there are three, and each has a vote. */
async function promoteOthers(etcd: EtcdChoice, members: readonly ListedMember[]): Promise<void> {
  const untilMs = realClock.monotonic() + admissionMsMax;
  for (const { id, name } of members.filter(({ isLearner }) => isLearner)) {
    if (name === '')
      throw new ApiError(
        'Conflict',
        'another machine joins as a server now, or was interrupted: try again when it has joined, or in ten minutes',
      );
    for (;;) {
      try {
        await promoteMember(etcd, id);
        break;
      } catch (error) {
        if (!isReason(error, 'Conflict')) throw error;
        // Its own server was faster.
        if ((await listMembers(etcd)).some((each) => each.id === id && !each.isLearner)) break;
        if (realClock.monotonic() > untilMs)
          throw new ApiError('Timeout', `server ${name} does not catch up with etcd: ${messageOf(error)}`);
        await realClock.sleep(admissionStepMs);
      }
    }
  }
}
