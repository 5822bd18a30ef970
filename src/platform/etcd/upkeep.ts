/**
 * What a server does for the member of the cluster's own etcd on its machine, again and again:
 *
 * - A member begins as a learner, which has no vote. It is given one as soon as there are three members: of two with a
 *   vote each would be able to stop the cluster, so the second waits for the third.
 * - Where the members are is written down, and the store asks this machine's own first once that one answers.
 * - Its certificate is renewed, and it begins anew when other authorities hold. Its file is made smaller when half of
 *   it is free, one member at a time; an alarm that there is no space is ended when there is some again; a learner that
 *   never began is taken out.
 * - A server whose member was taken out of etcd ends: what it says is not the cluster's any more.
 *
 * Each round begins with what etcd says now, and may be the last one of this process.
 */
import type { Clock, Random } from '#os/clock.ts';
import { isReason } from '#base/errors.ts';
import { whenSettled } from '#base/promises.ts';
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { EtcdStore, isOutOfSpace } from '#store/etcd/etcd-store.ts';
import type { Store } from '#store/store.ts';
import { currentEndpoints } from '../cluster-store.ts';
import { finalExitCode } from '../final-error.ts';
import { loadKeyRing } from '../identity.ts';
import type { EtcdMember, Instance } from '../instance.ts';
import { partStatus, stopPart } from '../launch.ts';
import {
  blindDefragmentMsMax,
  blindDefragmentMsMin,
  defragmentBytesMin,
  defragmentFreePartMin,
  defragmentMsMax,
  etcdUpkeepMs,
  idleLearnerMsMax,
  roomPartMin,
} from '../limits.ts';
import { files, type Paths } from '../paths.ts';
import {
  defragment,
  endAlarm,
  listAlarms,
  listMembers,
  promoteMember,
  readMemberState,
  removeMember,
  type ListedMember,
} from './admin.ts';
import { handOver, lives } from './leave.ts';
import {
  clientUrl,
  keepEtcdCertificate,
  knowsAuthorities,
  ownEtcd,
  peerUrl,
  quotaOf,
  withEtcdAuthority,
} from './member.ts';

export interface UpkeepOptions {
  paths: Paths;
  instance: Instance;
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** Does nothing where no member runs here. Until it is disposed. */
export function keepMember(options: UpkeepOptions): Disposable {
  const { member, etcd } = options.instance;
  const end = new AbortController();
  if (member !== undefined && etcd !== undefined) {
    const upkeep = new Upkeep(options, member, etcd.endpoints);
    void upkeep.run(end.signal);
  }
  return { [Symbol.dispose]: () => end.abort() };
}

/** The members by which the store is to ask, this machine's own first where it has a vote. */
export function orderEndpoints(members: readonly ListedMember[], own: EtcdMember): string[] {
  const voters = members.filter(({ isLearner }) => !isLearner);
  const isOwn = ({ peerUrls }: ListedMember): boolean => peerUrls.includes(peerUrl(own));
  return [...voters.filter(isOwn), ...voters.filter((each) => !isOwn(each))].flatMap(({ clientUrls }) =>
    clientUrls.slice(0, 1),
  );
}

class Upkeep {
  readonly #options: UpkeepOptions;
  readonly #member: EtcdMember;
  readonly #first: string[];
  #endpoints = '';
  /** Since when learners are there that have not begun. */
  readonly #idleSinceMs = new Map<string, number>();

  #blindAtMs = 0;
  #blindWaitMs = 0;

