/**
 * Nodes that the user takes away (`up` with fewer of them): their Pods move, their processes end, nothing of theirs
 * stays in the kernel, and the cluster forgets them. What was interrupted is done by the next `up`: the note of a node
 * that leaves goes last (`local-nodes.ts`). Their data stays until `down --purge`.
 */
import { rmSync } from 'node:fs';
import type { Client } from '#client/client.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { kinds } from '#base/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock } from '#os/clock.real.ts';
import { createMounts } from '#os/mount.linux.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { clearNode } from './clear-node.ts';
import { drainNodes, removeNode, setUnschedulable } from '#controllers/drain.ts';
import { hostName, removeUplink } from './host.ts';
import { nodePlan, type Instance } from './instance.ts';
import { partStatus, stopPart } from './launch.ts';
import { forgetLeaving, leavingNodes, localNodes } from './local-nodes.ts';
import { files, type Paths } from './paths.ts';
import { stopWorkloads } from './shutdown.ts';

/** Once the parts that stay are ready. Resolves with what the user should know. */
export async function settleLeavingNodes(instance: Instance, paths: Paths): Promise<string[]> {
  const leaving = leavingNodes(paths);
  if (leaving.length === 0) return [];
  await using stack = new AsyncDisposableStack();
  const transport = stack.use(createHttpTransport({ ...loadKubeconfig(files.adminConfig(paths)), clock: realClock }));
  const client = createClient(transport, 'tiphys-up');
  const nameOf = (number: number): string => nodePlan(instance, number, hostName()).name;
  const wanted = new Set(localNodes(paths));
  for (const number of leaving.filter((each) => wanted.has(each))) {
    await setUnschedulable(client, nameOf(number), false);
    forgetLeaving(paths, number);
  }
  const gone = leaving.filter((each) => !wanted.has(each));
  const running = gone.filter((number) => partStatus(paths, partOf(number)).ready);
  const left = await drainNodes(client, realClock, running.map(nameOf));
  const notes = [
    ...left.map((pod) => `Pod ${pod} could not be evicted in time; it was stopped with its node`),
    ...(await volumesOf(client, gone.map(nameOf))),
  ];
  await endNodes(instance, paths, gone);
  for (const number of gone) {
    await removeNode(client, nameOf(number));
    forgetLeaving(paths, number);
  }
  return notes;
}

const partOf = (number: number): string => `node-${number}`;

/** Ends the processes of nodes, what is left of their Pods, and what they have in the kernel. */
async function endNodes(instance: Instance, paths: Paths, numbers: number[]): Promise<void> {
  const parts = numbers.map(partOf);
  // As if their machine went down: what a controller answers for is over, and made anew elsewhere.
  await stopWorkloads(paths, { parts, hostGoesDown: true }, linuxProcesses, realClock);
  await Promise.all(parts.map((part) => stopPart(paths, part, linuxProcesses, realClock)));
  await using stack = new AsyncDisposableStack();
  const network = createNetworkDoor();
  stack.defer(() => network.close());
  const mounts = createMounts();
  for (const number of numbers) {
    await clearNode(instance, paths, number, { network, mounts });
    await removeUplink(instance, number, network);
    rmSync(files.nodeRun(paths, number), { recursive: true, force: true });
  }
}

/** Volumes on these nodes: their Pods wait until the node is back. */
async function volumesOf(client: Client, names: string[]): Promise<string[]> {
  const { items } = await client.list(kinds.PersistentVolume);
  return items.flatMap(({ metadata, spec }) => {
    const terms = spec.nodeAffinity?.required?.nodeSelectorTerms ?? [];
    const node = names.find((name) =>
      terms.some(({ matchExpressions = [] }) =>
        matchExpressions.some(({ key, values }) => key === 'kubernetes.io/hostname' && values?.includes(name) === true),
      ),
    );
    if (node === undefined || spec.claimRef === undefined) return [];
    const claim = `${spec.claimRef.namespace}/${spec.claimRef.name}`;
    return [`volume ${metadata.name} of claim ${claim} is on ${node}: its Pods wait until that node is back`];
  });
}
