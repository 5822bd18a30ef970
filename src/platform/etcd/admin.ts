/**
 * What a server asks of the members of the cluster's own etcd beside keys and values: who they are, how they are, and
 * changes of their number. It goes through etcd's JSON gateway (etcd documentation, "gRPC gateway"), whose 64-bit
 * numbers are texts: a member's id does not fit into a number of this language.
 */
import { request } from 'node:https';
import { readAnswer } from '#apiserver/answer-body.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import { realClock } from '#os/clock.real.ts';
import { addressOf, type EtcdChoice } from '../cluster-store.ts';
import { etcdAnswerBytesMax, etcdAskMsMax, etcdHealthMsMax, movePollMs } from '../limits.ts';
import { retryWhile } from '../retry.ts';

export interface ListedMember {
  /** A decimal number. */
  id: string;
  /** Empty while it has not started. */
  name: string;
  peerUrls: string[];
  clientUrls: string[];
  isLearner: boolean;
}

export interface MemberState {
  version: string;
  /** Of the file, and of what of it is in use. */
  sizeBytes: number;
  usedBytes: number;
  /** Id of the leader; `0` where there is none. */
  leader: string;
}

export interface Alarm {
  member: string;
  /** `NOSPACE` or `CORRUPT`. */
  type: string;
}

/** Asks one endpoint after the other until one answers. Rejects with etcd's own words where it refuses. */
async function ask(etcd: EtcdChoice, path: string, body: object, timeoutMs: number = etcdAskMsMax): Promise<unknown> {
  let last: unknown = new ApiError('ServiceUnavailable', 'etcd has no endpoints');
  for (const endpoint of etcd.endpoints) {
    try {
      return await askOne(etcd, endpoint, { path, body, timeoutMs });
    } catch (error) {
      if (error instanceof ApiError && error.reason !== 'ServiceUnavailable') throw error;
      last = error;
    }
  }
  throw last;
}

interface Asked {
  path: string;
  body: object;
  timeoutMs: number;
}

function askOne(etcd: EtcdChoice, endpoint: string, { path, body, timeoutMs }: Asked): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const fail = (error: unknown): void => {
    const made = new ApiError('ServiceUnavailable', `${endpoint}: ${messageOf(error)}`);
    made.cause = error;
    reject(made);
  };
  const call = request(
    new URL(`/v3/${path}`, endpoint),
    { method: 'POST', ...addressOf(etcd).tls, agent: false, signal: AbortSignal.timeout(timeoutMs) },
    (response) => {
      readAnswer(
        response,
        { out: call, bytesMax: etcdAnswerBytesMax },
        (body) => {
          const answer: unknown = JSON.parse(body.toString('utf8'));
          if (response.statusCode === 200) resolve(answer);
          else reject(refusalOf(endpoint, response.statusCode ?? 0, answer));
        },
        fail,
      );
    },
  );
  call.on('error', fail);
  call.end(JSON.stringify(body));
  return promise;
}

/** Of a member that has no leader, or is a learner, another one may know more. */
function refusalOf(endpoint: string, status: number, answer: unknown): ApiError {
  const words = textOf(answer, 'message') ?? textOf(answer, 'error') ?? `status ${status}`;
  const isElsewhere = [503, 504].includes(status) || /no leader|rpc not supported for learner|timed out/.test(words);
  return new ApiError(isElsewhere ? 'ServiceUnavailable' : 'Conflict', `${endpoint}: ${words}`);
}

const textsIn = (value: unknown, field: string): string[] =>
  itemsOf(fieldOf(value, field)).filter((item) => typeof item === 'string');

export async function listMembers(etcd: EtcdChoice): Promise<ListedMember[]> {
  return membersIn(await ask(etcd, 'cluster/member/list', {}));
}

/** As the member that is asked knows them, also without a majority. */
export async function listMembersHere(etcd: EtcdChoice): Promise<ListedMember[]> {
  try {
    return membersIn(await ask(etcd, 'cluster/member/list', { linearizable: false }));
  } catch (error) {
    // Before 3.5 it was never asked of a majority, and nothing is known of that.
    if (!isReason(error, 'Conflict')) throw error;
    return listMembers(etcd);
  }
}

function membersIn(answer: unknown): ListedMember[] {
  return itemsOf(fieldOf(answer, 'members')).map((member) => ({
    id: textOf(member, 'ID') ?? '',
    name: textOf(member, 'name') ?? '',
    peerUrls: textsIn(member, 'peerURLs'),
    clientUrls: textsIn(member, 'clientURLs'),
    isLearner: fieldOf(member, 'isLearner') === true,
  }));
}

/** A member without a vote. */
export async function addLearner(etcd: EtcdChoice, peerUrl: string): Promise<void> {
  await untilHealthy(() => ask(etcd, 'cluster/member/add', { peerURLs: [peerUrl], isLearner: true }));
}

/** etcd changes its members once all of them have been connected for a few seconds. */
async function untilHealthy(change: () => Promise<unknown>): Promise<void> {
  const isPassing = (error: unknown): boolean => /unhealthy cluster/.test(messageOf(error));
  const untilMs = realClock.monotonic() + etcdHealthMsMax;
  await retryWhile({ untilMs, stepMs: 10 * movePollMs, isPassing }, change);
}

/** Rejects with Conflict while it has not caught up. */
export async function promoteMember(etcd: EtcdChoice, id: string): Promise<void> {
  await ask(etcd, 'cluster/member/promote', { ID: id });
}

export async function removeMember(etcd: EtcdChoice, id: string): Promise<void> {
  await untilHealthy(() => ask(etcd, 'cluster/member/remove', { ID: id }));
}

/** Of the member at one endpoint. */
export async function readMemberState(etcd: EtcdChoice, endpoint: string): Promise<MemberState> {
  const answer = await ask({ ...etcd, endpoints: [endpoint] }, 'maintenance/status', {});
  return {
    version: textOf(answer, 'version') ?? '',
    sizeBytes: Number(textOf(answer, 'dbSize') ?? 0),
    usedBytes: Number(textOf(answer, 'dbSizeInUse') ?? 0),
    leader: textOf(answer, 'leader') ?? '0',
  };
}

export async function listAlarms(etcd: EtcdChoice): Promise<Alarm[]> {
  const answer = await ask(etcd, 'maintenance/alarm', { action: 'GET' });
  return itemsOf(fieldOf(answer, 'alarms')).map((alarm) => ({
    member: textOf(alarm, 'memberID') ?? '',
    type: textOf(alarm, 'alarm') ?? '',
  }));
}

export async function endAlarm(etcd: EtcdChoice, { member, type }: Alarm): Promise<void> {
  await ask(etcd, 'maintenance/alarm', { action: 'DEACTIVATE', memberID: member, alarm: type });
}

/** `endpoint`: of the leader. `to` leads then. */
export async function moveLeader(etcd: EtcdChoice, endpoint: string, to: string): Promise<void> {
  await ask({ ...etcd, endpoints: [endpoint] }, 'maintenance/transfer-leadership', { targetID: to });
}

/** The member at the endpoint answers nothing meanwhile. */
export async function defragment(etcd: EtcdChoice, endpoint: string, timeoutMs: number): Promise<void> {
  await ask({ ...etcd, endpoints: [endpoint] }, 'maintenance/defragment', {}, timeoutMs);
}
