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
import { checkLeaving, findMember, forgetCluster, takeMemberOut, withoutServer } from './etcd/leave.ts';
import { leaderLease, nodeOfLeader } from './control-plane.ts';
import { nodePlan, runsServer, saveInstance, type Instance } from './instance.ts';
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
  const client = accessCluster(paths, stack);
  const { items } = await client
    .list(kinds.Node, { signal: AbortSignal.timeout(nodesAnswerMsMax) })
    .catch((error: unknown) => Promise.reject(outOfTouch(paths, error)));
  const leader = runsServer(instanceHere(paths)) ? await leaderOf(client) : undefined;
  return items.map((node) => describeNode(node, node.metadata.name === leader));
}

/** The node of the server that leads; undefined where none does. */
async function leaderOf(client: Client): Promise<string | undefined> {
  try {
    const { spec } = await client.get(kinds.Lease, leaderLease.name, leaderLease.namespace);
    return spec?.holderIdentity === undefined ? undefined : nodeOfLeader(spec.holderIdentity);
  } catch (error) {
    if (isReason(error, 'NotFound')) return undefined;
    throw error;
  }
}

const rolePrefix = 'node-role.kubernetes.io/';

function describeNode({ metadata, spec, status }: Node, leads: boolean): MachineNode {
  const roles = Object.keys(metadata.labels ?? {}).filter((label) => label.startsWith(rolePrefix));
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  const others = (status?.conditions ?? []).filter(({ type, status: is }) => type !== 'Ready' && is === 'True');
  const { kubeletVersion = '', containerRuntimeVersion = '' } = status?.nodeInfo ?? {};
  return {
    name: metadata.name,
    roles: [
      ...(roles.length === 0 ? ['worker'] : roles.map((label) => label.slice(rolePrefix.length))),
      ...(leads ? ['leader'] : []),
    ],
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
      `node ${name} runs on this machine: 'tiphys up --nodes N' takes the last ones away, ${instance.joined === undefined ? "'tiphys down' ends all" : "'tiphys leave' takes this machine out"}`,
    );
  await checkLeaving(paths, instance, name);
  await askRemoval(client, name).catch(async (error: unknown) => {
    // Its Node may be gone already, and its member of etcd not.
    if (!isReason(error, 'NotFound') || (await findMember(paths, instance, name)) === undefined) throw error;
  });
  await awaitRemoval(client, name);
  await takeMemberOut(paths, instance, name);
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
      instance.member === undefined
        ? "the control plane runs on this machine: 'tiphys down' stops it, 'tiphys down --purge' ends the cluster; other machines leave by 'tiphys remove NODE'"
        : "the cluster began on this machine, which has its registry: 'tiphys remove NODE' on another server takes it out, then 'tiphys down --purge' here ends what runs",
    );
  if (joined.hasLeft !== true && !force) await askToGo(paths, instance, joined.node);
  await takeDown(paths, { purge });
  if (purge) return;
  saveInstance(paths, withoutServer({ ...instance, joined: { ...joined, hasLeft: true } }));
  forgetCluster(paths);
  rmSync(files.nodePki(paths, 1), { recursive: true, force: true });
  // It joins again with whatever program that is done by.
  rmSync(files.programRecord(paths), { force: true });
}

async function askToGo(paths: Paths, instance: Instance, node: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const client = accessCluster(paths, stack);
  try {
    await checkLeaving(paths, instance, node);
    // A server whose member is gone was taken out before; its own API server does not run any more.
    if (instance.member !== undefined && (await findMember(paths, instance, node)) === undefined) return;
    await askRemoval(client, node);
    await awaitRemoval(client, node);
    // It is refused a moment before its name is free again.
    await realClock.sleep(removalSettleMs + removalStepMs);
    await takeMemberOut(paths, instance, node);
  } catch (error) {
    if (isReason(error, 'Conflict')) throw error;
    // It was taken out before.
    if (isReason(error, 'Unauthorized', 'NotFound')) return;
    throw new ApiError(
      'ServiceUnavailable',
      `the cluster could not be told: ${messageOf(error)}. 'tiphys leave --force' ends what runs here all the same; then run 'tiphys remove ${node}' on the server`,
    );
  }
}
