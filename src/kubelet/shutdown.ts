/**
 * The end of the platform or of the machine, for Pods. When the platform alone goes down, containers stop in their
 * grace periods and the Pods wait for the next kubelet. When the machine goes down, the node says so first (Ready is
 * False, so that nothing is sent to it any more), and Pods that a controller answers for are over: Failed with the
 * condition DisruptionTarget, as Kubernetes' graceful node shutdown has it. A Pod of nobody's would be lost by that; it
 * starts again after the boot instead.
 */
import type { Pod } from '#api/core.v1.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { shutdownWordMsMax } from './limits.ts';
import type { Refusal } from './status.ts';
import { rfc3339 } from './status.ts';

export interface ShutdownOptions {
  /** The machine itself goes down, not only the platform. */
  hostGoesDown: boolean;
  /** No Pod has longer than this. */
  graceMsMax: number;
}

export interface ShutdownParts {
  client: Client;
  clock: Clock;
  log: Logger;
  nodeName: string;
  workers(): { pod: Pod; shutDown(graceMsMax: number, farewell: Refusal | undefined): Promise<void> }[];
}

const farewell: Refusal = {
  reason: 'Terminated',
  message: 'Pod was terminated in response to imminent node shutdown.',
  disrupted: true,
};

function isControlled(pod: Pod): boolean {
  return (pod.metadata.ownerReferences ?? []).some((owner) => owner.controller === true);
}

/** Resolves when no container of a Pod runs. Pods of lower priority are not told apart: all have the same time. */
export async function shutDownPods(parts: ShutdownParts, options: ShutdownOptions): Promise<void> {
  const { client, clock, log, nodeName } = parts;
  if (options.hostGoesDown) {
    const now = rfc3339(clock.now());
    const ready = {
      type: 'Ready',
      status: 'False',
      reason: 'KubeletNotReady',
      message: 'node is shutting down',
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    };
    const told = client
      .patch(
        kinds.Node,
        { name: nodeName },
        { strategic: { status: { conditions: [ready] } } },
        { subresource: 'status' },
      )
      .catch((error: unknown) => log.warn('the shutdown could not be announced', { error }));
    await Promise.race([told, clock.sleep(shutdownWordMsMax)]);
  }
  await Promise.all(
    parts.workers().map(async (worker) => {
      await worker
        .shutDown(options.graceMsMax, options.hostGoesDown && isControlled(worker.pod) ? farewell : undefined)
        .catch((error: unknown) => log.warn('a Pod did not stop', { pod: worker.pod.metadata.name ?? '', error }));
    }),
  );
}
