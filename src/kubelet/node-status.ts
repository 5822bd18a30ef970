/** The Node object that this kubelet reports: capacity, addresses, conditions. Pure but for what is passed in. */
import type { Node, NodeCondition, NodeStatus, Taint } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { amount } from './qos.ts';
import { rfc3339 } from './status.ts';

/** Amounts by resource, as quantities: `cpu`, `memory`, `ephemeral-storage`, `pods`, and those of device plugins. */
export type Amounts = Readonly<Record<string, string>>;

export interface NodeFacts {
  name: string;
  hostIp: string;
  hostname: string;
  /** Where its kubelet answers, if that is another address. */
  kubeletIp?: string;
  kubeletPort: number;
  capacity: Amounts;
  /** What Pods may have of it. */
  allocatable: Amounts;
  architecture: string;
  kernelVersion: string;
  osImage: string;
  machineId: string;
  bootId: string;
  systemUuid: string;
  version: string;
  runtimeVersion: string;
  labels: Record<string, string>;
  annotations?: Record<string, string>;
  taints?: Taint[];
  podCidr: string;
  /** Containers run under a profile of AppArmor's. */
  appArmor: boolean;
}

/** Memory and CPU kept back from Pods for the node's own processes. */
const systemReservedMemoryBytes = 100 * 1024 * 1024;

/** Of a machine: what it has, and what Pods may have of that. */
export function amountsOf(machine: {
  cpus: number;
  memoryBytes: number;
  ephemeralBytes: number;
  /** Pods that may run here at once. */
  podsMax: number;
}): Pick<NodeFacts, 'capacity' | 'allocatable'> {
  const { cpus, memoryBytes, ephemeralBytes, podsMax } = machine;
  const kib = (bytes: number): string => `${Math.floor(bytes / 1024)}Ki`;
  const same = { cpu: String(cpus), 'hugepages-1Gi': '0', 'hugepages-2Mi': '0', pods: String(podsMax) };
  return {
    capacity: { ...same, memory: kib(memoryBytes), 'ephemeral-storage': kib(ephemeralBytes) },
    allocatable: {
      ...same,
      memory: kib(Math.max(0, memoryBytes - systemReservedMemoryBytes)),
      'ephemeral-storage': String(Math.floor(ephemeralBytes * 0.9)),
    },
  };
}

/** In cores and bytes. */
export function allocatableOf({ allocatable }: Pick<NodeFacts, 'allocatable'>): {
  cpu: number;
  memory: number;
  ephemeralStorage: number;
} {
  const of = (name: string): number => amount(allocatable[name]) ?? 0;
  return { cpu: of('cpu'), memory: of('memory'), ephemeralStorage: of('ephemeral-storage') };
}

export function nodeObject(facts: NodeFacts): Manifest<Node> {
  const arch = facts.architecture === 'x64' ? 'amd64' : facts.architecture;
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: facts.name,
      labels: {
        'kubernetes.io/hostname': facts.hostname,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': arch,
        'beta.kubernetes.io/os': 'linux',
        'beta.kubernetes.io/arch': arch,
        ...facts.labels,
      },
      annotations: { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true', ...facts.annotations },
    },
    spec: {
      podCIDR: facts.podCidr,
      podCIDRs: [facts.podCidr],
      ...(facts.taints === undefined ? {} : { taints: facts.taints }),
    },
  };
}

/** What the node is short of. */
export interface Pressure {
  readonly disk: boolean;
  readonly memory: boolean;
  readonly pid: boolean;
}

/** The conditions of a node that works; transition times change with the status only. */
function nodeConditions(previous: NodeStatus | undefined, nowMs: number, pressure: Pressure): NodeCondition[] {
  const now = rfc3339(nowMs);
  const condition = (type: string, isTrue: boolean, reason: string, message: string): NodeCondition => {
    const status = isTrue ? 'True' : 'False';
    const before = (previous?.conditions ?? []).find((entry) => entry.type === type);
    return {
      type,
      status,
      reason,
      message,
      lastHeartbeatTime: now,
      lastTransitionTime: (before?.status === status ? before.lastTransitionTime : undefined) ?? now,
    };
  };
  return [
    pressure.memory
      ? condition('MemoryPressure', true, 'KubeletHasInsufficientMemory', 'kubelet has insufficient memory available')
      : condition('MemoryPressure', false, 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
    pressure.disk
      ? condition('DiskPressure', true, 'KubeletHasDiskPressure', 'kubelet has disk pressure')
      : condition('DiskPressure', false, 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
    pressure.pid
      ? condition('PIDPressure', true, 'KubeletHasInsufficientPID', 'kubelet has insufficient PID available')
      : condition('PIDPressure', false, 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
    condition('Ready', true, 'KubeletReady', 'kubelet is posting ready status'),
  ];
}

interface NodeStatusInput {
  facts: NodeFacts;
  images: { names: string[]; sizeBytes: number }[];
  previous: NodeStatus | undefined;
  nowMs: number;
  pressure: Pressure;
}

export function nodeStatus({ facts, images, previous, nowMs, pressure }: NodeStatusInput): NodeStatus {
  return {
    capacity: facts.capacity,
    allocatable: facts.allocatable,
    conditions: nodeConditions(previous, nowMs, pressure),
    addresses: [
      { type: 'InternalIP', address: facts.kubeletIp ?? facts.hostIp },
      { type: 'Hostname', address: facts.hostname },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: facts.kubeletPort } },
    nodeInfo: {
      machineID: facts.machineId,
      systemUUID: facts.systemUuid,
      bootID: facts.bootId,
      kernelVersion: facts.kernelVersion,
      osImage: facts.osImage,
      containerRuntimeVersion: facts.runtimeVersion,
      kubeletVersion: facts.version,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: facts.architecture === 'x64' ? 'amd64' : facts.architecture,
    },
    images: images.slice(0, 50),
  };
}