  constructor(options: UpkeepOptions, member: EtcdMember, first: string[]) {
    this.#options = options;
    this.#member = member;
    this.#first = first;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#round();
      } catch (error) {
        log.debug('upkeep of etcd', { error: messageOf(error) });
      }
      await whenSettled(clock.sleep(etcdUpkeepMs, signal));
    }
  }

  #etcd(): ReturnType<typeof ownEtcd> {
    const { paths } = this.#options;
    return ownEtcd(paths, currentEndpoints(paths, ownEtcd(paths, this.#first)));
  }

  async #round(): Promise<void> {
    const { paths, clock, random } = this.#options;
    const ring = withEtcdAuthority(paths, loadKeyRing(paths, { clock, random }), { clock, random });
    keepEtcdCertificate(paths, this.#member, ring, { clock, random });
    const members = await listMembers(this.#etcd());
    const own = members.find(({ peerUrls }) => peerUrls.includes(peerUrl(this.#member)));
    if (own === undefined) {
      await this.#end();
      return;
    }
    this.#noteEndpoints(members);
    await this.#promote(own, members);
    await this.#removeIdle(members);
    if (!knowsAuthorities(paths)) await this.#beginAnew(own, members);
    await this.#keepSpace();
  }

  async #promote(own: ListedMember, members: readonly ListedMember[]): Promise<void> {
    if (!own.isLearner || members.length < 3) return;
    try {
      await promoteMember(this.#etcd(), own.id);
      this.#options.log.info('this member of etcd votes from now on', { members: members.length });
    } catch (error) {
      // It has not caught up yet.
      if (!isReason(error, 'Conflict')) throw error;
    }
  }

  #noteEndpoints(members: readonly ListedMember[]): void {
    const { paths, store } = this.#options;
    const endpoints = orderEndpoints(members, this.#member);
    const text = JSON.stringify(endpoints);
    if (endpoints.length === 0 || text === this.#endpoints) return;
    if (readIfExists(files.etcdEndpoints(paths)) !== text)
      writeFileAtomic(files.etcdEndpoints(paths), text, { mode: 0o600, sync: true });
    if (store instanceof EtcdStore) store.useEndpoints(endpoints);
    this.#endpoints = text;
  }

  /**
   * etcd learns whom it believes when it begins. Not while another member is away; nobody waits for an election. Its
   * supervisor starts it again.
   */
  async #beginAnew(own: ListedMember, members: readonly ListedMember[]): Promise<void> {
    const { paths, log } = this.#options;
    const etcd = this.#etcd();
    const live = await Promise.all(members.filter(({ isLearner }) => !isLearner).map((each) => lives(etcd, each)));
    const { pid } = partStatus(paths, 'etcd');
    if (!live.every(Boolean) || pid === undefined) return;
    await handOver(etcd, own);
    log.info('etcd begins anew: other authorities hold');
    linuxProcesses.kill(pid, 'SIGTERM');
  }

  async #removeIdle(members: readonly ListedMember[]): Promise<void> {
    const { clock, log } = this.#options;
    const idle = members.filter(({ isLearner, name }) => isLearner && name === '').map(({ id }) => id);
    for (const id of this.#idleSinceMs.keys()) if (!idle.includes(id)) this.#idleSinceMs.delete(id);
    for (const id of idle) {
      const sinceMs = this.#idleSinceMs.get(id) ?? clock.monotonic();
      this.#idleSinceMs.set(id, sinceMs);
      if (clock.monotonic() < sinceMs + idleLearnerMsMax) continue;
      log.warn('a server that began to join etcd and never came is taken out of it', { id });
      await removeMember(this.#etcd(), id);
    }
  }

  /** One member at a time: each answers nothing while its file is written anew. */
  async #keepSpace(): Promise<void> {
    const { log, store } = this.#options;
    const etcd = this.#etcd();
    const own = clientUrl(this.#member);
    const { sizeBytes, usedBytes } = await readMemberState(etcd, own);
    const alarms = (await listAlarms(etcd)).filter(({ type }) => type === 'NOSPACE');
    const quota = quotaOf(this.#options.paths);
    const freeBytes = sizeBytes - usedBytes;
    const isWorth = sizeBytes >= defragmentBytesMin && freeBytes >= sizeBytes * defragmentFreePartMin;
    if (alarms.length === 0) this.#blindWaitMs = 0;
    const isFull = alarms.length > 0 && sizeBytes > quota * (1 - roomPartMin);
    if (isWorth || (isFull && (freeBytes > quota * roomPartMin || this.#isTimeToTry()))) {
      const lock = await this.#lock(store);
      if (lock === undefined) return;
      try {
        log.info('the file of etcd is made smaller', { sizeBytes, usedBytes });
        await defragment(etcd, own, defragmentMsMax);
      } finally {
        if (lock > 0) await whenSettled(store.revokeLease(lock));
      }
      return;
    }
    if (alarms.length === 0) return;
    const states = await Promise.all(etcd.endpoints.map((endpoint) => readMemberState(etcd, endpoint)));
    if (states.some((state) => state.sizeBytes > quota * (1 - roomPartMin))) {
      log.error("etcd has no space left and takes no writes; 'tiphys status' says how large it is");
      return;
    }
    for (const alarm of alarms) await endAlarm(etcd, alarm);
    log.warn('etcd has space again and takes writes');
  }

  /**
   * What compaction has freed is counted only with a later write, and etcd without space takes none: so its file is
   * made smaller now and then without knowing that it helps.
   */
  #isTimeToTry(): boolean {
    const nowMs = this.#options.clock.monotonic();
    if (nowMs < this.#blindAtMs) return false;
    this.#blindWaitMs = Math.min(blindDefragmentMsMax, Math.max(blindDefragmentMsMin, this.#blindWaitMs * 2));
    this.#blindAtMs = nowMs + this.#blindWaitMs;
    return true;
  }

  /** A lease; undefined where another member is at it; 0 where etcd takes no keys, and one is as good as another. */
  async #lock(store: Store): Promise<number | undefined> {
    try {
      const lease = await store.grantLease(Math.ceil(defragmentMsMax / 1000));
      const value = Buffer.from(this.#member.name);
      const key = '/tiphys/defragmenting';
      const { succeeded } = await store.txn([{ key, modRevision: 0 }], [{ type: 'put', key, value, lease }]);
      if (succeeded) return lease;
      await store.revokeLease(lease);
      return undefined;
    } catch (error) {
      if (isOutOfSpace(error)) return 0;
      throw error;
    }
  }

  /** Its supervisors do not start them again. */
  async #end(): Promise<void> {
    const { paths, clock, log } = this.#options;
    log.error("this machine was taken out of the cluster's servers: its server ends; 'tiphys leave' ends the rest");
    await stopPart(paths, 'etcd', linuxProcesses, clock);
    process.exit(finalExitCode);
  }
}
