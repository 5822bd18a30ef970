/** `tiphys join` and `tiphys leave`. */
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { addressAt, parseSubnet } from '#base/ip.ts';
import { realClock } from '#os/clock.real.ts';
import { removeContexts } from '#platform/contexts.ts';
import type { Instance } from '#platform/instance.ts';
import { joinCluster } from '#platform/join.ts';
import type { Admitted } from '#platform/etcd/join-server.ts';
import { membershipNotes } from '#platform/etcd/report.ts';
import { podNetworkMsMax } from '#platform/limits.ts';
import { leaveCluster, listMachineNodes } from '#platform/machines.ts';
import { files, pathsOf, type Paths } from '#platform/paths.ts';
import { bringUp } from '#platform/up.ts';
import { confirm, print, seconds, UsageError } from '../output.ts';
import { prepareMachine, requireRoot } from './up.ts';

export interface JoinCommandOptions {
  name?: string;
  address?: string;
  server?: boolean;
  etcdBinary?: string;
  yes?: boolean;
}

export async function joinCommand(server: string, token: string, options: JoinCommandOptions): Promise<void> {
  if (options.etcdBinary !== undefined && options.server !== true)
    throw new UsageError('--etcd-binary is for further servers: it goes with --server');
  requireRoot('tiphys join');
  const paths = pathsOf(process.env);
  if (!(await prepareMachine(paths, options))) return;
  const begun = realClock.monotonic();
  const chosen = {
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.address === undefined ? {} : { address: options.address }),
    isServer: options.server === true,
    ...(options.etcdBinary === undefined ? {} : { etcdBinary: resolve(options.etcdBinary) }),
  };
  const { instance, hasMoved, admitted } = await joinCluster(paths, { server, token, ...chosen });
  const { started, notes } = await bringUp(paths, {}, { replace: hasMoved });
  const { node = '', server: url = '' } = instance.joined ?? {};
  // Unless it was taken out meanwhile, which its cluster says.
  if (started.length === 0) await listMachineNodes(paths);
  if (started.length === 0) print(`This machine is node ${node} of ${url} already.`);
  else
    print(
      `${admitted === undefined ? 'Node' : 'Server'} ${node} has joined ${url} after ${seconds(realClock.monotonic() - begun)}.`,
    );
  for (const note of [
    ...notes,
    ...(await serverNotes(paths, instance, admitted)),
    ...(await podNetworkNotes(paths, instance)),
  ])
    print(`  note: ${note}`);
  print(`  Docker      ${files.dockerSocket(paths)}   docker --context tiphys ps`);
  print(`  Nodes       tiphys nodes`);
}

/** What to know of a server that has joined; its member of etcd has its vote by then, where it is given one. */
async function serverNotes(paths: Paths, instance: Instance, admitted: Admitted | undefined): Promise<string[]> {
  if (admitted === undefined) return [];
  const { interruptedMs } = admitted.moved ?? {};
  return [
    ...(interruptedMs === undefined
      ? []
      : [`the state of the cluster lies in etcd now; the API did not answer for ${seconds(interruptedMs)}`]),
    ...(await membershipNotes(paths, instance)),
    ...(admitted.hasFlags
      ? ["the first server has flags of kube-apiserver's; each has its own: 'tiphys up --kube-apiserver-arg' here"]
      : []),
  ];
}

/** Whether the server is reached in the Pod network; if not, what is in the way. */
async function podNetworkNotes(paths: Paths, { joined, apiPort, address }: Instance): Promise<string[]> {
  if (joined === undefined) return [];
  const server = (await serverInPodNetwork(paths, joined.server)) ?? joined.serverAddress;
  if (await reaches(server, apiPort)) return [];
  return [
    `no packets come through to ${server}, the server in the Pod network: Pods here do not reach Pods there. A firewall between this machine (${address}) and the server drops them: let UDP port 4789 (VXLAN) through both ways, and where both are on one link, what is sent to Pods' addresses; docs/cluster.md lists the ports`,
  ];
}

/** First address of the Pod range of the node on the server's machine; undefined where that is not known. */
async function serverInPodNetwork(paths: Paths, server: string): Promise<string | undefined> {
  const { hostname } = new URL(server);
  const nodes = await listMachineNodes(paths).catch(() => []);
  const podRange = parseSubnet(nodes.find(({ address }) => address === hostname)?.podRange);
  return podRange === undefined ? undefined : addressAt(podRange, 1);
}

async function reaches(host: string, port: number): Promise<boolean> {
  const deadline = realClock.monotonic() + podNetworkMsMax;
  while (realClock.monotonic() < deadline) {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const socket = connect({ host, port, timeout: 1_000 });
    socket.once('connect', () => resolve(true));
    socket.once('timeout', () => resolve(false));
    socket.once('error', () => resolve(false));
    const isThrough = await promise;
    socket.destroy();
    if (isThrough) return true;
    await realClock.sleep(200);
  }
  return false;
}

export async function leaveCommand(options: { force?: boolean; purge?: boolean; yes?: boolean }): Promise<void> {
  requireRoot('tiphys leave');
  const paths = pathsOf(process.env);
  const purge = options.purge === true;
  if (purge && options.yes !== true && !(await confirm('Images, containers and volumes of this machine go. Go ahead?')))
    return;
  const begun = realClock.monotonic();
  await leaveCluster(paths, { force: options.force === true, purge });
  if (purge) removeContexts(process.env['HOME'] ?? homedir(), paths);
  print(
    `This machine has left the cluster after ${seconds(realClock.monotonic() - begun)}. ${purge ? 'All data is removed.' : `Images, containers and volumes are kept in ${paths.data}; 'tiphys join' takes them up again.`}`,
  );
}
