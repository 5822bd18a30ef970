/**
 * `tiphys upgrade` of a cluster: this machine first, whose server keeps the program for the others, then the other
 * servers, then the workers, one after the other. Each is told by its Node and does it by itself (`follow-program.ts`);
 * the next one's turn comes when its node is ready, its API server answers, and every member of etcd has its vote. Who
 * is killed on the way begins again: machines that are done are passed over.
 */
import type { Node } from '#api/core.v1.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { controlPlaneRole, machineAnnotations } from '#base/node-identity.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { administer, instanceHere } from '../cluster-access.ts';
import { reportEtcd } from '../etcd/report.ts';
import { hostName } from '../host.ts';
import { newestFormat, nodePlan, nodesPerMachineMax } from '../instance.ts';
import { versionProblem } from '../join-checks.ts';
import { partStatus } from '../launch.ts';
import { machineUpgradeMsMax, machineWellMsMax, programLookMs } from '../limits.ts';
import { localNodes } from '../local-nodes.ts';
import type { Paths } from '../paths.ts';
import { retryWhile } from '../retry.ts';
import { kubernetesVersion } from '../version.ts';
import { oneAtATime } from './one-at-a-time.ts';
import { failureOf, isDone, readState, type Order, type ProgramState } from './orders.ts';
import type { Program } from './program.ts';

export interface Machine {
  /** Of its first node. */
  name: string;
  isServer: boolean;
  isReady: boolean;
  /** Undefined: its program is from before machines could be told. */
  state: ProgramState | undefined;
}

interface SeenNode {
  metadata: Pick<Node['metadata'], 'name' | 'labels' | 'annotations'>;
  status?: { conditions?: { type: string; status: string }[] };
}

/** All but this one, whose nodes are `own`: servers first. A machine's first node speaks for it. */
export function otherMachines(nodes: readonly SeenNode[], own: readonly string[]): Machine[] {
  const byAddress = new Map<string, Machine>();
  for (const { metadata, status } of nodes) {
    if (own.includes(metadata.name)) continue;
    const { annotations = {}, labels = {} } = metadata;
    const state = readState(annotations[machineAnnotations.programState]);
    const address = annotations[machineAnnotations.address] ?? metadata.name;
    // Further nodes of the machine where the cluster began say nothing.
    if (byAddress.get(address)?.state !== undefined && state === undefined) continue;
    byAddress.set(address, {
      name: metadata.name,
      isServer: labels[controlPlaneRole] !== undefined,
      isReady: status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true,
      state,
    });
  }
  return [...byAddress.values()].sort((x, y) => Number(y.isServer) - Number(x.isServer) || (x.name < y.name ? -1 : 1));
}

/** What stands in the way before anything is done; undefined where nothing does. */
export function upgradeProblem(
  machines: readonly Machine[],
  { version, runs }: { version: string; /** This machine. */ runs: string },
): string | undefined {
  const own = skewProblem(runs, version, true);
  if (own !== undefined) return `this machine ${own}`;
  const away = machines.filter(({ isReady }) => !isReady).map(({ name }) => name);
  if (away.length > 0)
    return `${away.join(', ')} ${away.length === 1 ? 'is' : 'are'} away: all machines must be there, or one would be left with a program too old. Start it ('tiphys up'), or 'tiphys remove ${away[0]}' if it is lost for good; 'tiphys upgrade --here' upgrades this machine alone`;
  const deaf = machines.filter(({ state }) => state === undefined).map(({ name }) => name);
  if (deaf.length > 0)
    return `${deaf.join(', ')} cannot be told: the program there is from before 'tiphys upgrade'. Run 'tiphys upgrade --here' with this program on each machine, servers first`;
  for (const { name, state, isServer } of machines) {
    const problem = skewProblem(state?.kubernetesVersion ?? '', version, isServer);
    if (problem !== undefined) return `${name} ${problem}`;
  }
  return undefined;
}

/** Servers go one minor version of Kubernetes at a time, and kubelets are no newer than servers and not much older. */
function skewProblem(own: string, target: string, isServer: boolean): string | undefined {
  const minor = (version: string): number => Number(/^v\d+\.(\d+)\./.exec(version)?.[1] ?? Number.NaN);
  const apart = minor(target) - minor(own);
  if (isServer && Math.abs(apart) > 1)
    return `runs Kubernetes ${own}, and this program is ${target}: go by a version of Tiphys with each minor version between them`;
  // What does not say its version is not judged by it, and on the way back nothing is too old.
  if (Number.isNaN(apart) || apart < 0) return undefined;
  const problem = versionProblem(own, target);
  return problem === undefined ? undefined : `runs Kubernetes ${own}, and this program is ${target}: ${problem}`;
}

interface ClusterUpgradeOptions {
  program: Pick<Program, 'id' | 'kubernetesVersion'>;
  isFinal: boolean;
  /** Brings this machine there. */
  here(): Promise<void>;
  /** Told of each machine that has come there. */
  progress(name: string): void;
}

