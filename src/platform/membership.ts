/**
 * A machine that was taken out of its cluster while it could not be told (`tiphys remove` of a node that was cut off)
 * learns it when it comes back, by being refused. Its Pods run elsewhere by then; here they end, so that there are
 * never two of one identity for longer than it takes to notice. Containers of docker's go on. Nothing but a removal is
 * answered with Unauthorized: a certificate that does not hold makes a stranger, whom the API server forbids.
 */
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { messageOf } from '#base/thrown.ts';
import { whenSettled } from '#base/promises.ts';
import type { Client } from '#client/client.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { Kubelet } from '#kubelet/kubelet.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { membershipLookMs, membershipLooksMin, removedGraceMs } from './limits.ts';

export interface MembershipOptions {
  client: Client;
  node: string;
  clock: Clock;
  log: Logger;
  /** Called once, when the cluster has refused this node again and again. */
  removed(): Promise<void>;
}

/** Looks until it is refused, or until it is disposed. */
export function watchMembership({ client, node, clock, log, removed }: MembershipOptions): Disposable {
  const end = new AbortController();
  const { signal } = end;
  const look = async (): Promise<void> => {
    let refusals = 0;
    while (!signal.aborted) {
      try {
        await client.get(kinds.Node, node);
        refusals = 0;
      } catch (error) {
        // A server that is away says nothing.
        if (isReason(error, 'Unauthorized')) refusals++;
      }
      if (refusals >= membershipLooksMin) {
        log.error("this machine was taken out of its cluster: its Pods end; 'tiphys leave' ends the rest", { node });
        await removed();
        return;
      }
      await whenSettled(clock.sleep(refusals > 0 ? membershipLookMs / 10 : membershipLookMs, signal));
    }
  };
  void look().catch((error: unknown) => log.error('Pods of a node that was taken out', { error }));
  return { [Symbol.dispose]: () => end.abort() };
}

/** Also those of before this process, which no kubelet knows. `kubelet` is undefined while it has not started. */
export async function endPods(
  engine: DockerEngine,
  kubelet: Kubelet | undefined,
  { clock, log }: Pick<MembershipOptions, 'clock' | 'log'>,
): Promise<void> {
  // What a Pod's worker wants to tell the cluster is refused: it is not waited for without end.
  const shutDown = kubelet?.shutDown({ hostGoesDown: true, graceMsMax: removedGraceMs });
  await Promise.race([shutDown, clock.sleep(2 * removedGraceMs)]);
  await Promise.all(
    engine.containers
      .list({ owner: 'kubelet' })
      .filter(({ state }) => state === 'running')
      .map(({ id }) =>
        engine.containers
          .stop(id, removedGraceMs)
          .catch((error: unknown) => log.warn('a container of a Pod does not stop', { id, error: messageOf(error) })),
      ),
  );
}
