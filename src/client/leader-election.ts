/**
 * Leader election on a Lease (coordination.k8s.io/v1): at most one holder acts at a time, as long as clocks run at
 * about the same rate. A candidate trusts its own clock only: it takes a lease over when it has not seen it change for
 * a whole duration. A leader that cannot renew within the deadline stops by itself before others may start. The
 * deadline counts from when the renewal was sent - others may count from when it arrived, and the answer may be late -
 * and is kept while an answer is still awaited.
 */
import type { Lease } from '#api/coordination.v1.ts';
import { isReason } from '#base/errors.ts';
import { microTimestamp } from '#base/timestamp.ts';
import { awaitedLater } from '#base/promises.ts';
import { pause } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import type { Client } from './client.ts';
import { kinds } from '#base/kinds.ts';

export interface LeaderElectionOptions {
  client: Client;
  clock: Clock;
  random: Random;
  log: Logger;
  name: string;
  namespace: string;
  /** Unique per candidate. */
  identity: string;
  leaseDurationMs?: number;
  renewDeadlineMs?: number;
  retryPeriodMs?: number;
  /** How often a candidate looks whether another one still leads; as often as it retries when absent. */
  lookPeriodMs?: number;
  /** Told whenever another holder is seen than before, and of this candidate when it becomes one. */
  newLeader?(identity: string): void;
  /** Runs while this candidate leads; must end soon after the signal. */
  lead(signal: AbortSignal): Promise<void>;
  signal: AbortSignal;
}

const leaseRenewDeadlineMs = 10_000;

interface Observed {
  holder: string;
  version: string;
  atMs: number;
}

class Candidate {
  readonly #options: LeaderElectionOptions;
  readonly #leaseDurationMs: number;
  #observed: Observed | undefined;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#leaseDurationMs = options.leaseDurationMs ?? 15_000;
  }

  /** Takes or renews the lease; true when this candidate holds it now. */
  async tryHold(): Promise<boolean> {
    const { client, clock, name, namespace, identity } = this.#options;
    const now = microTimestamp(clock.now());
    const leaseDurationSeconds = Math.ceil(this.#leaseDurationMs / 1000);
    let lease: Lease;
    try {
      lease = await client.get(kinds.Lease, name, namespace);
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
      const spec = {
        holderIdentity: identity,
        leaseDurationSeconds,
        acquireTime: now,
        renewTime: now,
        leaseTransitions: 0,
      };
      return this.#saw(
        await client.create(kinds.Lease, {
          apiVersion: 'coordination.k8s.io/v1',
          kind: 'Lease',
          metadata: { name, namespace },
          spec,
        }),
      );
    }
    const holder = lease.spec.holderIdentity ?? '';
    if (this.#observed?.version !== lease.metadata.resourceVersion) this.#saw(lease);
    if (holder !== identity && holder !== '' && clock.monotonic() - this.#observed!.atMs < this.#leaseDurationMs)
      return false;
    const taken =
      holder === identity ? {} : { acquireTime: now, leaseTransitions: (lease.spec.leaseTransitions ?? 0) + 1 };
    return this.#saw(
      await client.update(kinds.Lease, {
        ...lease,
        spec: { ...lease.spec, holderIdentity: identity, leaseDurationSeconds, renewTime: now, ...taken },
      }),
    );
  }

  async release(): Promise<void> {
    const { client, name, namespace, identity, clock } = this.#options;
    const lease = await client.get(kinds.Lease, name, namespace);
    if (lease.spec.holderIdentity !== identity) return;
    await client.update(kinds.Lease, {
      ...lease,
      spec: { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTimestamp(clock.now()) },
    });
  }

  #saw(lease: Lease): boolean {
    const holder = lease.spec.holderIdentity ?? '';
    if (holder !== '' && holder !== this.#observed?.holder) this.#options.newLeader?.(holder);
    this.#observed = { holder, version: lease.metadata.resourceVersion ?? '', atMs: this.#options.clock.monotonic() };
    return holder === this.#options.identity;
  }
}

/** Campaigns until `signal`; leads again after each loss. */
export async function runLeaderElection(options: LeaderElectionOptions): Promise<void> {
  const { clock, random, log, signal } = options;
  const retryPeriodMs = options.retryPeriodMs ?? 2_000;
  const renewDeadlineMs = options.renewDeadlineMs ?? leaseRenewDeadlineMs;
  const candidate = new Candidate(options);
  const hold = async (): Promise<boolean> => {
    try {
      return await candidate.tryHold();
    } catch (error) {
      if (!isReason(error, 'Conflict', 'AlreadyExists')) log.debug('lease not written', { name: options.name, error });
      return false;
    }
  };
  const rest = (until = signal, periodMs = retryPeriodMs): Promise<void> =>
    pause(clock, periodMs * (1 + random.float() * 0.2), until);
  while (!signal.aborted) {
    const askedMs = clock.monotonic();
    if (!(await hold())) {
      await rest(signal, options.lookPeriodMs);
      continue;
    }
    // After an answer that took longer than a term another may lead already; then this one rather gives others the
    // turn.
    const isLate = clock.monotonic() - askedMs >= renewDeadlineMs;
    if (!isLate) {
      log.info('leading', { name: options.name, identity: options.identity });
      await leadTerm(options, askedMs, hold, rest);
      log.info('leading no more', { name: options.name, identity: options.identity });
    }
    // What is not released expires.
    await candidate.release().catch(() => {});
    if (isLate) await rest();
  }
}

/**
 * Leads until the lease is lost, `lead` ends or the candidate stops. The lease was taken by a request sent at `askedMs`
 * (monotonic).
 */
async function leadTerm(
  options: LeaderElectionOptions,
  askedMs: number,
  hold: () => Promise<boolean>,
  rest: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { clock, signal, lead, renewDeadlineMs = leaseRenewDeadlineMs } = options;
  const over = new AbortController();
  const end = (): void => over.abort();
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  const armed = (sentMs: number): Timer =>
    clock.setTimer(Math.max(0, sentMs + renewDeadlineMs - clock.monotonic()), end);
  let deadline = armed(askedMs);
  const leading = lead(over.signal).finally(end);
  void awaitedLater(leading);
  while (!over.signal.aborted) {
    await rest(over.signal);
    if (over.signal.aborted) break;
    const sentMs = clock.monotonic();
    if (!(await hold()) || over.signal.aborted) continue;
    deadline.cancel();
    deadline = armed(sentMs);
  }
  deadline.cancel();
  signal.removeEventListener('abort', end);
  await leading;
}
