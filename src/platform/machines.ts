/** The machines of a cluster, as one who uses them sees them; and how one of them is taken out. */
import type { Node } from '#api/core.v1.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { machineAnnotations } from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import { drainMsMax, removalSettleMs } from '#controllers/limits.ts';
import { realClock } from '#os/clock.real.ts';
import { rmSync } from 'node:fs';
import { accessCluster, administer, instanceHere } from './cluster-access.ts';
import { takeDown } from './down.ts';
import { hostName } from './host.ts';
import { nodePlan, saveInstance } from './instance.ts';
import { nodesAnswerMsMax, removalMsMax, removalStepMs } from './limits.ts';
import { localNodes } from './local-nodes.ts';
import { files, type Paths } from './paths.ts';

export interface MachineNode {
  name: string;
  roles: string[];
  /** In words: `Ready`, `NotReady`, with what else is to be known. */
  health: string;
  /** Of Kubernetes, and of Tiphys. */
  version: string;
  /** Where its machine is reached; empty where it does not say. */
  address: string;
  podRange: string;
}

/** A server that does not answer is not waited for. */
export async function listMachineNodes(paths: Paths): Promise<MachineNode[]> {
  await using stack = new AsyncDisposableStack();
  const { items } = await accessCluster(paths, stack)
    .list(kinds.Node, { signal: AbortSignal.timeout(nodesAnswerMsMax) })
    .catch((error: unknown) => Promise.reject(outOfTouch(paths, error)));
  return items.map(describeNode);
}

const rolePrefix = 'node-role.kubernetes.io/';

function describeNode({ metadata, spec, status }: Node): MachineNode {
  const roles = Object.keys(metadata.labels ?? {}).filter((label) => label.startsWith(rolePrefix));
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  const others = (status?.conditions ?? []).filter(({ type, status: is }) => type !== 'Ready' && is === 'True');
  const { kubeletVersion = '', containerRuntimeVersion = '' } = status?.nodeInfo ?? {};
  return {
    name: metadata.name,
    roles: roles.length === 0 ? ['worker'] : roles.map((label) => label.slice(rolePrefix.length)),
    health: [
      ready?.status === 'True'
        ? 'Ready'
        : `NotReady${ready === undefined ? '' : ` (${ready.message ?? ready.reason})`}`,
      ...others.map(({ type }) => type),
      ...(metadata.annotations?.[machineAnnotations.removal] === undefined
        ? spec.unschedulable === true
          ? ['SchedulingDisabled']
          : []
        : ['being removed']),
    ].join(', '),
    version: `${kubeletVersion} (${containerRuntimeVersion.replace('tiphys://', 'Tiphys ')})`,
    address: metadata.annotations?.[machineAnnotations.address] ?? '',
    podRange: spec.podCIDR ?? '',
  };
}

/** What a machine that joined is told when the cluster does not know it, or does not answer. */
function outOfTouch(paths: Paths, error: unknown): unknown {
  const { joined } = instanceHere(paths);
  if (joined === undefined) return error;
  if (isReason(error, 'Unauthorized'))
    return new ApiError(
      'Unauthorized',
      `the cluster of ${joined.server} does not know this machine any more: node ${joined.node} was taken out of it. 'tiphys leave' ends what runs here; then it can join again`,
    );
  return new ApiError('ServiceUnavailable', `${joined.server} does not answer: ${messageOf(error)}`);
}

/** Asks the control plane to empty a node and take it out; resolves when that is done. Returns what is to be known. */
export async function removeMachineNode(paths: Paths, name: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const client = administer(paths, stack);
  const instance = instanceHere(paths);
  if (localNodes(paths).some((number) => nodePlan(instance, number, hostName()).name === name))
    throw new ApiError(
      'BadRequest',
      `node ${name} runs on this machine: 'tiphys up --nodes N' takes the last ones away, 'tiphys down' ends all`,
    );
  await askRemoval(client, name);
  await awaitRemoval(client, name);
}

async function askRemoval(client: Client, name: string): Promise<void> {
  const annotations = { [machineAnnotations.removal]: timestamp(realClock.now()) };
  try {
    await client.patch(kinds.Node, { name }, { merge: { metadata: { annotations } } });
  } catch (error) {
    if (!isReason(error, 'NotFound')) throw error;
    throw new ApiError('NotFound', `the cluster has no node ${name}; 'tiphys nodes' lists them`);
  }
}

/** A node that is out is told so by being refused. */
async function awaitRemoval(client: Client, name: string): Promise<void> {
  const deadline = realClock.monotonic() + drainMsMax + removalMsMax;
  for (;;) {
    try {
      await client.get(kinds.Node, name);
    } catch (error) {
      if (isReason(error, 'NotFound', 'Unauthorized')) return;
      // The server may be away for a moment.
      if (!isReason(error, 'ServiceUnavailable', 'Timeout')) throw error;
    }
    if (realClock.monotonic() > deadline)
      throw new ApiError(
        'Timeout',
        `node ${name} is still being taken out; 'tiphys nodes' on the server shows when it is`,
      );
    await realClock.sleep(removalStepMs);
  }
}

export interface LeaveOptions {
  /** Also where the server does not answer. */
  force: boolean;
  /** Images, containers and volumes go, too. */
  purge: boolean;
}

/** Takes this machine out of the cluster that it joined, and ends what runs here. */
export async function leaveCluster(paths: Paths, { force, purge }: LeaveOptions): Promise<void> {
  const instance = instanceHere(paths);
  const { joined } = instance;
  if (joined === undefined)
    throw new ApiError(
      'BadRequest',
      "the control plane runs on this machine: 'tiphys down' stops it, 'tiphys down --purge' ends the cluster; other machines leave by 'tiphys remove NODE'",
    );
  if (joined.hasLeft !== true && !force) await askToGo(paths, joined.node);
  await takeDown(paths, { purge });
  if (purge) return;
  saveInstance(paths, { ...instance, joined: { ...joined, hasLeft: true } });
  rmSync(files.nodePki(paths, 1), { recursive: true, force: true });
}

async function askToGo(paths: Paths, node: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const client = accessCluster(paths, stack);
  try {
    await askRemoval(client, node);
    await awaitRemoval(client, node);
    // It is refused a moment before its name is free again.
    await realClock.sleep(removalSettleMs + removalStepMs);
  } catch (error) {
    // It was taken out before.
    if (isReason(error, 'Unauthorized', 'NotFound')) return;
    throw new ApiError(
      'ServiceUnavailable',
      `the cluster could not be told: ${messageOf(error)}. 'tiphys leave --force' ends what runs here all the same; then run 'tiphys remove ${node}' on the server`,
    );
  }
}
