/**
 * Gives nodes their part of the Pod range (Kubernetes documentation, "Nodes", "Node controller": CIDR assignment). Each
 * node has a /24; those at the head of the range are the first machine's, whose nodes are there before a control plane
 * that could be asked. What a Node says is never changed, and never given twice.
 */
import type { Node } from '#api/core.v1.ts';
import { formatSubnet, overlaps, parseSubnet, sizeOf, subnetOf, type Subnet } from '#base/ip.ts';
import { kinds } from '#base/kinds.ts';
import { type Controller, type ControllerContext, createQueue, recorderOf } from './runtime.ts';

export interface PodRangeOptions {
  /** Of the whole cluster. */
  range: string;
  /** Of so many nodes the ranges are decided elsewhere. */
  reserved: number;
}

const nodeRangeLength = 24;

/** The first range that no node has; undefined where all are taken. */
export function planPodRange({ range, reserved }: PodRangeOptions, taken: readonly Subnet[]): string | undefined {
  const whole = subnetOf(range);
  const size = sizeOf({ ...whole, length: nodeRangeLength });
  for (let base = whole.base + BigInt(reserved) * size; base < whole.base + sizeOf(whole); base += size) {
    const candidate = { family: whole.family, base, length: nodeRangeLength };
    if (!taken.some((other) => overlaps(candidate, other))) return formatSubnet(candidate);
  }
  return undefined;
}

export function startNodeIpam(context: ControllerContext, options: PodRangeOptions): Controller {
  const { client, informers } = context;
  const nodes = informers.informer(kinds.Node);
  const recorder = recorderOf(context, 'node-ipam');
  const takenRanges = (): Subnet[] => nodes.list().flatMap(({ spec }) => parseSubnet(spec.podCIDR) ?? []);
  // One at a time: the next one sees what this one took.
  const queue = createQueue(
    context,
    'node-ipam',
    async (name) => {
      const node = nodes.get(name);
      if (node === undefined || node.spec.podCIDR) return undefined;
      const podCIDR = planPodRange(options, takenRanges());
      if (podCIDR === undefined) {
        recorder.event(node, 'Warning', 'CIDRNotAvailable', `Node ${name} status is now: CIDRNotAvailable`);
        return undefined;
      }
      const { resourceVersion } = node.metadata;
      await client.patch(
        kinds.Node,
        { name },
        { merge: { metadata: { resourceVersion }, spec: { podCIDR, podCIDRs: [podCIDR] } } },
      );
      return undefined;
    },
    1,
  );
  const enqueue = (node: Node): void => {
    if (!node.spec.podCIDR) queue.add(node.metadata.name);
  };
  // A range that becomes free is for those that wait.
  nodes.addHandler({ added: enqueue, updated: enqueue, deleted: () => nodes.list().forEach(enqueue) });
  return { name: 'node-ipam', queues: [queue] };
}
