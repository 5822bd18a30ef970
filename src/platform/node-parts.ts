/** What the parts of a node process share. */
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
  /** Everything that was started, for the end. */
  stack: AsyncDisposableStack;
}

export const kubeletPort = 10_250;
