/**
 * Starts every controller on shared informers. What is running is this list; nothing registers itself.
 */
import type { Client } from '#client/client.ts';
import { InformerFactory, readYourWrites } from '#client/informer.ts';
import type { WorkQueueMetrics } from '#client/metrics.ts';
import type { WorkQueueStats } from '#client/work-queue.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { KeyPair } from '#base/x509.ts';
import { startAttributesClassProtection } from './attributes-class-protection.ts';
import { startBootstrapTokenCleaner } from './bootstrap-token-cleaner.ts';
import { startCertificateApprover } from './certificate-approver.ts';
import { startCertificateSigner } from './certificate-signer.ts';
import { startClusterRoleAggregation } from './clusterrole-aggregation.ts';
import { startCronJobController } from './cronjob.ts';
import { startDaemonSetController } from './daemonset.ts';
import { startDeploymentController } from './deployment.ts';
import { startDisruptionController } from './disruption.ts';
import { startEndpointsMirroring } from './endpoints-mirroring.ts';
import { startEndpointSliceController } from './endpointslice.ts';
import { startEphemeralVolumeController } from './ephemeral-volume.ts';
import { startGarbageCollector } from './garbage-collector.ts';
import { startHpaController } from './hpa.ts';
import { startJobController } from './job-controller.ts';
import { type AddressProvider, startLoadBalancerController } from './load-balancer.ts';
import { startNamespaceController } from './namespace.ts';
import { type PodRangeOptions, startNodeIpam } from './node-ipam.ts';
import { type Heartbeats, startNodeLifecycleController } from './node-lifecycle.ts';
import { startNodeRemoval } from './node-removal.ts';
import { startPodCollector } from './pod-collector.ts';
import { startPodCertificateCleaner } from './pod-certificate-cleaner.ts';
import { startReplicaSetController, startReplicationController } from './replicaset.ts';
import { startResourceQuotaController } from './resource-quota.ts';
import type { Controller, ControllerContext } from './runtime.ts';
import { startServiceAccountController } from './serviceaccount.ts';
import { startStatefulSetController } from './statefulset.ts';
import { startStorageMigrator } from './storage-migrator.ts';
import { startTokenSecrets } from './token-secrets.ts';
import { startTrustBundlePublisher } from './trust-bundle-publisher.ts';
import { startVolumeBinder } from './volume-binder.ts';

export interface ControllerOptions {
  /** The cluster's CA in PEM, published to every Namespace as `kube-root-ca.crt`. */
  rootCa?: string;
  /** The authority that signs approved certificate requests; without one none is signed. */
  signer?: KeyPair;
  /** Directory on each node for volumes of the StorageClass `local-path`; `/var/lib/tiphys/volumes` when absent. */
  volumeDirectory?: string;
  /** Addresses for Services of type LoadBalancer; the nodes' own when absent. */
  loadBalancerAddresses?: AddressProvider;
  /** From which nodes are given their ranges; without it none is. */
  podRange?: PodRangeOptions;
  /** How often each HorizontalPodAutoscaler looks at its metrics; 15 s when absent. */
  autoscalerPeriodMs?: number;
  /** How long nothing is heard of a node before it is taken for lost; 40 s when absent. */
  nodeGraceMs?: number;
  /** Signs of life of nodes beside their Leases. */
  heartbeats?: Heartbeats;
  /** Controllers not to start, by name. */
  disabled?: readonly string[];
}

export interface ControllersInput {
  client: Client;
  clock: Clock;
  random: Random;
  log: Logger;
  options?: ControllerOptions;
  queueMetrics?: (name: string) => WorkQueueMetrics;
  /** Shared with others of the process (the scheduler); made and owned when absent. */ informers?: InformerFactory;
}

export interface RunningControllers extends AsyncDisposable {
  /** Lengths and counts of every queue, for metrics and for the simulator's checkers. */
  queues(): WorkQueueStats[];
  /** Nothing is ready or under way in any queue (delayed keys may wait). */
  isIdle(): boolean;
  informers: InformerFactory;
}

const starters: Record<string, (context: ControllerContext, options: ControllerOptions) => Controller> = {
  serviceaccount: (context, options) => startServiceAccountController(context, options.rootCa ?? ''),
  deployment: startDeploymentController,
  replicaset: startReplicaSetController,
  endpointslice: startEndpointSliceController,
  namespace: startNamespaceController,
  'garbage-collector': startGarbageCollector,
  replicationcontroller: startReplicationController,
  statefulset: startStatefulSetController,
  daemonset: startDaemonSetController,
  job: startJobController,
  cronjob: startCronJobController,
  hpa: (context, options) => startHpaController(context, options.autoscalerPeriodMs),
  disruption: startDisruptionController,
  'resource-quota': startResourceQuotaController,
  'node-lifecycle': (context, options) =>
    startNodeLifecycleController(context, { heartbeats: options.heartbeats, graceMs: options.nodeGraceMs }),
  'node-removal': startNodeRemoval,
  'pod-collector': startPodCollector,
  'volume-binder': (context, options) =>
    startVolumeBinder(context, { directory: options.volumeDirectory ?? '/var/lib/tiphys/volumes', createClass: true }),
  'attributes-class-protection': startAttributesClassProtection,
  'ephemeral-volume': startEphemeralVolumeController,
  'load-balancer': (context, options) => startLoadBalancerController(context, options.loadBalancerAddresses),
  'clusterrole-aggregation': startClusterRoleAggregation,
  'endpoints-mirroring': startEndpointsMirroring,
  'storage-migrator': startStorageMigrator,
  'token-secrets': (context, options) => startTokenSecrets(context, options.rootCa ?? ''),
};

/** Resolves when every informer has listed once; controllers act from then on. */
export async function runControllers({
  client,
  clock,
  random,
  log,
  options = {},
  queueMetrics,
  informers: shared,
}: ControllersInput): Promise<RunningControllers> {
  const informers = shared ?? new InformerFactory({ client, clock, random, log });
  const context: ControllerContext = {
    client: readYourWrites(client, informers),
    informers,
    clock,
    random,
    log: log.child('controllers'),
    recorders: [],
    queueMetrics,
  };
  const controllers: Controller[] = [];
  for (const [name, start] of Object.entries(starters)) {
    if (options.disabled?.includes(name) !== true) controllers.push(start(context, options));
  }
  if (options.podRange !== undefined) controllers.push(startNodeIpam(context, options.podRange));
  if (options.signer !== undefined) {
    controllers.push(startCertificateApprover(context), startCertificateSigner(context, options.signer));
    controllers.push(startBootstrapTokenCleaner(context), startPodCertificateCleaner(context));
    if (options.rootCa !== undefined) controllers.push(startTrustBundlePublisher(context, options.rootCa));
  }
  const queues = controllers.flatMap((controller) => controller.queues);
  // A queue acts on a whole picture only: an owner that is merely not listed yet must not look gone.
  for (const queue of queues) queue.pause();
  informers.start();
  await informers.synced();
  for (const queue of queues) queue.resume();
  return {
    informers,
    queues: () => queues.map((queue) => queue.stats),
    isIdle: () => queues.every((queue) => queue.isIdle),
    async [Symbol.asyncDispose]() {
      for (const controller of controllers) controller.stop?.();
      await Promise.all(queues.map((queue) => queue.stop()));
      await Promise.all(context.recorders.map((recorder) => recorder.flush()));
      if (shared === undefined) await informers[Symbol.asyncDispose]();
    },
  };
}
