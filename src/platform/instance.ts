/**
 * What an instance is: a short id that every link, table and cgroup carries, its address ranges and ports. Chosen once,
 * kept in the data directory with a format number, and read by every process. A newer format is refused, an older one
 * is migrated when the instance starts: format 1 also held the number of nodes (`local-nodes.ts`). Format 3 is that of
 * a machine that joined the cluster of another one (`join.ts`): programs that know of none would start a cluster of its
 * own. Format 4 is that of one of several servers: older programs would not start its etcd, or not its server. Higher
 * ones are levels (`newestFormat`).
 */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { addressAt, maskIp, overlaps, formatSubnet, subnetOf, type Subnet } from '#base/ip.ts';
import { findFreeSubnet } from '#net/pools.ts';
import { ApiError } from '#base/errors.ts';
import type { Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { EtcdChoice } from './cluster-store.ts';
import { localNodes, setLocalNodes } from './local-nodes.ts';
import { files, makeDirectory, privateMode, type Paths } from './paths.ts';

const instanceFormat = 2;
const joinedFormat = 3;
const severalFormat = 4;

/**
 * The newest format that this program knows, of whatever lies in the data directory. A program that changes any format
 * raises it, goes on with the one before as long as `level` is below, and writes its own from then on: `tiphys upgrade
 * --finish` raises the level when all machines run it, and until then the way back is open (`upgrade/`). A data
 * directory of a higher level has its number as its format.
 */
export const newestFormat: number = severalFormat;

/** How Pods' packets travel between machines: by routes, in VXLAN, or by routes where machines share a link. */
export const networkModes = ['auto', 'routes', 'vxlan'] as const;
export type NetworkMode = (typeof networkModes)[number];

export interface Instance {
  format: number;
  /** Formats up to this one are written; absent: those of before there were levels. */
  level?: number;
  /** Four hexadecimal digits. */
  id: string;
  podRange: string;
  serviceRange: string;
  domain: string;
  apiPort: number;
  registryPort: number;
  httpPort: number;
  httpsPort: number;
  registryMirrors: string[];
  /** Pods on each node at once; absent: as a kubelet has it. */
  maxPods?: number;
  /** How long nothing is heard of a node before it is taken for lost; absent: as `limits.ts` has it. */
  nodeGraceMs?: number;
  /** Addresses for Services of type LoadBalancer, told to the cluster by this server; absent: says nothing of them. */
  loadBalancerPool?: string;
  /** The etcd that holds the cluster's state; absent: SQLite in the data directory. */
  etcd?: EtcdChoice;
  /** The member of the cluster's own etcd that runs here; `etcd` says that the state lies in it. */
  member?: EtcdMember;
  /** etcd's program, where the user named one. */
  etcdBinary?: string;
  /** kube-apiserver's flags, as `NAME=VALUE`. */
  kubeApiserverArgs?: string[];
  /**
   * Where other machines reach this one: an address, or of a machine with the API server also a name. There the API
   * server listens on all addresses once this is known.
   */
  address?: string;
  /** Of the cluster that begins here; absent: auto. */
  network?: NetworkMode;
  /** Absent on the machine where the cluster began. */
  joined?: JoinedCluster;
}

/** A member of the cluster's own etcd. */
export interface EtcdMember {
  /** As etcd knows it: the name of the machine's first node. */
  name: string;
  /** Where it listens: an address of this machine that the others reach. */
  address: string;
  clientPort: number;
  peerPort: number;
  /** etcd's program. */
  binary: string;
}

/** Whether the control plane runs on this machine, too. */
export function runsServer({ joined }: Pick<Instance, 'joined'>): boolean {
  return joined === undefined || joined.isServer === true;
}

/** The cluster of another machine, and this machine's node in it. */
export interface JoinedCluster {
  /** `https://HOST:PORT` of the API server. */
  server: string;
  node: string;
  /** Of this node. */
  podRange: string;
  /** In the Pod network: where the API server and the platform's registry are reached. */
  serverAddress: string;
  /** Port of the registry there, and by which its images are named. */
  registryPort: number;
  /** Where local volumes lie, on each node. */
  volumeDirectory: string;
  /** Number of the cluster's VXLAN. */
  vxlanId: number;
  /** A further server: the control plane runs here, too. */
  isServer?: boolean;
  /** It has left; its data waits for the next cluster. */
  hasLeft?: boolean;
}

/** Nodes that one machine runs at most: those ranges at the head of the Pod range are the first machine's. */
export const nodesPerMachineMax = 16;

/** Of a cluster that begins here. */
export function vxlanIdOf(instance: Instance): number {
  return instance.joined?.vxlanId ?? 0x10_0000 + Number.parseInt(instance.id, 16);
}

/** In the Pod network: where the API server and the registry are reached from everywhere. */
export function serverAddress(instance: Instance): string {
  return instance.joined?.serverAddress ?? addressAt(subnetOf(instance.podRange), 1);
}

export interface NodePlan {
  /** From 1. */
  number: number;
  name: string;
  /** Links and tables of this node; node 1 has the instance's own. */
  instanceId: string;
  podRange: string;
  /**
   * First address of the Pod range, on a link of the node's own: where kubelet, API server and registry are reached
   * from inside.
   */
  address: string;
}

export function clusterDnsAddress(instance: Instance): string {
  return addressAt(subnetOf(instance.serviceRange), 10);
}

// walk pod-ip 1/5: each node has a /24 of the cluster's Pod range; the control plane allocates those of other machines.
export function nodePlan(instance: Instance, number: number, hostname: string): NodePlan {
  const { joined } = instance;
  if (joined !== undefined) {
    const { node: name, podRange } = joined;
    return { number, name, instanceId: instance.id, podRange, address: addressAt(subnetOf(podRange), 1) };
  }
  const { family, base } = subnetOf(instance.podRange);
  const range = maskIp({ family, value: base + BigInt(number - 1) * 256n }, 24);
  const instanceId =
    number === 1 ? instance.id : createHash('sha256').update(`${instance.id}/${number}`).digest('hex').slice(0, 4);
  return {
    number,
    name: number === 1 ? hostname : `${hostname}-${number}`,
    instanceId,
    podRange: formatSubnet(range),
    address: addressAt(range, 1),
  };
}

export function loadInstance(paths: Paths): Instance | undefined {
  const text = readIfExists(files.instance(paths));
  if (text === undefined) return undefined;
  const { nodes: _nodes, ...instance } = JSON.parse(text) as Instance & { nodes?: number };
  if (instance.format > newestFormat)
    throw new ApiError(
      'BadRequest',
      `${paths.data} was written by a newer version of Tiphys (format ${instance.format}; this one knows ${newestFormat})`,
    );
  return instance;
}

export interface InstanceChoices {
  apiPort?: number;
  registryPort?: number;
  httpPort?: number;
  httpsPort?: number;
  nodes?: number;
  registryMirrors?: string[];
  maxPods?: number;
  nodeGraceMs?: number;
  loadBalancerPool?: string;
  address?: string;
  network?: NetworkMode;
  /** Of a new instance. */
  podRange?: string;
  serviceRange?: string;
  etcd?: EtcdChoice;
  kubeApiserverArgs?: string[];
}

/** Written at once, or not at all. */
export function saveInstance(paths: Paths, instance: Instance): void {
  const written = { ...instance, format: formatOf(instance) };
  writeFileAtomic(files.instance(paths), `${JSON.stringify(written, null, 2)}\n`, { sync: true });
}

function formatOf({ joined, member, level = 0 }: Pick<Instance, 'joined' | 'member' | 'level'>): number {
  if (member !== undefined || joined?.isServer === true) return Math.max(level, severalFormat);
  return Math.max(level, joined === undefined ? instanceFormat : joinedFormat);
}

/** The level of a data directory that this program makes, or raises: absent where it knows none. */
export function newestLevel(): Pick<Instance, 'level'> {
  return newestFormat > severalFormat ? { level: newestFormat } : {};
}

/**
 * The instance of a data directory: what is kept there, changed by what the user says now; or a new one in ranges that
 * nobody on this host uses.
 */
export async function establishInstance(
  paths: Paths,
  choices: InstanceChoices,
  random: Random,
  host: { usedSubnets: Subnet[]; freePort(candidates: number[]): number },
): Promise<Instance> {
  const kept = loadInstance(paths);
  refuseHalfRestored(paths, kept);
  makeDirectory(paths.data, privateMode);
  const { nodes: before } = JSON.parse(readIfExists(files.instance(paths)) ?? '{}') as { nodes?: number };
  const pick = (prefix: string, length: number, used: Subnet[]): string =>
    findFreeSubnet(used, [{ base: prefix, length }]);
  const { nodes, ...settings } = choices;
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  let instance: Instance;
  if (kept !== undefined) {
    refuseOther(kept, choices);
    instance = { ...kept, ...given, format: formatOf(kept) };
  } else {
    const podRange =
      choices.podRange ??
      pickRange(
        ['10.244.0.0/16', '10.245.0.0/16', '10.246.0.0/16', '10.247.0.0/16', '10.248.0.0/16', '10.249.0.0/16'],
        host.usedSubnets,
      ) ??
      pick('10.128.0.0/9', 16, host.usedSubnets);
    const serviceRange =
      choices.serviceRange ??
      pickRange(
        ['10.96.0.0/16', '10.97.0.0/16', '10.98.0.0/16', '10.99.0.0/16', '10.100.0.0/16', '10.101.0.0/16'],
        host.usedSubnets,
      ) ??
      pick('10.64.0.0/10', 16, [...host.usedSubnets, subnetOf(podRange)]);
    // Ingress ports are listened on only once there is an Ingress: another instance's may look free. The API port tells
    // how many there are before this one.
    const before = Math.min(4, Math.max(0, (choices.apiPort ?? 6443) - 6443));
    const rotated = (ports: number[]): number[] => [...ports.slice(before), ...ports.slice(0, before)];
    instance = {
      format: instanceFormat,
      ...newestLevel(),
      id: Buffer.from(random.bytes(2)).toString('hex'),
      podRange,
      serviceRange,
      domain: 'cluster.local',
      apiPort: 6443,
      registryPort: 5000,
      httpPort: host.freePort(rotated([80, 8080, 8081, 8082, 8090])),
      httpsPort: host.freePort(rotated([443, 8443, 8444, 8445, 9443])),
      registryMirrors: [],
      ...given,
    };
  }
  // First the notes of the nodes: whoever finds format 2 finds them, too.
  setLocalNodes(paths, nodes ?? before ?? Math.max(1, localNodes(paths).length));
  if (JSON.stringify(instance) !== JSON.stringify(kept)) saveInstance(paths, instance);
  return instance;
}

/** What lies there is no beginning of anything else. */
function refuseHalfRestored(paths: Paths, kept: Instance | undefined): void {
  if (readIfExists(files.restoring(paths)) === undefined) return;
  if (kept === undefined)
    throw new ApiError(
      'Conflict',
      `a restore into ${paths.data} was interrupted: run 'tiphys restore' again, or remove what it left with 'tiphys down --purge'`,
    );
  // It was whole, and ended before it could say so.
  rmSync(files.restoring(paths), { force: true });
}

/** What an instance is cannot be chosen anew; what a cluster is, not on a machine that joined it. */
function refuseOther(kept: Instance, choices: InstanceChoices): void {
  for (const [name, option] of [
    ['podRange', '--pod-range'],
    ['serviceRange', '--service-range'],
  ] as const)
    if (choices[name] !== undefined && choices[name] !== kept[name])
      throw new ApiError(
        'BadRequest',
        `${option} is chosen when a cluster is made (this one has ${kept[name]}); 'tiphys down --purge' ends this one`,
      );
  if (kept.joined === undefined) return;
  const unfit = {
    nodes: choices.nodes !== undefined && choices.nodes !== 1,
    network: choices.network !== undefined,
    'etcd-endpoints': choices.etcd !== undefined,
    'load-balancer-pool': choices.loadBalancerPool !== undefined && !runsServer(kept),
    'node-monitor-grace-period': choices.nodeGraceMs !== undefined && !runsServer(kept),
  };
  for (const [name, isUnfit] of Object.entries(unfit))
    if (isUnfit)
      throw new ApiError(
        'BadRequest',
        `--${name} is for the machine with the control plane (${kept.joined.server}); this one has joined it`,
      );
}

/** What is true of the state from now on; one atomic step. */
export function setEtcd(paths: Paths, etcd: EtcdChoice | undefined): void {
  const kept = loadInstance(paths);
  if (kept === undefined) throw new ApiError('NotFound', `there is no instance in ${paths.data}`);
  const { etcd: _before, ...instance } = kept;
  saveInstance(paths, { ...instance, ...(etcd === undefined ? {} : { etcd }) });
}

function pickRange(candidates: string[], used: Subnet[]): string | undefined {
  return candidates.find((candidate) => !used.some((subnet) => overlaps(subnet, subnetOf(candidate))));
}