/** Answers the names of the other machines. */
export async function upgradeCluster(paths: Paths, options: ClusterUpgradeOptions): Promise<string[]> {
  const { program, isFinal, here, progress } = options;
  // One that begins anew is waited for.
  if (partStatus(paths, 'server').supervisor === undefined)
    throw new ApiError(
      'ServiceUnavailable',
      "the API server does not run here: 'tiphys up' first, or 'tiphys upgrade --here' for this machine alone",
    );
  const { machines, runs } = await listMachines(paths);
  const problem = upgradeProblem(machines, { version: program.kubernetesVersion || kubernetesVersion, runs });
  if (problem !== undefined) throw new ApiError('Conflict', problem);
  await awaitWell(paths, undefined);
  if (isFinal) refuseMixed(machines, program.id);
  const order: Order = { id: program.id, attempt: realRandom.uuid(), isFinal };
  const own = nodePlan(instanceHere(paths), 1, hostName()).name;
  if (machines.length === 0) {
    await here();
    return [];
  }
  await using stack = new AsyncDisposableStack();
  const told = new Set<string>();
  const tell = (name: string): void => {
    if (!told.has(name)) progress(name);
    told.add(name);
  };
  await oneAtATime(administer(paths, stack), own, async (signal) => {
    await here();
    tell(own);
    for (const { name } of machines) {
      if (signal.aborted)
        throw new ApiError(
          'Conflict',
          `the API was away for too long, or another machine upgrades this cluster now; ${name} is not done: run this again`,
        );
      if (await upgradeOther(paths, name, order)) tell(name);
    }
  });
  return machines.map(({ name }) => name);
}

/** What newer formats an older program writes nobody reads. */
function refuseMixed(machines: readonly Machine[], id: string): void {
  const others = machines.filter(({ state }) => state?.id !== id).map(({ name }) => name);
  if (others.length > 0)
    throw new ApiError(
      'Conflict',
      `${others.join(', ')} runs another program than this machine: 'tiphys upgrade' first`,
    );
}

/** A server that begins anew breaks off what is under way, in more than one way. */
const isPassing = (error: unknown): boolean =>
  !isReason(error, 'Unauthorized', 'Forbidden', 'NotFound', 'Conflict', 'BadRequest', 'Invalid');

async function withAdministrator<T>(paths: Paths, run: (client: Client) => Promise<T>): Promise<T> {
  const untilMs = realClock.monotonic() + machineWellMsMax;
  return retryWhile({ untilMs, stepMs: programLookMs, isPassing }, async () => {
    await using stack = new AsyncDisposableStack();
    return await run(administer(paths, stack));
  });
}

/** The others, and the version of Kubernetes that this one runs. */
async function listMachines(paths: Paths): Promise<{ machines: Machine[]; runs: string }> {
  const instance = instanceHere(paths);
  const { items } = await withAdministrator(paths, (client) => client.list(kinds.Node));
  const noted = localNodes(paths);
  // Data of the first format has no notes of them, and is of one machine: any that could be.
  const numbers = noted.length > 0 ? noted : Array.from({ length: nodesPerMachineMax }, (_none, index) => index + 1);
  const own = numbers.map((number) => nodePlan(instance, number, hostName()).name);
  const first = items.find(({ metadata }) => metadata.name === own[0]);
  return { machines: otherMachines(items, own), runs: first?.status?.nodeInfo?.kubeletVersion ?? '' };
}

/** False where it was done before. */
async function upgradeOther(paths: Paths, name: string, order: Order): Promise<boolean> {
  const find = async (): Promise<Machine> => {
    const found = (await listMachines(paths)).machines.find((each) => each.name === name);
    if (found === undefined) throw new ApiError('NotFound', `node ${name} was taken out of the cluster meanwhile`);
    return found;
  };
  const { state } = await find();
  if (state !== undefined && isDone(order, state, newestFormat)) return false;
  const annotations = { [machineAnnotations.programOrder]: JSON.stringify(order) };
  await withAdministrator(paths, (client) =>
    client.patch(kinds.Node, { name }, { merge: { metadata: { annotations } } }),
  );
  const untilMs = realClock.monotonic() + machineUpgradeMsMax;
  for (;;) {
    const { state: now, isReady } = await find();
    const failure = now === undefined ? undefined : failureOf(order, now);
    if (failure !== undefined)
      throw new ApiError(
        'InternalError',
        `${name} does not take it: ${failure}. Machines that are done run the new program, ${name} what it ran before: mend that and run this again, or 'tiphys upgrade --back'`,
      );
    if (now !== undefined && isReady && isDone(order, now, newestFormat)) break;
    if (realClock.monotonic() > untilMs)
      throw new ApiError(
        'Timeout',
        `${name} ${isReady ? 'has not come to run it yet' : 'is away'}: see there ('tiphys status', take-program.log), and run this again`,
      );
    await realClock.sleep(programLookMs);
  }
  await awaitWell(paths, name);
  return true;
}

/** Every member of etcd answers and has its vote: the next one may be away for a moment. */
async function awaitWell(paths: Paths, after: string | undefined): Promise<void> {
  const untilMs = realClock.monotonic() + machineWellMsMax;
  for (;;) {
    const problem = await etcdProblem(paths);
    if (problem === undefined) return;
    if (realClock.monotonic() > untilMs)
      throw new ApiError(
        'ServiceUnavailable',
        `${after === undefined ? 'nothing was begun' : `${after} is done, and no other one was begun`}: ${problem}`,
      );
    await realClock.sleep(programLookMs);
  }
}

async function etcdProblem(paths: Paths): Promise<string | undefined> {
  try {
    const report = await reportEtcd(paths, instanceHere(paths));
    const unwell = report?.members.find(({ state }) => state !== 'leader' && state !== 'voter');
    return unwell === undefined ? undefined : `the member of etcd on ${unwell.name}: ${unwell.state}`;
  } catch (error) {
    return messageOf(error);
  }
}
