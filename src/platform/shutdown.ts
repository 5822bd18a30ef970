/**
 * How `down` lets containers and Pods end as their stop signals, hooks and grace periods say: it leaves a request in
 * the run directory and sends SIGUSR2 to each node process, which stops its Pods and containers and answers with a
 * file. A node process that is dead, hangs or is too old to know the signal holds nothing up:
 * what it leaves running is ended by `removeAllOf`.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DockerEngine } from '#engine/create-engine.ts';
import { beginShutdown, stopAllContainers } from '#engine/shutdown.ts';
import type { Kubelet } from '#kubelet/kubelet.ts';
import type { Clock } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Processes } from '#os/processes.ts';
import { partStatus, waitUntil } from './launch.ts';
import type { Paths } from './paths.ts';

export const shutdownSignal = 'SIGUSR2';
/** What systemd and most other things that shut machines down give a service, less what the rest of `down` takes. */
const graceMsMax = 75_000;
const overtimeMs = 5_000;

export interface ShutdownRequest {
  hostGoesDown: boolean;
  graceMsMax: number;
}

const requestPath = (paths: Paths): string => join(paths.run, 'shutdown.json');
const answerPath = (paths: Paths, part: string): string => join(paths.run, 'ready', `${part}.stopped`);

/**
 * The node's side. `parts` is undefined while the node still starts: then nothing of it runs yet that would have to be
 * stopped in order.
 */
export async function answerShutdown(
  paths: Paths,
  part: string,
  parts: { engine: DockerEngine; kubelet: Kubelet } | undefined,
  log: Logger,
): Promise<void> {
  try {
    const request = JSON.parse(readFileSync(requestPath(paths), 'utf8')) as ShutdownRequest;
    log.info('stopping Pods and containers', { hostGoesDown: request.hostGoesDown });
    if (parts !== undefined) {
      beginShutdown(parts.engine.containers);
      await Promise.all([
        parts.kubelet.shutDown(request),
        stopAllContainers(parts.engine.containers, request.graceMsMax),
      ]);
    }
  } catch (error) {
    log.error('Pods and containers could not be stopped in order', { error: error as Error });
  }
  writeFileAtomic(answerPath(paths, part), `${process.pid}\n`, { mode: 0o600 });
}

/**
 * The side of `down`: resolves when every node process that lives has answered, or when the longest grace period is
 * over.
 */
export async function stopWorkloads(
  paths: Paths,
  { parts, hostGoesDown }: { parts: string[]; hostGoesDown: boolean },
  processes: Processes,
  clock: Clock,
): Promise<void> {
  writeFileAtomic(requestPath(paths), JSON.stringify({ hostGoesDown, graceMsMax } satisfies ShutdownRequest), {
    mode: 0o600,
  });
  const asked = new Map<string, number>();
  for (const part of parts) {
    rmSync(answerPath(paths, part), { force: true });
    const { pid, ready } = partStatus(paths, part);
    if (pid !== undefined && ready && processes.kill(pid, shutdownSignal)) asked.set(part, pid);
  }
  const answered = ([part, pid]: [string, number]): boolean =>
    readIfExists(answerPath(paths, part)) !== undefined || partStatus(paths, part).pid !== pid;
  await waitUntil(clock, graceMsMax + overtimeMs, () => [...asked].every(answered), 20);
  rmSync(requestPath(paths), { force: true });
}
