/** The members of the cluster's own etcd, in words: for `status`, and for who has just joined or left. */
import { messageOf } from '#base/thrown.ts';
import { realClock } from '#os/clock.real.ts';
import { currentEndpoints, type EtcdChoice } from '../cluster-store.ts';
import type { Instance } from '../instance.ts';
import { admissionStepMs, etcdQuotaBytes, promotionMsMax } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { listAlarms, listMembers, listMembersHere, readMemberState, type ListedMember } from './admin.ts';
import { peerUrl } from './member.ts';

export interface ReportedMember {
  name: string;
  /** `leader`, `voter`, `learner` (has no vote), or why it does not answer. */
  state: string;
  endpoint: string;
  version: string;
  sizeBytes: number;
}

export interface EtcdReport {
  members: ReportedMember[];
  /** What is to be done about something. */
  problems: string[];
}

/** The cluster's own etcd, as this machine's server reaches it; undefined where there is none. */
export function etcdOf(paths: Paths, { etcd, member }: Instance): EtcdChoice | undefined {
  return etcd === undefined || member === undefined ? undefined : { ...etcd, endpoints: currentEndpoints(paths, etcd) };
}

/** Undefined where the state does not lie in an etcd of the cluster's own. Rejects where no member answers. */
export async function reportEtcd(paths: Paths, instance: Instance): Promise<EtcdReport | undefined> {
  const etcd = etcdOf(paths, instance);
  if (etcd === undefined) return undefined;
  const listed = await listMembersHere(etcd);
  const members = await Promise.all(listed.map((member) => reportMember(etcd, member)));
  const lost = withoutMajority(instance, members);
  if (lost !== undefined) return { members, problems: [lost] };
  const alarms = await listAlarms(etcd).catch(() => []);
  return { members, problems: problemsOf(listed, members, alarms) };
}

async function reportMember(
  etcd: EtcdChoice,
  { id, name, clientUrls, isLearner }: ListedMember,
): Promise<ReportedMember> {
  const [endpoint = ''] = clientUrls;
  const reported = { name: name === '' ? '(joining)' : name, endpoint, version: '', sizeBytes: 0 };
  if (endpoint === '') return { ...reported, state: 'learner, not started' };
  try {
    const { version, sizeBytes, leader } = await readMemberState(etcd, endpoint);
    const state = isLearner ? 'learner' : leader === id ? 'leader' : leader === '0' ? 'without a leader' : 'voter';
    return { ...reported, state, version, sizeBytes };
  } catch (error) {
    return { ...reported, state: `does not answer (${messageOf(error)})` };
  }
}

/** What is to be done where no majority of the members lives; undefined where one does. */
function withoutMajority({ member }: Instance, members: readonly ReportedMember[]): string | undefined {
  if (members.some(({ state }) => state === 'leader')) return undefined;
  const away = members
    .filter(({ state }) => state.startsWith('does not answer'))
    .map(({ name }) => name)
    .sort();
  if (away.length === 0) return 'the members of etcd choose a leader now; until then the API takes no writes';
  const others = members
    .filter(({ name }) => name !== member?.name)
    .map(({ name }) => name)
    .sort();
  const alone =
    others.length === away.length ? ` If they are lost for good: 'tiphys recover --lost ${others.join(',')}'` : '';
  return `no majority of the servers lives: what runs goes on, the API answers no consistent reads and takes no writes. Start ${away.join(' or ')} again ('tiphys up' there).${alone}`;
}

/** `NAME` and `TYPE` of alarms are etcd's. */
export function problemsOf(
  listed: readonly ListedMember[],
  members: readonly ReportedMember[],
  alarms: readonly { member: string; type: string }[],
): string[] {
  const nameOf = (id: string): string => listed.find((each) => each.id === id)?.name ?? id;
  const largest = Math.max(0, ...members.map(({ sizeBytes }) => sizeBytes));
  return [
    ...alarms.map(({ member, type }) =>
      type === 'NOSPACE'
        ? `etcd on ${nameOf(member)} has no space left (NOSPACE): the API takes no writes. Delete what is not needed; servers make room and end the alarm by themselves`
        : `etcd on ${nameOf(member)} says ${type}: 'tiphys remove ${nameOf(member)}' on another server and join it again`,
    ),
    ...(alarms.length === 0 && largest > etcdQuotaBytes * 0.8
      ? [`etcd holds ${Math.round(largest / 1e6)} MB of at most ${Math.round(etcdQuotaBytes / 1e6)} MB`]
      : []),
    ...twoServers(listed),
  ];
}

function twoServers(listed: readonly ListedMember[]): string[] {
  if (listed.length !== 2) return [];
  const voters = listed.filter(({ isLearner }) => !isLearner);
  const [first, only] = voters;
  if (first !== undefined && only === undefined)
    return [
      `two servers are no gain yet: without ${first.name} the API takes no writes. A third one makes it three, of which any may fail ('tiphys token create --server')`,
    ];
  return [
    "of two servers both must live, or the API takes no writes: a third one ('tiphys token create --server'), or one less ('tiphys leave')",
  ];
}

/** After a join: waits a while until the member has its vote, where it is to have one. */
export async function membershipNotes(paths: Paths, instance: Instance): Promise<string[]> {
  const { member } = instance;
  const etcd = etcdOf(paths, instance);
  if (etcd === undefined || member === undefined) return [];
  const untilMs = realClock.monotonic() + promotionMsMax;
  for (;;) {
    const listed = await listMembers(etcd).catch(() => []);
    const own = listed.find(({ peerUrls }) => peerUrls.includes(peerUrl(member)));
    if (listed.length === 2 || own?.isLearner === false) return problemsOf(listed, [], []);
    if (realClock.monotonic() > untilMs)
      return ["this server's member of etcd has no vote yet: 'tiphys status' says when it has"];
    await realClock.sleep(admissionStepMs);
  }
}
