/** What is seen of a Pod's containers: the engine's word, with what each has left to say. */
import type { ContainerStatus } from '#engine/engine.ts';
import { containerNamed } from './containers.ts';
import { attemptOf, hasExited } from './attempts.ts';
import { labelContainerName, labelPodUid, labelRestartCount } from './pod-labels.ts';
import { adoptRunning, forgiveExits, type Attempt, type Observed } from './container-memory.ts';
import type { PodState } from './pod-state.ts';
import { readTerminationMessage } from './termination-message.ts';

export async function observePod(state: PodState): Promise<Observed> {
  const byName = new Map<string, Attempt[]>();
  const found = state.host.engine.containers.list({ owner: 'kubelet', labels: { [labelPodUid]: state.uid } });
  for (const status of found) {
    if (status.state === 'removing') continue;
    const name = status.labels[labelContainerName]!;
    const attempt = attemptOf(status, hasExited(status) ? await terminationMessage(state, name, status) : '');
    const attempts = byName.get(name);
    if (attempts === undefined) byName.set(name, [attempt]);
    else attempts.push(attempt);
  }
  for (const attempts of byName.values())
    if (attempts.length > 1) attempts.sort((a, b) => b.restartCount - a.restartCount || b.startedAtMs - a.startedAtMs);
  return byName;
}

async function terminationMessage(state: PodState, name: string, status: ContainerStatus): Promise<string> {
  const known = state.messages?.get(status.id);
  if (known !== undefined) return known;
  const { engine, files } = state.host;
  const text = await readTerminationMessage(
    engine,
    await files.readTerminationMessage(state.uid, name, Number(status.labels[labelRestartCount] ?? 0)),
    containerNamed(state.pod, name),
    status,
  );
  (state.messages ??= new Map()).set(status.id, text);
  return text;
}

/** What an earlier kubelet has left, once: what runs goes on, and what went with its sandbox has not crashed. */
export function adoptPod(state: PodState, observed: Observed): void {
  state.isAdopted = true;
  const { prober, engine } = state.host;
  adoptRunning(state.pod, observed, state.memory, (kind, container, containerId) =>
    prober.isAsked(kind, { container, containerId }),
  );
  if (observed.size > 0 && engine.sandboxes.status(state.uid)?.ready !== true) forgiveExits(observed, state.memory);
}
