/** What the parts of a node process share. */
import type { Node } from '#api/core.v1.ts';
import type { Informer } from '#client/informer.ts';
import type { NodeCertificate } from '#base/node-identity.ts';
import type { Underlay } from '#net/underlay.ts';
import type { Logger } from '#observe/log.ts';
import type { Metrics } from '#observe/metrics.ts';
import type { Instance, NodePlan } from './instance.ts';
import type { NodeIdentity } from './node-identity.ts';
import type { Paths } from './paths.ts';

export interface NodeParts {
  instance: Instance;
  node: NodePlan;
  paths: Paths;
  identity: NodeIdentity;
  log: Logger;
  metrics: Metrics;
  /** Of the whole cluster, as they are known here. */
  nodes: Informer<Node>;
  /** The link to other machines; undefined where this one has none. */
  underlay: Underlay | undefined;
  /** Whether a node's certificate is refused because the node was taken out of the cluster. */
  isRemoved(certificate: NodeCertificate): boolean;
  /** Resolves when `isRemoved` knows. */
  removedKnown: Promise<void>;
  /** Everything that was started, for the end. */
  stack: AsyncDisposableStack;
}

/** The platform's registry is on the first node of the machine where the cluster began. */
export function hasRegistry({ instance, node }: Pick<NodeParts, 'instance' | 'node'>): boolean {
  return node.number === 1 && instance.joined === undefined;
}

export const kubeletPort = 10_250;
