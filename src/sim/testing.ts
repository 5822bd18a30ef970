/**
 * The published entry point `tiphys/testing`: a whole cluster in one process, in virtual time. See `docs/testing.md`.
 */
export { Cluster, createCluster } from './cluster.ts';
export type { ClusterOptions } from './cluster-options.ts';
export { parseManifest } from './manifests.ts';
export { type Duration, durationMs } from './duration.ts';
export type { NodeOptions } from './sim-node.ts';
export type { ContainerContext, ExecResult, PodScript, ScriptRule, ScriptSource } from './pod-script.ts';
/** The API's types, by group: `Manifest<apps.Deployment>` is a manifest, `core.Pod` what the cluster has. */
export type * as admissionregistration from '#api/admissionregistration.v1.ts';
export type * as apiextensions from '#api/apiextensions.v1.ts';
export type * as apps from '#api/apps.v1.ts';
export type * as autoscaling from '#api/autoscaling.v2.ts';
export type * as batch from '#api/batch.v1.ts';
export type * as core from '#api/core.v1.ts';
export type * as discovery from '#api/discovery.v1.ts';
export type * as meta from '#api/meta.v1.ts';
export type * as networking from '#api/networking.v1.ts';
export type * as policy from '#api/policy.v1.ts';
export type * as rbac from '#api/rbac.v1.ts';
export type * as storage from '#api/storage.v1.ts';
export type { Manifest } from '#api/manifest.ts';
export type { KindRef, KubeList, KubeObject } from '#base/objects.ts';
export { kindOf, kinds } from '#base/kinds.ts';
export { runLeaderElection } from '#client/leader-election.ts';
export type { Client } from '#client/client.ts';
