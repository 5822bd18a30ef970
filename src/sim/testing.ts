/**
 * The published entry point `tiphys/testing`: a whole cluster in one process, in virtual time. See `docs/testing.md`.
 */
export { Cluster, type ClusterOptions, createCluster, parseManifest } from './cluster.ts';
export { type Duration, durationMs } from './duration.ts';
export type { NodeOptions } from './sim-node.ts';
export type { ContainerContext, ExecResult, PodScript, ScriptRule, ScriptSource } from './pod-script.ts';
export { kindOf, kinds } from '#client/kinds.ts';
export { runLeaderElection } from '#client/leader-election.ts';
export type { Client } from '#client/client.ts';
