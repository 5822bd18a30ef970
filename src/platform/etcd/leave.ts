/**
 * Taking a server's member out of the cluster's own etcd, while a majority of the others lives. Looked at before the
 * node is emptied, done after it: a member that could not be taken out must not be found out with the node gone.
 */
import { rmSync } from 'node:fs';
import { ApiError, isReason } from '#base/errors.ts';
import type { EtcdChoice } from '../cluster-store.ts';
import type { Instance } from '../instance.ts';
import { files, type Paths } from '../paths.ts';
import { listMembers, moveLeader, readMemberState, removeMember, type ListedMember } from './admin.ts';
import { etcdOf } from './report.ts';

/** Undefined where no such member is there, or the state does not lie in an etcd of the cluster's own. */
export async function findMember(paths: Paths, instance: Instance, name: string): Promise<ListedMember | undefined> {
  const etcd = etcdOf(paths, instance);
  return etcd === undefined ? undefined : (await listMembers(etcd)).find((each) => each.name === name);
}

/** Throws where the cluster would lose its majority. */
export async function checkLeaving(paths: Paths, instance: Instance, name: string): Promise<void> {
  const etcd = etcdOf(paths, instance);
  if (etcd === undefined) return;
  const voters = (await listMembers(etcd)).filter(({ isLearner }) => !isLearner);
  const states = await Promise.all(voters.map(async (each) => ({ name: each.name, lives: await lives(etcd, each) })));
  const problem = leavingProblem(states, name);
  if (problem !== undefined) throw new ApiError('Conflict', problem);
}

/** Whether a member answers, and knows who leads. */
export async function lives(etcd: EtcdChoice, { clientUrls }: ListedMember): Promise<boolean> {
  const [endpoint] = clientUrls;
  if (endpoint === undefined) return false;
  return readMemberState(etcd, endpoint).then(
    ({ leader }) => leader !== '0',
    () => false,
  );
}

/** `voters`: members with a vote, `name`'s among them if it has one. */
export function leavingProblem(voters: readonly { name: string; lives: boolean }[], name: string): string | undefined {
  if (!voters.some((each) => each.name === name)) return undefined;
  const left = voters.filter((each) => each.name !== name);
  const dead = left.filter((each) => !each.lives).map((each) => each.name);
  if (left.length === 0) return "it holds the only copy of the cluster's state: 'tiphys down --purge' ends the cluster";
  if (left.length - dead.length > left.length / 2) return undefined;
  return `without ${name} the living servers would be no majority, and the API would take no writes: ${dead.join(', ')} must live, or be taken out first (tiphys remove ${dead[0]})`;
}

/** The member has no vote and no copy any more when this resolves. */
export async function takeMemberOut(paths: Paths, instance: Instance, name: string): Promise<void> {
  const etcd = etcdOf(paths, instance);
  const member = await findMember(paths, instance, name);
  if (etcd === undefined || member === undefined) return;
  // The member that goes is asked last: it may not answer to its end.
  const others = etcd.endpoints.filter((endpoint) => !member.clientUrls.includes(endpoint));
  const asked = { ...etcd, endpoints: [...others, ...etcd.endpoints] };
  await handOver(asked, member);
  try {
    await removeMember(asked, member.id);
  } catch (error) {
    // Somebody else was faster.
    if (!isReason(error, 'Conflict') || !/not found|removed/.test(error.message)) throw error;
  }
}

/** Another one leads before the leader goes: nobody waits for an election. */
export async function handOver(
  etcd: EtcdChoice,
  { id, clientUrls }: Pick<ListedMember, 'id' | 'clientUrls'>,
): Promise<void> {
  try {
    const [endpoint = ''] = clientUrls;
    if ((await readMemberState(etcd, endpoint)).leader !== id) return;
    const next = (await listMembers(etcd)).find((each) => each.id !== id && !each.isLearner);
    if (next !== undefined) await moveLeader(etcd, endpoint, next.id);
  } catch (error) {
    // One that does not answer does not lead for long.
    if (!isReason(error, 'ServiceUnavailable', 'Conflict')) throw error;
  }
}

/** Keys and state of the cluster are gone from this machine. */
export function forgetCluster(paths: Paths): void {
  for (const path of [files.keys(paths), files.etcdEpoch(paths)]) rmSync(path, { force: true });
  rmSync(files.etcd(paths), { recursive: true, force: true });
}

/** What is left of the instance of a server that has left. */
export function withoutServer(instance: Instance): Instance {
  const { member: _member, etcd: _etcd, ...rest } = instance;
  if (rest.joined === undefined) return rest;
  const { isServer: _isServer, ...joined } = rest.joined;
  return { ...rest, joined };
}
