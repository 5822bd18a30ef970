/** What a simulated cluster is made of, and the parts of it that speak to its API server. */
import type { ApiHandler } from '#base/api-request.ts';
import type { ControllerOptions } from '#controllers/run.ts';
import type { LogLevel } from '#observe/log.ts';
import type { ScriptRule } from './pod-script.ts';
import type { NodeOptions } from './sim-node.ts';

export interface ClusterOptions {
  /** How many nodes, or which; 3 when absent. */
  nodes?: number | readonly NodeOptions[];
  /** All chance; 1 when absent. */
  seed?: number;
  /** Virtual time at the start: RFC 3339 or milliseconds; 2026-01-01T00:00:00Z when absent. */
  start?: string | number;
  /** What Pods do, by label selector or function. */
  scripts?: readonly ScriptRule[];
  controllers?: ControllerOptions;
  /** Events of kubelets (`Started`, `BackOff` …); true when absent. */
  events?: boolean;
  /**
   * Nodes write every renewal of their Leases. Otherwise they do so only while something is wrong: an idle year then
   * costs little.
   */
  leases?: boolean;
  /** Keep track of who set which field; true when absent. Off, only what was applied is known. */
  managedFields?: boolean;
  /**
   * The store keeps its log on a simulated disk: writes take time, and what is not safe yet is lost in `crashApiServer`
   * and `losePower`.
   */
  disk?: boolean;
  /** Wraps the API server's handler of requests, to measure it. */
  observe?: (handle: ApiHandler) => ApiHandler;
  /** Keep a hash over all that is committed. */
  hash?: boolean;
  /** Lines of log to standard error from this level on; none when absent. */
  log?: LogLevel;
}

export const parts = ['controllers', 'scheduler', 'nodes', 'client'] as const;
export type Part = (typeof parts)[number];

const user = { name: 'system:admin', groups: ['system:masters', 'system:authenticated'] };
export const partUsers: Record<Part, typeof user> = {
  client: user,
  controllers: { name: 'system:kube-controller-manager', groups: ['system:masters', 'system:authenticated'] },
  scheduler: { name: 'system:kube-scheduler', groups: ['system:masters', 'system:authenticated'] },
  nodes: { name: 'system:sim-nodes', groups: ['system:masters', 'system:authenticated'] },
};
