/**
 * Addresses and ports: no two live Pods have one address, and each has one of its node's range; no two nodes have one
 * range; no two Services have one cluster address or node port; and what the allocator holds is exactly what Services
 * have, for the Services that have it.
 */
import type { Service } from '#api/core.v1.ts';
import { contains, subnetOf, type Subnet } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

const rangesPrefix = '/registry/ranges/';
/** The allocator is looked at each so many ticks. */
const allocatorTicks = 10;
const decoder = new TextDecoder();

function judgeNodes(name: string, world: World): void {
  const ranges = new Map<string, string>();
  for (const node of world.of(kinds.Node)) {
    const range = node.spec.podCIDR;
    if (range === undefined) continue;
    if (ranges.has(range))
      world.report(name, `nodes ${ranges.get(range)} and ${node.metadata.name} both have the range ${range}`);
    ranges.set(range, node.metadata.name);
  }
}

function judgePods(name: string, world: World): void {
  const pods = new Map<string, string>();
  const ranges = new Map<string, Subnet>();
  for (const pod of world.of(kinds.Pod)) {
    const ip = pod.status?.podIP;
    const { nodeName, hostNetwork } = pod.spec;
    if (ip === undefined || nodeName === undefined || hostNetwork === true) continue;
    const range = world.get(kinds.Node, nodeName)?.spec.podCIDR;
    const subnet = range === undefined ? undefined : (ranges.get(range) ?? subnetOf(range));
    if (range !== undefined && subnet !== undefined) ranges.set(range, subnet);
    if (subnet !== undefined && !contains(subnet, ip))
      world.report(name, `Pod ${pod.metadata.name} has ${ip}, its node ${nodeName} has ${range}`);
    if (isPodTerminal(pod) || world.cluster.nodes.get(nodeName)?.isUp !== true) continue;
    const other = pods.get(ip);
    if (other !== undefined) world.report(name, `Pods ${other} and ${pod.metadata.name} both have ${ip}`);
    pods.set(ip, pod.metadata.name);
  }
}

/** Keys of the allocator that a Service must hold, by what the documentation of Services says it has. */
function rangesOf({ spec }: Service): string[] {
  const given = spec.type === 'ExternalName' ? [] : (spec.clusterIPs ?? [spec.clusterIP]);
  const addresses = given.filter((ip) => ip !== undefined && ip !== '' && ip !== 'None');
  const ports = new Set((spec.ports ?? []).flatMap(({ nodePort }) => nodePort ?? []));
  if (spec.healthCheckNodePort !== undefined) ports.add(spec.healthCheckNodePort);
  return [
    ...addresses.map((ip) => `${rangesPrefix}serviceips/${ip}`),
    ...[...ports].map((port) => `${rangesPrefix}servicenodeports/${port}`),
  ];
}

function judgeServices(name: string, world: World): Map<string, Service> {
  const services = new Map<string, Service>();
  for (const service of world.of(kinds.Service)) {
    for (const key of rangesOf(service)) {
      const other = services.get(key);
      if (other !== undefined)
        world.report(
          name,
          `Services ${other.metadata.name} and ${service.metadata.name} both have ${key.slice(rangesPrefix.length)}`,
        );
      services.set(key, service);
    }
  }
  return services;
}

async function judgeAllocator(name: string, world: World): Promise<void> {
  const list = await world.cluster.store.list(rangesPrefix);
  if (list.revision !== world.revision) return;
  const wanted = judgeServices(name, world);
  for (const { key, value } of list.values) {
    const held: { namespace: string; name: string; uid: string } = JSON.parse(decoder.decode(value));
    const service = wanted.get(key);
    if (service === undefined)
      world.report(
        name,
        `${key.slice(rangesPrefix.length)} is held for ${held.namespace}/${held.name}, which does not have it`,
      );
    else if (held.uid !== service.metadata.uid)
      world.report(
        name,
        `${key.slice(rangesPrefix.length)} is held for ${held.namespace}/${held.name}, and ${service.metadata.namespace}/${service.metadata.name} has it`,
      );
    wanted.delete(key);
  }
  for (const [key, { metadata }] of wanted)
    world.report(
      name,
      `${key.slice(rangesPrefix.length)} of Service ${metadata.namespace}/${metadata.name} is not held for it`,
    );
}

export function addressesUnique(): Checker {
  const name = 'addresses-unique';
  let ticks = 0;
  return {
    name,
    async onTick(world) {
      judgeNodes(name, world);
      judgePods(name, world);
      judgeServices(name, world);
      if (ticks++ % allocatorTicks === 0) await judgeAllocator(name, world);
    },
    async atRest(world) {
      await judgeAllocator(name, world);
    },
  };
}
