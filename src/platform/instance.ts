/**
 * What an instance is: a short id that every link, table and cgroup carries, its address ranges and ports. Chosen once,
 * kept in the data directory with a format number, and read by every process. A newer format is refused, an older one
 * is migrated when the instance starts: format 1 also held the number of nodes (`local-nodes.ts`).
 */
import { createHash } from 'node:crypto';
import { addressAt, maskIp, overlaps, formatSubnet, subnetOf, type Subnet } from '#base/ip.ts';
import { findFreeSubnet } from '#net/pools.ts';
import { ApiError } from '#base/errors.ts';
import type { Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import type { EtcdChoice } from './cluster-store.ts';
import { localNodes, setLocalNodes } from './local-nodes.ts';
import { files, makeDirectory, privateMode, type Paths } from './paths.ts';

const instanceFormat = 2;

export interface Instance {
  format: number;
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
  /** The etcd that holds the cluster's state; absent: SQLite in the data directory. */
  etcd?: EtcdChoice;
  /** kube-apiserver's flags, as `NAME=VALUE`. */
  kubeApiserverArgs?: string[];
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

// walk pod-ip 1/5: each node has a /24 of the instance's Pod range.
export function nodePlan(instance: Instance, number: number, hostname: string): NodePlan {
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
  if (instance.format > instanceFormat)
    throw new ApiError(
      'BadRequest',
      `${paths.data} was written by a newer version of Tiphys (format ${instance.format}; this one knows ${instanceFormat})`,
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
  etcd?: EtcdChoice;
  kubeApiserverArgs?: string[];
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
  makeDirectory(paths.data, privateMode);
  const kept = loadInstance(paths);
  const { nodes: before } = JSON.parse(readIfExists(files.instance(paths)) ?? '{}') as { nodes?: number };
  const pick = (prefix: string, length: number, used: Subnet[]): string =>
    findFreeSubnet(used, [{ base: prefix, length }]);
  const { nodes, ...settings } = choices;
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  let instance: Instance;
  if (kept !== undefined) instance = { ...kept, ...given, format: instanceFormat };
  else {
    const podRange =
      pickRange(
        ['10.244.0.0/16', '10.245.0.0/16', '10.246.0.0/16', '10.247.0.0/16', '10.248.0.0/16', '10.249.0.0/16'],
        host.usedSubnets,
      ) ?? pick('10.128.0.0/9', 16, host.usedSubnets);
    const serviceRange =
      pickRange(
        ['10.96.0.0/16', '10.97.0.0/16', '10.98.0.0/16', '10.99.0.0/16', '10.100.0.0/16', '10.101.0.0/16'],
        host.usedSubnets,
      ) ?? pick('10.64.0.0/10', 16, [...host.usedSubnets, subnetOf(podRange)]);
    // Ingress ports are listened on only once there is an Ingress: another instance's may look free. The API port tells
    // how many there are before this one.
    const before = Math.min(4, Math.max(0, (choices.apiPort ?? 6443) - 6443));
    const rotated = (ports: number[]): number[] => [...ports.slice(before), ...ports.slice(0, before)];
    instance = {
      format: instanceFormat,
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
  if (JSON.stringify(instance) !== JSON.stringify(kept))
    writeFileAtomic(files.instance(paths), `${JSON.stringify(instance, null, 2)}\n`, { sync: true });
  return instance;
}

/** What is true of the state from now on; one atomic step. */
export function setEtcd(paths: Paths, etcd: EtcdChoice | undefined): void {
  const kept = loadInstance(paths);
  if (kept === undefined) throw new ApiError('NotFound', `there is no instance in ${paths.data}`);
  const { etcd: _before, ...instance } = kept;
  const after: Instance = { ...instance, ...(etcd === undefined ? {} : { etcd }) };
  writeFileAtomic(files.instance(paths), `${JSON.stringify(after, null, 2)}\n`, { sync: true });
}

function pickRange(candidates: string[], used: Subnet[]): string | undefined {
  return candidates.find((candidate) => !used.some((subnet) => overlaps(subnet, subnetOf(candidate))));
}
