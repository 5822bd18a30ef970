/** Of all machines of a cluster one upgrades the others at a time: whoever holds a Lease. */
import { ApiError } from '#base/errors.ts';
import { runLeaderElection } from '#client/leader-election.ts';
import { whenSettled } from '#base/promises.ts';
import type { Client } from '#client/client.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import type { Timer } from '#os/clock.ts';
import { machineWellMsMax, upgradeLeaseMs, upgradeLeaseWaitMs } from '../limits.ts';

const lease = { name: 'tiphys-upgrade', namespace: 'kube-system' };

/**
 * `name`: of this machine's node. `run` begins again where the Lease was lost on the way and is held again, and passes
 * over what is done. Rejects with Conflict where another one holds the Lease.
 */
export async function oneAtATime<T>(
  client: Client,
  name: string,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const end = new AbortController();
  let holder = '';
  let result: Promise<T> | undefined;
  const giveUpAfter = (ms: number): Timer => realClock.setTimer(ms, () => end.abort());
  let late = giveUpAfter(upgradeLeaseWaitMs);
  await runLeaderElection({
    ...{ client, clock: realClock, random: realRandom, log: silentLogger, ...lease },
    identity: name,
    leaseDurationMs: upgradeLeaseMs,
    // As long as the API may be away on the way.
    renewDeadlineMs: upgradeLeaseMs - 1_000,
    retryPeriodMs: 1_000,
    newLeader: (identity) => {
      holder = identity;
      if (result !== undefined && identity !== name) end.abort();
    },
    lead: async (signal) => {
      late.cancel();
      result = run(signal);
      await whenSettled(result);
      if (!signal.aborted) end.abort();
      late = giveUpAfter(machineWellMsMax);
    },
    signal: end.signal,
  });
  late.cancel();
  if (result === undefined)
    throw new ApiError(
      'Conflict',
      `${holder === '' ? 'another machine' : holder} upgrades the machines of this cluster now: wait until that has ended`,
    );
  return result;
}
